"""Search several times from different noise, and show the mean of what was found.

A deep network with pooling leaves much of an image almost undetermined: searches from different noise match the update
about equally well and differ in what the noise left behind. With errors e_n of equal size and correlation rho, the mean
of N searches has the mean squared error (rho + (1 - rho) / N) |e|^2, so it is closer to the image than any of them.

GradInversion (Yin et al. 2021) draws several searches towards their mean while they run. Here they are independent, one
after the other, and only what is shown is the mean: a search costs the others nothing, and the first one can be seen as
early as any other attack's.

Searches are averaged image by image. Images that share a believed label have no order that searches could agree on; the
mean of theirs is the blend of the class, as in any gradient matching.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from deepleak_core.attack.matching import MatchingSettings, match_update
from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.settings import setting
from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import Stage
from deepleak_core.federated.case import Case
from deepleak_core.seeds import derive_seed


@dataclass(frozen=True, kw_only=True)
class MeanSettings(MatchingSettings):
    """Settings of gradient matching, which hold for each search; `iterations` are those of all together."""

    each: int = setting(200, "iterations of one search", least=1, most=10**6)


def match_on_average(
    case: Case,
    believed: Sequence[int],
    settings: MeanSettings,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Stage | Iterate]:
    """Reconstruct images as the mean of searches by gradient matching, under believed labels.

    The first search is yielded as it goes. From then on an iterate holds the mean (1, B, C, H, W) of all searches that
    are complete, and changes when another one is. Deterministic for a fixed seed.
    """
    labels = torch.tensor(believed, device=case.device)
    objective = Matching(case=case, labels=labels, distance=settings.distance, fedavg=settings.fedavg)
    found: list[Tensor] = []
    shown: Iterate | None = None
    spent = 0
    while spent < settings.iterations and not stop():
        own = replace(settings, iterations=min(settings.each, settings.iterations - spent))
        last: Iterate | None = None
        for item in match_update(case, believed, own, seed=_seed_of(seed, len(found)), stop=stop):
            if isinstance(item, Iterate):
                last, begins = replace(item, inputs=item.inputs.clone()), item.step == 0
                spent += 0 if begins else item.since
                if item.progress < 1 and not (begins and found):
                    yield replace(shown or item, progress=spent / settings.iterations, since=item.since)
            elif not found:
                yield item
        assert last is not None, "a search yields its starting point"
        if last.progress < 1:  # it ended early, and its mean is one more iterate
            last, spent = replace(last, since=1), spent + 1
        found.append(last.inputs[int(last.residuals.argmin())])
        mean = torch.stack(found).mean(0)
        residual = torch.tensor([objective.residual(mean)], device=mean.device)
        shown = replace(last, inputs=mean[None], residuals=residual, progress=min(1.0, spent / settings.iterations))
        yield shown


def _seed_of(seed: int, search: int) -> int:
    """The seed of a search; the first one is that of plain gradient matching with the same settings."""
    return derive_seed(seed, f"search {search}") if search else seed
