"""Attack a case: infer labels, reconstruct images, and report it all in events.

`reconstruct` needs no ground truth, so it serves captured updates as well as scenarios. `runs.run` executes a scenario:
it observes a case, calls `reconstruct`, and has `scoring` attach scores.

>>> from deepleak_core.federated.case import observe
>>> from deepleak_core.scenario import Scenario
>>> case, truth = observe(Scenario(indices=(0, 4)))
>>> events = reconstruct(case, "general-deep-leakage", max_iterations=3)
>>> [type(event).__name__ for event in events if type(event).__name__ != "Snapshot"]
['UpdateShared', 'LabelsInferred', 'Stage', 'Finished']
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor

from deepleak_core.attack.attacks import Attack, attack_of
from deepleak_core.attack.clock import Clock
from deepleak_core.attack.exact import Progress
from deepleak_core.attack.repair import LONGEST, is_uncertain, search_and_repair
from deepleak_core.attack.reproducible import reproducible
from deepleak_core.attack.settings import changed
from deepleak_core.attack.settled import Solved
from deepleak_core.attack.snapshots import Snapshots
from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import (
    ASSUMPTION,
    Event,
    FeaturesSeparated,
    Finished,
    LabelsInferred,
    LabelsRevised,
    Reason,
    Stage,
    UpdateShared,
)
from deepleak_core.federated.case import Case, require_usable
from deepleak_core.labels.evidence import Knowledge, known_labels, labels_of
from deepleak_core.labels.mini_batches import short_batch
from deepleak_core.labels.strategies import infer_labels
from deepleak_core.labels.wrong_labels import WrongLabels
from deepleak_core.seeds import derive_seed
from deepleak_core.text import percent

SNAPSHOT_SECONDS = 0.125
SAMPLE_SIDE = 48  # side of the square of values that is drawn of an update
UNMOVED_STEPS = 10  # iterations after which a residual that never changed never will
GREW = 1e4  # factor by which a loss may grow before the attack counts as diverged
LABEL_SHARE = 0.5  # of the time limit that label inference may take

TIME_ENDED = " Label inference ended early, at its share of the time limit."

Stop = Callable[[], bool]


@reproducible
def reconstruct(
    case: Case,
    attack: str = "general-deep-leakage",
    settings: Any = None,
    *,
    labels: Sequence[int] | None = None,
    label_strategy: str | None = None,
    wrong_labels: WrongLabels | None = None,
    repair_labels: bool | None = None,
    seed: int = 0,
    max_seconds: float | None = None,
    stop: Stop = lambda: False,
    **changes: Any,
) -> Iterator[Event]:
    """Attack a case; yields `UpdateShared`, `LabelsInferred`, `Stage`, `Snapshot` ..., and `Finished` (see `events`).

    Args:
        case: the target model, the client's update and public facts.
        attack: a name in `ATTACKS`.
        settings: the attack's settings, its defaults if not given.
        labels: believed labels, one for each image in any order; inferred if not given.
        label_strategy: a name in `STRATEGIES`; the attack's own if not given.
        wrong_labels: labels to falsify after inference, to show what a wrong label does.
        repair_labels: whether wrong labels may be replaced during the attack; where counts are uncertain if not given.
        seed: determines everything random.
        max_seconds: limit of attack time, label inference included.
        stop: asked between iterations; once it returns True, the last snapshot and `Finished` follow.
        changes: single settings of the attack by name, such as `iterations=100`.

    Raises `UnsupportedScenario` for unknown names and `UnusableUpdate` for an update that reveals nothing.
    """
    require_usable(case)
    chosen = attack_of(attack)
    if "max_iterations" in changes:
        changes["iterations"] = changes.pop("max_iterations")
    settings = changed(chosen.settings if settings is None else settings, changes)
    yield _shared(case)
    clock, limit = Clock(), max_seconds or math.inf

    def over() -> bool:
        return stop() or clock.seconds > limit

    def inferring_over() -> bool:
        return stop() or clock.seconds > LABEL_SHARE * limit

    inferred = _infer(case, chosen, labels, label_strategy, seed, clock, inferring_over)
    inferred = falsified(inferred, wrong_labels, case.class_names, seed)
    inferred = replace(inferred, seconds=clock.seconds)
    with clock.paused():
        yield inferred
        yield Stage(
            name=chosen.title, sentence=chosen.opening.format(source=_what_was_shared(case)), seconds=inferred.seconds
        )
        for name, sentence in assumptions(case):
            yield Stage(name=name, sentence=sentence, remark=True, seconds=inferred.seconds)
    repairs = chosen.repairs and not inferred.falsified and is_uncertain(inferred)
    repairs = repairs if repair_labels is None else repair_labels

    def search(believed: Sequence[int]) -> Iterator[Progress]:
        return chosen.reconstruct(case, believed, settings, seed=seed, stop=over)

    progress: Iterator[Progress | LabelsRevised] = search(inferred.order)
    if repairs:
        knowledge = _knowledge(case, seed, over)
        progress = search_and_repair(search, knowledge, inferred.order, case.class_names)
    extra = LONGEST if repairs and "iterations" not in changes else 0
    yield from _watch(progress, case, inferred, clock, Limits(limit, settings.iterations + extra, stop))


def _shared(case: Case) -> UpdateShared:
    update, gradient = case.update, case.gradient
    return UpdateShared(
        mode=update.mode,
        batch_size=update.batch_size,
        local_steps=update.local_steps,
        layers=tuple(gradient),
        sizes=tuple(t.numel() for t in gradient.values()),
        norms=tuple(float(t.norm()) for t in gradient.values()),
        bytes=sum(t.numel() * t.element_size() for t in update.tensors.values()),
        sample=_sampled(list(gradient.values())),
    )


def _sampled(gradient: Sequence[Tensor]) -> tuple[int, ...]:
    """Values from all over a gradient, see `UpdateShared.sample`."""
    ends = list(accumulate((layer.numel() for layer in gradient), initial=0))
    side = min(SAMPLE_SIDE, math.isqrt(ends[-1]))
    places = torch.linspace(0, ends[-1] - 1, side * side, dtype=torch.float64).long()
    levels: list[int] = []
    for layer, start, end in zip(gradient, ends, ends[1:], strict=False):
        own = places[(places >= start) & (places < end)] - start
        values = layer.detach().flatten()[own.to(layer.device)].double().cpu()
        scale = float(layer.norm()) / max(1, layer.numel()) ** 0.5 or 1.0
        levels += (128 + 127 / 3 * (values / scale).nan_to_num()).round().clamp(0, 255).int().tolist()
    return tuple(levels)


def _what_was_shared(case: Case) -> str:
    steps = case.update.local_steps
    return f"the update of {steps} local step{'s' * (steps != 1)}" if case.update.local else "the shared gradient"


# --------------------------------------------------------------------------------------------------------- labels


def _knowledge(case: Case, seed: int, stop: Stop) -> Knowledge:
    return Knowledge(case=case, seed=derive_seed(seed, "labels"), stop=stop)


def _infer(
    case: Case,
    attack: Attack,
    labels: Sequence[int] | None,
    strategy: str | None,
    seed: int,
    clock: Clock,
    stop: Stop,
) -> LabelsInferred:
    """Infer label counts by a strategy, or take over the labels that were given."""
    if labels is not None:
        name, found = "true", known_labels(torch.tensor(labels), len(case.class_names))
    else:
        name = strategy or attack.label_strategy
        found = infer_labels(case, name, seed=derive_seed(seed, "labels"), stop=stop)
    uneven = short_batch(case.update.batch_size, case.update.local) > 0
    return LabelsInferred(
        strategy=name,
        evidence=tuple(found.evidence.tolist()),
        real_counts=tuple(found.real_counts.tolist()),
        counts=tuple(found.counts.tolist()),
        order=tuple(labels_of(found.counts)),
        falsified=(),
        certified=found.certified,
        confidence=() if found.confidence is None or uneven else tuple(found.confidence.tolist()),
        note=found.note + (TIME_ENDED if labels is None and stop() else ""),
        seconds=clock.seconds,
    )


def falsified(
    inferred: LabelsInferred, wrong: WrongLabels | None, class_names: Sequence[str], seed: int
) -> LabelsInferred:
    """Inferred labels with some made wrong on purpose."""
    if wrong is None:
        return inferred
    order, places = wrong.applied(inferred.order, class_names, seed=derive_seed(seed, "wrong labels"))
    return replace(inferred, order=tuple(order), falsified=places)


def assumptions(case: Case) -> list[tuple[str, str]]:
    """What an attack on this case takes for granted of the mini-batches: a title and a sentence each.

    `ASSUMPTION` is the title only where the server does not know which images are in which of them.
    """
    local, images = case.update.local, case.update.batch_size
    if local is None or local.batch_size >= images:
        return []
    if local.order == "known":
        known = "The client goes through its images class by class in every epoch, and the server knows it."
        stages = [("Known order", known)]
    else:
        secret = (
            "The client shuffles its images in every epoch and keeps the order secret. Simulated steps "
            "use the mean over all images, so they cannot match the update exactly."
        )
        stages = [(ASSUMPTION, secret)]
    if short := short_batch(images, local):
        uneven = (
            f"The last mini-batch holds {short} image{'s' * (short > 1)} instead of {local.batch_size}; each weighs "
            "more in the update. The attack guesses which images these are, so label counts are uncertain."
        )
        stages.append(("Short mini-batch", uneven))
    return stages


# --------------------------------------------------------------------------------------------- watching the attack


@dataclass(frozen=True)
class Limits:
    """When a run ends: after so many `seconds` of attack time or `iterations`, or once `stop` returns True."""

    seconds: float
    iterations: int
    stop: Stop

    def reached(self, iterate: Iterate, seconds: float, solved: Solved) -> Reason | None:
        """Why the run ends at this iterate after `seconds`, None where it goes on."""
        if self.stop():
            return "stopped"
        if seconds > self.seconds:
            return "seconds"
        if solved.reached(iterate):
            return "converged"
        return "iterations" if iterate.progress >= 1 or iterate.step >= self.iterations else None


def trouble(iterate: Iterate, first: Iterate) -> tuple[Reason, str] | None:
    """Why an attack cannot go on, as (reason, sentence with what to change), or None."""
    if not (math.isfinite(iterate.loss) and math.isfinite(iterate.gradient)):
        return "diverged", (
            f"The attack diverged: its loss became {iterate.loss} at iteration {iterate.step}. "
            "Lower the learning rate or choose another attack."
        )
    if iterate.loss > GREW * max(first.loss, 1.0):
        return "diverged", (
            f"The attack diverged: its loss grew from {first.loss:.2g} to {iterate.loss:.2g}. "
            "Lower the learning rate or choose another attack."
        )
    # Priors move pixels in any case: only a residual that stays the same to the last bit shows a vanished gradient.
    unmoved = iterate.step >= UNMOVED_STEPS > iterate.step - iterate.since and torch.equal(
        iterate.residuals, first.residuals
    )
    if unmoved or (iterate.step == 0 and iterate.gradient == 0):
        return "vanished", (
            "The attack makes no progress: the update does not depend on the pixels, its gradient is zero. "
            "Choose a model with smooth activations, or another training stage or seed."
        )
    return None


def _watch(
    progress: Iterator[Progress | LabelsRevised], case: Case, inferred: LabelsInferred, clock: Clock, limits: Limits
) -> Iterator[Event]:
    """Cut iterates into snapshots by time, end the run when it is over, and report the outcome.

    Iterations are counted through all stages of the attack. Revised labels replace the inferred ones. The outcome is
    the last iterate, unless the attack ends while it tries labels that are worse: then it is the best one.
    """
    ended: Reason | None = None
    sentence, order, first = "", inferred.order, None
    solved, certified = Solved(case), False
    best = pending = None
    coming = Snapshots(case)
    shown, step = -math.inf, 0
    for item in progress:
        if not isinstance(item, Iterate):
            if isinstance(item, LabelsRevised):
                order, first, best = item.order, None, None
            with clock.paused():
                yield from coming.all()
                yield _stamped(item, step, clock.seconds)
            continue
        step += item.since
        pending = iterate = replace(item, step=step - 1, labels=item.labels or order)
        first, certified = first or iterate, iterate.certified
        if best is None or iterate.residual < best.residual:
            best = replace(iterate, inputs=iterate.inputs.clone())
        ended, sentence = trouble(iterate, first) or (limits.reached(iterate, clock.seconds, solved), "")
        if ended or clock.seconds - shown >= SNAPSHOT_SECONDS:
            shown, pending, last = clock.seconds, None, iterate
            coming.take(iterate, shown, 1.0 if ended else min(1.0, max(iterate.progress, shown / limits.seconds)))
        with clock.paused():
            yield from coming.arrived()
        if ended:
            break
    seconds = clock.seconds
    if pending is not None:
        last = pending
        coming.take(last, seconds, 1.0)
    if best is not None and best.labels != last.labels and best.residual < last.residual:
        last = replace(best, step=last.step)
        coming.take(last, seconds, 1.0)
    yield from coming.all()
    yield Finished(
        reason=ended or "converged",
        sentence=sentence or _what_came_out(last.residual, certified),
        certified=certified,
        step=last.step,
        seconds=seconds,
        residual=last.residual,
    )


def _what_came_out(residual: float, certified: bool) -> str:
    """The outcome without a ground truth."""
    if certified:
        return "Exact copies, certified without the ground truth: as 8-bit images they reproduce the whole update."
    return f"No ground truth: {percent(residual)} of the update is not matched."


def _stamped(event: Stage | LabelsRevised | FeaturesSeparated, step: int, seconds: float) -> Event:
    """An event of the attack with its step and its time, which the attack itself does not know."""
    if isinstance(event, FeaturesSeparated):
        return replace(event, seconds=seconds)
    return replace(event, step=step, seconds=seconds)
