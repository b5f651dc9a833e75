"""Scores of label inference, against trials worked out by hand and real draws."""

from __future__ import annotations

import pytest
import torch

from deepleak_core import evaluation, models
from deepleak_core.evaluation import LabelTrial, label_scores, label_trials
from deepleak_core.labels import STRATEGIES
from deepleak_core.scenario import Scenario, UnsupportedScenario


def trial(counts: list[int], true: list[int], proven: bool = False, seconds: float = 1.0) -> LabelTrial:
    return LabelTrial(
        strategy="idlg",
        counts=torch.tensor(counts),
        true_counts=torch.tensor(true),
        proven=proven,
        seconds=seconds,
    )


def test_scores_worked_out_by_hand() -> None:
    scores = label_scores(
        [
            trial([2, 0, 2, 0, 0], [2, 0, 2, 0, 0], proven=True),  # all right
            trial([3, 1, 0, 0, 0], [2, 0, 2, 0, 0], seconds=3.0),  # 2 of 4 labels, classes 1 and 2 wrong
        ]
    )
    assert list(scores) == ["idlg"]
    assert scores["idlg"].exact_rate == 0.5
    assert scores["idlg"].instance_accuracy == pytest.approx((1 + 2 / 4) / 2)
    assert scores["idlg"].presence_accuracy == pytest.approx((1 + 3 / 5) / 2)
    assert scores["idlg"].proven_rate == 0.5
    assert scores["idlg"].seconds == 2.0


def test_every_strategy_sees_every_draw_and_the_model_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    real = models.build
    monkeypatch.setattr(models, "build", lambda *a, **k: built.append(a) or real(*a, **k))
    trials = list(label_trials(Scenario(model="lenet", composition="random", batch_size=6), repeats=4))
    assert len(built) == 1
    assert [t.strategy for t in trials] == list(STRATEGIES) * 4
    truths = [tuple(t.true_counts.tolist()) for t in trials]
    assert all(len(set(truths[i : i + len(STRATEGIES)])) == 1 for i in range(0, len(trials), len(STRATEGIES)))
    assert len(set(truths)) == 4, "each draw is another batch"
    assert all(int(t.counts.sum()) == 6 for t in trials)


def test_named_images_stay_and_the_noise_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    real = evaluation.labels.infer
    monkeypatch.setattr(evaluation.labels, "infer", lambda *a, **k: seeds.append(k["seed"]) or real(*a, **k))
    trials = list(label_trials(Scenario(model="lenet", indices=(0, 4)), repeats=3))
    assert len({tuple(t.true_counts.tolist()) for t in trials}) == 1
    assert len(set(seeds)) == 3
    assert seeds[0] == Scenario().seed_for("labels"), "the first draw is the attack's own"


def test_what_cannot_run_is_refused_first() -> None:
    with pytest.raises(UnsupportedScenario, match="model was 'vgg'"):
        next(label_trials(Scenario(model="vgg")))
