"""Accuracy of label inference: every strategy on the same updates, on one batch or on many.

>>> trials = list(label_trials(Scenario(indices=(4, 5, 7, 19)), repeats=2))
>>> scores = label_scores(trials)
>>> scores["zero-shot"].exact_rate, scores["gradinversion"].instance_accuracy
(1.0, 0.25)

A `Study` is the task that the engine gives to a worker (`runs.tasks`).
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor

from deepleak_core.data import datasets
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import Event, LastLayerRead, Scored, StrategyAnswered
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import choose_device, observe_model, target_model
from deepleak_core.federated.preparation import prepare
from deepleak_core.labels import strategies as labels
from deepleak_core.labels.evidence import InferredLabels
from deepleak_core.runs.checks import check
from deepleak_core.scenario import Composition, Scenario

BATCH_SIZES = (1, 2, 4, 8, 16, 32)
SHOWN_IN_STEPS = "zero-shot"  # the strategy whose intermediate values are reported
SLOWEST = "verified"  # runs last, so that the other answers do not wait for it
OF_THE_UPDATE = (
    "dataset", "images", "image_size", "indices", "labels", "batch_size", "composition", "model", "stage", "head_bias",
    "batchnorm", "mode", "local_epochs", "local_batch_size", "local_lr", "local_momentum", "local_order",
    "seed", "device",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LabelTrial:
    """One strategy on one batch: what it `found`, the true counts (C,), and the seconds that it took."""

    strategy: str
    found: InferredLabels
    true_counts: Tensor
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """The accuracy of a strategy over its trials. All values but `seconds` are in [0, 1].

    Attributes:
        exact_rate: share of batches whose label counts are all right.
        instance_accuracy: mean share of a batch's labels that were found, counted with multiplicity.
        presence_accuracy: share of classes that were rightly said to be in the batch, or not to be in it.
        proven_rate: share of batches whose counts the strategy calls certified.
        wrongly_proven: share of batches whose counts are called certified and are wrong.
        seconds: mean time of one inference.
    """

    exact_rate: float
    instance_accuracy: float
    presence_accuracy: float
    proven_rate: float
    wrongly_proven: float
    seconds: float


def label_trials(
    scenario: Scenario, *, repeats: int = 1, first: int = 0, stop: Callable[[], bool] = lambda: False
) -> Iterator[LabelTrial]:
    """Try every strategy on `repeats` draws of the scenario's batch, from the `first` draw on.

    The target model is built once. Where the scenario names its images, the batch is the same in every draw, and only
    the noise that some strategies use differs. Raises what `runs.run.run` raises before it starts.
    """
    check(scenario)
    for _ in prepare(scenario):
        pass
    model = target_model(scenario).to(choose_device(scenario))
    for draw in range(first, first + repeats):
        case, truth = observe_model(model, scenario, draw=draw)
        true_counts = torch.bincount(truth.labels, minlength=len(truth.class_names))
        for strategy in sorted(labels.STRATEGIES, key=SLOWEST.__eq__):
            began = time.perf_counter()
            found = labels.infer_labels(
                case,
                strategy,
                seed=scenario.seed_for("labels") + draw,
                stop=stop,
            )
            found = replace(found, counts=found.counts.cpu())  # waits for the device, so that all its time counts
            seconds = time.perf_counter() - began
            yield LabelTrial(strategy=strategy, found=found, true_counts=true_counts, seconds=seconds)


def label_scores(trials: Sequence[LabelTrial]) -> dict[str, LabelScore]:
    """The score of each strategy that has a trial, in the order of the registry, others after them."""
    scores = {}
    tried = list(dict.fromkeys(trial.strategy for trial in trials))
    for strategy in sorted(tried, key=[*labels.STRATEGIES, *tried].index):
        own = [trial for trial in trials if trial.strategy == strategy]
        counts = torch.stack([trial.found.counts for trial in own])  # (trials, C)
        truth = torch.stack([trial.true_counts for trial in own])
        scores[strategy] = LabelScore(
            exact_rate=float(counts.eq(truth).all(1).double().mean()),
            instance_accuracy=float((counts.minimum(truth).sum(1).double() / truth.sum(1)).mean()),
            presence_accuracy=float((counts > 0).eq(truth > 0).double().mean()),
            proven_rate=sum(trial.found.certified for trial in own) / len(own),
            wrongly_proven=sum(
                trial.found.certified and not torch.equal(trial.found.counts, trial.true_counts) for trial in own
            )
            / len(own),
            seconds=sum(trial.seconds for trial in own) / len(own),
        )
    return scores


# ------------------------------------------------------------------------------------------------- studies


@dataclass(frozen=True, kw_only=True)
class Study:
    """A study of label inference: every answer on one batch (`repeats` 0), or scores over `repeats` draws.

    Equal studies have equal keys, so that users who ask the same share the answer. The key depends on the registered
    strategies as well.
    """

    scenario: Scenario
    repeats: int = 0

    @property
    def key(self) -> str:
        """64 hexadecimal digits."""
        question = [self.scenario.to_json(), self.repeats, list(labels.STRATEGIES)]
        return hashlib.sha256(json.dumps(question).encode()).hexdigest()

    @property
    def urgency(self) -> int:
        """1 for a single batch, 2 for a point of a curve; attacks, which come first, have 0."""
        return 2 if self.repeats else 1

    def check(self) -> None:
        """Raise `UnsupportedScenario` where the scenario cannot run here."""
        check(self.scenario)

    def run(self, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
        """Yield the events of the study; `stop` is called between strategies."""
        check(self.scenario)
        yield from prepare(self.scenario)
        trials = []
        for trial in label_trials(self.scenario, repeats=self.repeats or 1, stop=stop):
            if stop():
                return
            if not self.repeats:
                yield from _answer(trial)
                continue
            trials.append(trial)
            draws, rest = divmod(len(trials), len(labels.STRATEGIES))
            if not rest:
                scores = {name: asdict(score) for name, score in label_scores(trials).items()}
                yield Scored(draws=draws, repeats=self.repeats, scores=scores)


def of_the_update(scenario: Scenario) -> Scenario:
    """The settings that the client's update depends on; those of the attack have their defaults.

    >>> of_the_update(Scenario(seed=3, attack="dlg", wrong_labels=1)) == Scenario(seed=3)
    True
    """
    return Scenario(**{name: value for name, value in scenario.to_values().items() if name in OF_THE_UPDATE})


def curve(
    scenario: Scenario,
    *,
    over: str,
    composition: Composition,
    repeats: int,
    check: Callable[[Scenario], None] = check,
) -> tuple[Study, ...]:
    """One study for each point of a curve over `batch_size` or `stage`, smallest first.

    All other settings are those of the scenario. Points that `check` refuses by `UnsupportedScenario` are left out:
    batches that the data set cannot give.

    >>> [point.scenario.batch_size for point in curve(Scenario(), over="batch_size", composition="half", repeats=5)]
    [2, 4, 8, 16, 32]
    """
    stages = checkpoints.stages(scenario.model, datasets.dataset_of(scenario).vocabulary)
    common = {"indices": None, "labels": None, "batch_size": scenario.batch_size, "composition": composition}
    points = []
    for value in BATCH_SIZES if over == "batch_size" else stages:
        try:
            point = scenario.changed(**common | {over: value})
            check(point)
        except UnsupportedScenario:
            continue
        points.append(Study(scenario=point, repeats=repeats))
    return tuple(points)


def verdict(answers: Sequence[StrategyAnswered], class_names: Sequence[str]) -> str:
    """Which strategies have the whole batch right, or which comes closest, and the largest miss, in two sentences.

    >>> right = StrategyAnswered(
    ...     strategy="zero-shot", counts=(2, 1), true_counts=(2, 1), certified=False, note="", seconds=0.0
    ... )
    >>> verdict([right, replace(right, strategy="gradinversion", counts=(1, 2))], ["cat", "dog"])
    '1 of 2 strategies has the whole batch right: Zero-shot restoration. GradInversion finds 1 of 2 cat images.'
    """
    titles = {answer.strategy: labels.STRATEGIES[answer.strategy].title for answer in answers}
    right = [answer for answer in answers if answer.exact]
    if len(right) == len(answers):
        return f"All {len(answers)} strategies have the whole batch right."
    who = f"{len(right) or 'None'} of {len(answers)} strategies {'have' if len(right) > 1 else 'has'}"
    best, worst = (choice(answers, key=lambda answer: answer.found) for choice in (max, min))
    closest = f". {titles[best.strategy]} comes closest with {best.found} of {sum(best.true_counts)} labels"
    named = f": {', '.join(titles[answer.strategy] for answer in right)}" if len(right) < 3 else ""
    names = named if right else closest
    missing = [there - found for found, there in zip(worst.counts, worst.true_counts, strict=True)]
    most = missing.index(max(missing))
    there = worst.true_counts[most]
    once = ", no label more than once" if max(worst.counts) == 1 < there else ""
    return (
        f"{who} the whole batch right{names}. {titles[worst.strategy]} finds {worst.counts[most]} of {there} "
        f"{class_names[most]} image{'s' * (there > 1)}{once}."
    )


def _answer(trial: LabelTrial) -> Iterator[Event]:
    """The answer of one strategy; before it its intermediate values, for the one strategy that reports them."""
    found, true_counts = trial.found, tuple(trial.true_counts.tolist())
    counts = tuple(found.counts.tolist())
    if trial.strategy == SHOWN_IN_STEPS:
        # Zero-shot restoration estimates counts as K (p - gradient): p follows from counts and gradient.
        probabilities = found.real_counts / trial.true_counts.sum().item() + found.evidence
        yield LastLayerRead(
            gradient=tuple(found.evidence.tolist()),
            probabilities=tuple(probabilities.tolist()),
            real_counts=tuple(found.real_counts.tolist()),
            counts=counts,
            true_counts=true_counts,
        )
    yield StrategyAnswered(
        strategy=trial.strategy,
        counts=counts,
        true_counts=true_counts,
        certified=found.certified,
        note=found.note,
        confidence=() if found.confidence is None else tuple(found.confidence.tolist()),
        seconds=trial.seconds,
    )
