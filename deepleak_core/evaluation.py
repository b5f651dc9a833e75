"""How well the label-inference strategies do: many batches, every strategy on the same updates.

>>> trials = list(label_trials(Scenario(indices=(4, 5, 7, 19)), repeats=2))
>>> scores = label_scores(trials)
>>> scores["zero-shot"].exact_rate, scores["gradinversion"].instance_accuracy
(1.0, 0.25)
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from deepleak_core import client, datasets, labels
from deepleak_core.attack import check, choose_device, local_training_of, target_model
from deepleak_core.scenario import Scenario


@dataclass(frozen=True, kw_only=True)
class LabelTrial:
    """One strategy on one batch: what it found, how many of each class there are, and how long it took."""

    strategy: str
    counts: Tensor
    true_counts: Tensor
    proven: bool
    seconds: float


@dataclass(frozen=True, kw_only=True)
class LabelScore:
    """A strategy over all its trials; every value but `seconds`, the mean time of one inference, is in [0, 1].

    `exact_rate`: batches whose whole multiset of labels was found. `instance_accuracy`: labels found, each as
    often as it is there. `presence_accuracy`: classes rightly said to be in the batch or not.
    `proven_rate`: batches on which the strategy says that its answer is proven.
    """

    exact_rate: float
    instance_accuracy: float
    presence_accuracy: float
    proven_rate: float
    seconds: float


def label_trials(scenario: Scenario, *, repeats: int = 1) -> Iterator[LabelTrial]:
    """Every strategy on `repeats` draws of the scenario's batch, strategy by strategy within a draw.

    The target model is built once. Where the scenario names its images the batch stays the same, and only the
    noise some strategies feed is drawn anew. Raises what `attack.run` raises before it starts.
    """
    check(scenario)
    for _ in datasets.prepare(scenario):
        pass
    device = choose_device(scenario)
    model = target_model(scenario).to(device)
    for draw in range(repeats):
        batch = datasets.load_batch(scenario, draw=draw)
        update = client.share(model, batch.images.to(device), batch.labels.to(device), local_training_of(scenario))
        true_counts = torch.bincount(batch.labels, minlength=len(batch.class_names))
        for strategy in labels.STRATEGIES:
            began = time.perf_counter()
            found = labels.infer(
                model,
                update,
                strategy=strategy,
                image_size=scenario.image_size,
                seed=scenario.seed_for("labels") + draw,
            )
            counts = found.counts.cpu()  # waits for the device, so that the time is the whole time
            yield LabelTrial(
                strategy=strategy,
                counts=counts,
                true_counts=true_counts,
                proven=found.proven,
                seconds=time.perf_counter() - began,
            )


def label_scores(trials: Sequence[LabelTrial]) -> dict[str, LabelScore]:
    """The score of each strategy that has a trial, in the order of the registry."""
    scores = {}
    for strategy in labels.STRATEGIES:
        own = [trial for trial in trials if trial.strategy == strategy]
        if own:
            counts = torch.stack([trial.counts for trial in own])  # (trials, C)
            truth = torch.stack([trial.true_counts for trial in own])
            scores[strategy] = LabelScore(
                exact_rate=float(counts.eq(truth).all(1).double().mean()),
                instance_accuracy=float((counts.minimum(truth).sum(1).double() / truth.sum(1)).mean()),
                presence_accuracy=float((counts > 0).eq(truth > 0).double().mean()),
                proven_rate=sum(trial.proven for trial in own) / len(own),
                seconds=sum(trial.seconds for trial in own) / len(own),
            )
    return scores
