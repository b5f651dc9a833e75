"""Gradient matching: search images whose simulated update equals the shared one.

Two images with the same believed label play the same part in the update, so where they start from the same point their
gradients are equal in every iteration, and they end as one picture: the blend of their class. From different points
they share its content between them and look like noise, whose mean is the same blend. A term that tells them apart ends
this symmetry: separated features, or the mini-batches of a simulated FedAvg round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepleak_core.attack.objectives import DISTANCES, Matching
from deepleak_core.attack.prior import Term
from deepleak_core.attack.priors import PRIORS
from deepleak_core.attack.settings import setting
from deepleak_core.attack.settled import until_still
from deepleak_core.attack.solvers import SCHEDULES, SOLVERS, Iterate
from deepleak_core.errors import CannotSeparate, NotSeparated
from deepleak_core.events import Stage
from deepleak_core.features.factors import factors_of
from deepleak_core.features.separate import SeparatedFeatures, separate_features
from deepleak_core.federated.case import Case
from deepleak_core.scenario import FEDAVG_METHODS, FedAvgMethod
from deepleak_core.seeds import derive_seed

Weighted = tuple[tuple[str, float], ...]  # names of priors with their weights
STARTS = ("shared", "independent")


@dataclass(frozen=True, kw_only=True)
class MatchingSettings:
    """Settings of an attack by gradient matching."""

    solver: str = setting("signed-adam", "how the objective is minimised", choices=tuple(SOLVERS))
    distance: str = setting("cosine", "distance between simulated and shared update", choices=tuple(DISTANCES))
    iterations: int = setting(400, "iterations at most", least=1, most=10**6)
    learning_rate: float | None = setting(0.1, "attack step", above=0, most=10)
    schedule: str | None = setting("steps", "how the attack step falls", choices=tuple(SCHEDULES))
    restarts: int = setting(1, "starting points", least=1, most=16)
    start: str = setting("shared", "whether images that share a believed label start from one point", choices=STARTS)
    feature_weight: float = setting(0.0, "weight of the distance from the separated features", least=0, most=100)
    fedavg: FedAvgMethod = setting("averaged", "how a FedAvg update is read", choices=tuple(FEDAVG_METHODS))
    priors: Weighted = ()


def match_update(
    case: Case,
    believed: Sequence[int],
    settings: MatchingSettings,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Stage | Iterate]:
    """Reconstruct images from noise by minimising the distance of the updates, under believed labels.

    Iterates are inputs (R, B, C, H, W) as the first layer sees them; they end early where nothing moves any more (see
    `settled`). Deterministic for a fixed seed.
    """
    labels = torch.tensor(believed, device=case.device)
    features = None
    if settings.feature_weight:
        try:
            features = separated_features(case, labels, seed=seed, stop=stop).features.to(case.model.mean)
            yield Stage(name="Features separated", sentence="The separated features are matched as well.")
        except (CannotSeparate, NotSeparated) as reason:
            yield Stage(name="Features not separated", sentence=f"No feature term: {reason}", remark=True)
    objective = Matching(
        case=case,
        labels=labels,
        distance=settings.distance,
        priors=terms(case, settings.priors),
        features=features,
        feature_weight=settings.feature_weight,
        fedavg=settings.fedavg,
        restarts=settings.restarts,
    )
    if objective.remark is not None:
        yield objective.remark
    search = SOLVERS[settings.solver].minimise(
        objective,
        starting_points(case, believed, settings.restarts, settings.start, seed=seed),
        low=case.model.low,
        high=case.model.high,
        iterations=settings.iterations,
        learning_rate=settings.learning_rate,
        stop=stop,
        schedule=SCHEDULES[settings.schedule or "steps"],
    )
    yield from until_still(search, case)


def starting_points(case: Case, believed: Sequence[int], restarts: int, start: str, *, seed: int) -> Tensor:
    """Starting points (R, B, C, H, W): noise of its own for each image, or for each believed label where `shared`.

    A label that does not repeat starts from the same noise either way.
    """
    own = noise(case, restarts, seed=seed)
    return own[:, [believed.index(label) for label in believed]] if start == "shared" else own


def noise(case: Case, restarts: int, *, seed: int) -> Tensor:
    """Gaussian starting points (R, B, C, H, W)."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "attack"))
    shape = (restarts, case.update.batch_size, *case.image_shape)
    return torch.randn(*shape, generator=generator).to(case.model.mean)


def terms(case: Case, priors: Weighted) -> list[tuple[float, Term]]:
    """The priors that have something to say about this case, with their weights."""
    made = [(weight, PRIORS[name].term(case)) for name, weight in priors if weight]
    return [(weight, term) for weight, term in made if term is not None]


def separated_features(case: Case, labels: Tensor, *, seed: int, stop: Callable[[], bool]) -> SeparatedFeatures:
    """One feature vector per image from the last layer's gradient, given believed labels (B,).

    Raises `CannotSeparate` or `NotSeparated`.
    """
    counts = torch.bincount(labels.cpu(), minlength=case.model.head.out_features)
    return separate_features(factors_of(case), counts, seed=derive_seed(seed, "disaggregation"), stop=stop)
