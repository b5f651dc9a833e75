"""The exact attack: separate the batch into features, peel off layers, and solve for the pixels.

Steps, each announced by a `Stage` event: (1) feature separation gives the features of every image, (2) peeling solves
for the inputs of each layer by linear algebra, (3) Levenberg-Marquardt finds the pixels that give what is known, image
by image, (4) L-BFGS matches the full update and the features, and images that are nearly solved are rounded to 8 bits.
Steps that a network or an update does not allow are skipped, and the event says why.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from deepleak_core.attack.bounds import most_images
from deepleak_core.attack.grid import NEAR, refine_on_grid, to_grid
from deepleak_core.attack.matching import noise, separated_features, terms
from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.peeling import Peeled, chain, peel
from deepleak_core.attack.pixels import ChainEquations
from deepleak_core.attack.rounds import CorrectedGradient
from deepleak_core.attack.settings import setting
from deepleak_core.attack.settled import Unchanged, until_still
from deepleak_core.attack.solvers import SOLVERS, Iterate, levenberg_marquardt
from deepleak_core.errors import CannotSeparate, NotSeparated
from deepleak_core.events import FeaturesSeparated, Stage
from deepleak_core.features.factors import Factors
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.separate import SeparatedFeatures, features_near
from deepleak_core.federated.activations import has_kinks
from deepleak_core.federated.case import Case
from deepleak_core.scenario import FEDAVG_METHODS, FedAvgMethod

EXPLAINED = 1e-9  # squared relative residual at which a float32 update is matched down to its rounding
UNCHANGED = 12  # iterations without a change of any 8-bit pixel value after which the search ends
GRID_PAUSE = 10.0  # factor by which the residual falls before the 8-bit grid is tried again
PIXEL_ITERATIONS = 60  # of Levenberg-Marquardt over the pixels
POLISHING = 8  # likewise, near an iterate whose equations hold approximately
APPROXIMATE, GAINING = 1e-7, 0.9  # cost at which that search ends, and share of the cost that a step may leave

Progress = Stage | FeaturesSeparated | Iterate

_CERTIFIED = Stage(
    name="Exact copy certified",
    sentence="Rounded to 8-bit values, the images reproduce the whole update to rounding: an exact copy, certified "
    "without the ground truth.",
)


@dataclass(frozen=True, kw_only=True)
class ExactSettings:
    """Settings of the exact attack; all but `iterations` concern its last step, the search over the full update."""

    iterations: int = setting(600, "iterations of the last step at most", least=1, most=10**6)
    total_variation: float = setting(1e-3, "weight of the smoothness prior where kinks call for Adam", least=0, most=10)
    feature_weight: float = setting(1.0, "weight of the distance from the separated features", least=0, most=100)
    fedavg: FedAvgMethod = setting("corrected", "how a FedAvg update is read", choices=tuple(FEDAVG_METHODS))


def reconstruct_exactly(
    case: Case,
    believed: Sequence[int],
    settings: ExactSettings,
    *,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Progress]:
    """Reconstruct images (1, B, C, H, W) in the order of the believed labels, which ascend."""
    labels = torch.tensor(believed, device=case.device)
    found = None
    try:
        found = _features(case, labels, seed, stop)
    except (CannotSeparate, NotSeparated) as reason:
        yield Stage(name="Features not separated", sentence=f"{reason}", remark=True)
    solved = None
    if found is not None:
        yield Stage(name="Features separated", sentence=_what_separated(found))
        yield _separated(found)
        for progress in _pixels_from_layers(case, labels, found, stop):
            if isinstance(progress, Iterate):
                solved = progress
            yield progress
    if solved is None or solved.residual > EXPLAINED:
        inputs = None if solved is None else solved.inputs[0]
        yield Stage(name="Full update matched", sentence="Pixels are adjusted until the whole update matches.")
        yield from _match_all(case, labels, inputs, found, settings, seed=seed, stop=stop)


def _features(case: Case, labels: Tensor, seed: int, stop: Callable[[], bool]) -> SeparatedFeatures:
    """One feature vector per image. Raises `CannotSeparate` or `NotSeparated`."""
    if (steps := case.update.local_steps) > 1:
        raise CannotSeparate(
            f"The update is the sum of {steps} local steps, each at other weights. It holds no single gradient to "
            "separate, so the attack simulates the steps."
        )
    return separated_features(case, labels, seed=seed, stop=stop)


def _pixels_from_layers(
    case: Case, labels: Tensor, found: SeparatedFeatures, stop: Callable[[], bool]
) -> Iterator[Stage | Iterate]:
    """Peel off layers, then solve for the pixels behind what is left, each image by itself."""
    links = chain(case.model, case.image_shape)
    if isinstance(links, str):
        yield Stage(name="No invertible chain", sentence=links, remark=True)
        return
    peeled = peel(case.model, case.gradient, found, links)
    equations = ChainEquations.of(peeled, case.model.mean.dtype)
    if (missing := _equations_missing(equations, math.prod(case.image_shape))) is not None:
        bound = most_images(case.model, case.image_shape)
        yield Stage(name="Too few equations", sentence=f"{missing} {bound.sentence}", remark=True)
        return
    yield Stage(name="Pixels from layers", sentence=_what_peeled(peeled))
    objective = Matching(case=case, labels=labels, distance="squared-l2")
    iterate = None
    for found_alone in levenberg_marquardt(
        equations,
        torch.zeros(len(labels), *case.image_shape).to(case.model.mean),
        low=case.model.low,
        high=case.model.high,
        iterations=PIXEL_ITERATIONS,
        snap=partial(to_grid, case.model),
        stop=stop,
    ):
        iterate = _of_batch(found_alone, objective.residual(found_alone.inputs))
        yield iterate
    assert iterate is not None, "the solver yields its start"
    if iterate.residual < NEAR and (copy := refine_on_grid(objective, iterate, stop=stop)) is not None:
        yield _CERTIFIED
        yield copy


def _match_all(
    case: Case,
    labels: Tensor,
    inputs: Tensor | None,
    found: SeparatedFeatures | None,
    settings: ExactSettings,
    *,
    seed: int,
    stop: Callable[[], bool],
) -> Iterator[Stage | Iterate]:
    """Match the whole update from where the earlier steps ended, until the images are exact or no pixel changes.

    L-BFGS needs a smooth loss; starting from noise, a network with kinks (ReLU, pooling) is left to signed Adam.
    """
    by_adam = inputs is None and has_kinks(case.model)
    objective = Matching(
        case=case,
        labels=labels,
        distance="cosine" if by_adam else "squared-l2",
        features=None if found is None else found.features.to(case.model.mean),
        feature_weight=settings.feature_weight,
        priors=terms(case, (("total-variation", settings.total_variation),)) if by_adam else (),
        fedavg=settings.fedavg,
    )
    unchanged, tried = Unchanged(case), NEAR
    if objective.remark is not None:
        yield objective.remark
    search = SOLVERS["signed-adam" if by_adam else "lbfgs"].minimise(
        objective,
        noise(case, 1, seed=seed) if inputs is None else inputs[None],
        low=case.model.low,
        high=case.model.high,
        iterations=settings.iterations,
        learning_rate=0.1 if by_adam else None,
        stop=stop,
    )
    for iterate in until_still(search, case):
        yield iterate
        if isinstance(iterate, Stage):
            continue
        if objective.distance == "squared-l2" and iterate.residual < tried:
            tried = iterate.residual / GRID_PAUSE
            if (copy := _copy_near(objective, iterate, stop)) is not None:
                yield _CERTIFIED
                yield copy
                return
        if unchanged.steps(iterate) >= UNCHANGED:
            return


def _copy_near(objective: Matching, iterate: Iterate, stop: Callable[[], bool]) -> Iterate | None:
    """An exact copy near an iterate, None where none is found; the objective is left as it was."""
    copy, corrected = None, objective.corrected
    if corrected is not None and corrected.one_batch:
        with objective.kept():
            copy = _copy_from_layers(objective, corrected, iterate, stop)
    return copy or refine_on_grid(objective, iterate, stop=stop)


def _copy_from_layers(
    objective: Matching, corrected: CorrectedGradient, iterate: Iterate, stop: Callable[[], bool]
) -> Iterate | None:
    """An exact copy near an iterate of a FedAvg update, by solving the layers of its corrected gradient.

    Where every step sees the whole batch, the correction is nearly right there, so what it leaves of the update is
    nearly the gradient of one batch midway, and layers are solved as those of a shared gradient are. None where that
    ends in no exact copy.
    """
    case, labels = objective.case, objective.labels
    if isinstance(links := chain(corrected.midway_model, case.image_shape), str):
        return None
    objective.renew(iterate.inputs, 0)
    model, gradient = corrected.midway_model, corrected.remainder(0, objective.target)
    counts = torch.bincount(labels.cpu(), minlength=len(case.class_names))
    try:
        factors = Factors.of(LastLayer.of(model, gradient), len(labels))
        with torch.no_grad():
            found = features_near(factors, counts, model.body(iterate.inputs[0]))
    except CannotSeparate:
        return None
    equations = ChainEquations.of(peel(model, gradient, found, links), model.mean.dtype)
    if _equations_missing(equations, math.prod(case.image_shape)) is not None:
        return None
    pixels, cost = iterate.inputs[0], math.inf
    for alone in levenberg_marquardt(
        equations, pixels, low=model.low, high=model.high, iterations=POLISHING, stop=stop
    ):
        if alone.loss > GAINING * cost:
            break
        pixels, cost = alone.inputs, alone.loss
        if cost < APPROXIMATE:
            break
    return refine_on_grid(objective, replace(iterate, inputs=pixels[None]), stop=stop)


def _equations_missing(equations: ChainEquations, unknown: int) -> str | None:
    """Why the known layer outputs do not determine the `unknown` values of an image, or None when they do."""
    counts = torch.stack([known.equal.flatten(1).sum(1) for known in equations.known.values()])
    fewest = int(counts.sum(0).min())
    if fewest >= unknown:
        return None
    return f"{fewest} layer outputs are known of an image of {unknown} values, too few to solve for it."


def _separated(found: SeparatedFeatures) -> FeaturesSeparated:
    means = torch.stack([found.features[found.labels == label].mean(0) for label in found.labels])
    return FeaturesSeparated(
        labels=tuple(found.labels.tolist()),
        before=tuple(_similarity(means).flatten().tolist()),
        after=tuple(_similarity(found.features).flatten().tolist()),
        errors=tuple(found.errors.tolist()),
        singular_values=tuple(found.singular_values[: len(found.labels) + 1].tolist()),
        misfit=found.misfit,
        seconds=0.0,
    )


def _similarity(features: Tensor) -> Tensor:
    unit = features / features.norm(dim=1, keepdim=True)
    similarity: Tensor = unit @ unit.T
    return similarity


def _what_separated(found: SeparatedFeatures) -> str:
    images = len(found.labels)
    per_class = Counter(found.labels.tolist())
    shared = sum(count for count in per_class.values() if count > 1)
    what = f"The last layer's gradient was separated into {images} feature vectors"
    some = "all" if shared == images else f"{shared} of them"
    what += f", {some} of images that share a label" if shared else ""
    certified = (
        "The label counts are certified" if found.clear else "An image is lost in rounding, so nothing is certified"
    )
    return f"{what}; estimated error {float(found.errors.max()):.0e}. {certified}."


def _what_peeled(peeled: Peeled) -> str:
    solved = len(peeled.solved)
    layers = {0: "No layer was", 1: "One layer was", 2: "Two layers were"}.get(solved, f"{solved} layers were")
    return f"{layers} solved by linear algebra; Levenberg-Marquardt finds the pixels from the others, image by image."


def _of_batch(iterate: Iterate, residual: float) -> Iterate:
    """An iterate of independent problems as one of the batch, with the residual of the whole update."""
    progress = min(iterate.progress, 0.99)
    return replace(iterate, inputs=iterate.inputs[None], residuals=torch.tensor([residual]), progress=progress)
