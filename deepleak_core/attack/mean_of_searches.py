"""Search several times from different noise, and show the mean of what was found.

A deep network with pooling leaves much of an image almost undetermined: searches from different noise match the update
about equally well and differ in what the noise left behind. With errors e_n of equal size and correlation rho, the mean
of N searches has the mean squared error (rho + (1 - rho) / N) |e|^2, so it is closer to the image than any of them.

GradInversion (Yin et al. 2021) draws several searches towards their mean while they run. Here they are independent, one
after the other, and only what is shown is the mean: a search costs the others nothing, and the first one can be seen as
early as any other attack's. A search that is under way counts as soon as it matches the update as well as one that is
complete, so that little is lost where the time ends before it does.

What the noise left behind is mostly fine, and photos are mostly coarse. So the mean is blurred a little: what it loses
in details is less than what it loses in noise.

Searches are averaged image by image. Images that share a believed label have no order that searches could agree on; the
mean of theirs is the blend of the class, as in any gradient matching.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

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
    blur: float = setting(1.5, "standard deviation in pixels of the blur of what is shown", least=0, most=8)


def match_on_average(
    case: Case,
    believed: Sequence[int],
    settings: MeanSettings,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Stage | Iterate]:
    """Reconstruct images as the mean of searches by gradient matching, under believed labels.

    The first search is yielded as it goes. From then on an iterate holds the blurred mean (1, B, C, H, W) of all
    searches that are complete, and of the one under way once its residual is as low as one of theirs was. Deterministic
    for a fixed seed.
    """
    labels = torch.tensor(believed, device=case.device)
    objective = Matching(case=case, labels=labels, distance=settings.distance, fedavg=settings.fedavg)
    found: list[Tensor] = []
    shown: Iterate | None = None
    spent, reached = 0, 0.0

    def mean_with(last: Iterate) -> Iterate:
        own = last.inputs[last.best]
        mean = blurred(torch.stack([*found, own]).mean(0), settings.blur)
        residual = torch.tensor([objective.residual(mean)], device=mean.device)
        return replace(last, inputs=mean[None], residuals=residual, progress=min(1.0, spent / settings.iterations))

    while spent < settings.iterations and not stop():
        own = replace(settings, iterations=min(settings.each, settings.iterations - spent))
        last: Iterate | None = None
        for item in match_update(case, believed, own, seed=_seed_of(seed, len(found)), stop=stop):
            if isinstance(item, Iterate):
                last, begins = replace(item, inputs=item.inputs.clone()), item.step == 0
                spent += 0 if begins else item.since
                if found and item.residual <= reached:
                    shown = mean_with(item)
                if item.progress < 1 and not (begins and found):
                    yield replace(shown or item, progress=spent / settings.iterations, since=item.since)
            elif not found:
                yield item
        assert last is not None, "a search yields its starting point"
        if last.progress < 1:  # it ended early, and its mean is one more iterate
            last, spent = replace(last, since=1), spent + 1
        shown = mean_with(last)
        found.append(last.inputs[last.best])
        reached = max(reached, last.residual)
        yield shown


def blurred(images: Tensor, deviation: float) -> Tensor:
    """Images (B, C, H, W) after a Gaussian blur; their borders are continued.

    >>> [round(value, 2) for value in blurred(torch.eye(5)[None, None], 0.5)[0, 0, 2].tolist()]
    [0.01, 0.17, 0.64, 0.17, 0.01]
    """
    if deviation == 0:
        return images
    reach = min(math.ceil(3 * deviation), min(images.shape[-2:]))
    weights = torch.arange(-reach, reach + 1, device=images.device).div(deviation).square().div(-2).softmax(0)
    planes = pad(images.flatten(0, 1)[:, None], (reach, reach, reach, reach), mode="replicate")
    down = conv2d(planes, weights[None, None, :, None])
    return conv2d(down, weights[None, None, None, :]).view_as(images)


def _seed_of(seed: int, search: int) -> int:
    """The seed of a search; the first one is that of plain gradient matching with the same settings."""
    return derive_seed(seed, f"search {search}") if search else seed
