"""Accuracy of label inference: scores against values computed by hand, and studies against their trials."""

from __future__ import annotations

import pickle
from dataclasses import asdict, replace

import pytest
import torch

from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch, pick
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import Event, LastLayerRead, Scored, StrategyAnswered, from_message, to_message
from deepleak_core.federated import checkpoints, models
from deepleak_core.federated.case import target_model
from deepleak_core.labels import strategies
from deepleak_core.labels.evidence import InferredLabels
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs.tasks import Task
from deepleak_core.scenario import Scenario
from deepleak_core.studies import label_accuracy
from deepleak_core.studies.label_accuracy import (
    SHOWN_IN_STEPS,
    SLOWEST,
    LabelTrial,
    Study,
    curve,
    label_scores,
    label_trials,
    of_the_update,
    verdict,
)


def trial(counts: list[int], true: list[int], proven: bool = False, seconds: float = 1.0) -> LabelTrial:
    found = torch.tensor(counts)
    return LabelTrial(
        strategy="idlg",
        found=InferredLabels(evidence=found.double(), real_counts=found.double(), counts=found, certified=proven),
        true_counts=torch.tensor(true),
        seconds=seconds,
    )


def test_scores_against_values_computed_by_hand() -> None:
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
    assert scores["idlg"].wrongly_proven == 0.0
    wrongly = label_scores([trial([1, 1], [2, 0], proven=True), trial([1, 1], [2, 0]), trial([2, 0], [2, 0])])
    assert wrongly["idlg"].wrongly_proven == pytest.approx(1 / 3)
    assert scores["idlg"].seconds == 2.0


def test_scores_come_in_the_order_of_the_registry_and_others_after_them() -> None:
    one = trial([1, 1], [1, 1])
    named = [replace(one, strategy=name) for name in ("somebody's", "zero-shot", "idlg", "verified")]
    assert list(label_scores(named)) == ["verified", "zero-shot", "idlg", "somebody's"]


def test_every_strategy_sees_every_draw_and_the_model_is_built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    built = []
    real = models.build
    monkeypatch.setattr(models, "build", lambda *a, **k: built.append(a) or real(*a, **k))
    trials = list(label_trials(Scenario(model="lenet", composition="random", batch_size=6), repeats=4))
    assert len(built) == 1
    assert [t.strategy for t in trials] == [*list(STRATEGIES)[1:], "verified"] * 4, "a proof may take its time"
    assert list(label_scores(trials)) == list(STRATEGIES)
    truths = [tuple(t.true_counts.tolist()) for t in trials]
    assert all(len(set(truths[i : i + len(STRATEGIES)])) == 1 for i in range(0, len(trials), len(STRATEGIES)))
    assert len(set(truths)) == 4, "each draw is another batch"
    assert all(int(t.found.counts.sum()) == 6 for t in trials)
    third = list(label_trials(Scenario(model="lenet", composition="random", batch_size=6), first=2))
    assert {tuple(t.true_counts.tolist()) for t in third} == {truths[2 * len(STRATEGIES)]}


def test_named_images_stay_and_the_noise_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds = []
    real = strategies.infer_labels
    monkeypatch.setattr(strategies, "infer_labels", lambda *a, **k: seeds.append(k["seed"]) or real(*a, **k))
    trials = list(label_trials(Scenario(model="lenet", indices=(0, 4)), repeats=3))
    assert len({tuple(t.true_counts.tolist()) for t in trials}) == 1
    assert len(set(seeds)) == 3
    assert seeds[0] == Scenario().seed_for("labels"), "the first draw is that of the attack"


def test_what_cannot_run_is_refused_first() -> None:
    with pytest.raises(UnsupportedScenario, match="vgg"):
        next(label_trials(Scenario(model="vgg")))


# ------------------------------------------------------------------------------------------------- studies


def answer(strategy: str, counts: list[int], truth: list[int]) -> StrategyAnswered:
    return StrategyAnswered(
        strategy=strategy, counts=tuple(counts), true_counts=tuple(truth), certified=False, note="", seconds=0.1
    )


def mean_probabilities(model: torch.nn.Module, seed: int) -> torch.Tensor:
    """What the model predicts for noise, on average (C,)."""
    noise = torch.randn(64, 3, 32, 32, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return model(noise * model.std + model.mean).softmax(1).mean(0)


@pytest.mark.parametrize("mode", ["fedsgd", "fedavg"])
def test_a_single_batch_reports_the_gradient_and_the_steps_to_the_counts(mode: str) -> None:
    scenario = Scenario(indices=(0, 1, 3, 4), model="lenet", mode=mode)
    events = list(Study(scenario=scenario).run())
    (read,) = (event for event in events if isinstance(event, LastLayerRead))
    answers = {event.strategy: event for event in events if isinstance(event, StrategyAnswered)}
    assert set(answers) == set(STRATEGIES)
    assert list(answers)[-1] == SLOWEST

    batch = load_batch(scenario)
    model = target_model(scenario)
    torch.nn.functional.cross_entropy(model(batch.images), batch.labels).backward()
    # One local step over the whole batch says what the gradient says, up to the rounding of weights.
    assert read.gradient == pytest.approx(model.head.bias.grad.tolist(), abs=1e-7 if mode == "fedsgd" else 1e-4)
    guess = mean_probabilities(model, scenario.seed_for("labels"))
    if mode == "fedavg":
        torch.optim.SGD(model.parameters(), lr=scenario.local_lr).step()
        guess = (guess + mean_probabilities(model, scenario.seed_for("labels"))) / 2
    assert read.probabilities == pytest.approx(guess.tolist(), abs=1e-6 if mode == "fedsgd" else 1e-4)
    by_hand = [4 * (p - g) for p, g in zip(read.probabilities, read.gradient, strict=True)]
    assert read.real_counts == pytest.approx(by_hand)
    assert (
        read.true_counts == tuple(batch.labels.bincount(minlength=10).tolist()) == answers[SHOWN_IN_STEPS].true_counts
    )
    assert read.counts == answers[SHOWN_IN_STEPS].counts


def test_studies_report_the_scores_of_their_trials_after_each_draw() -> None:
    scenario = Scenario(model="lenet", composition="random", batch_size=6)
    events = list(Study(scenario=scenario, repeats=3).run())
    assert all(isinstance(event, Scored) for event in events)
    assert [(event.draws, event.repeats) for event in events] == [(1, 3), (2, 3), (3, 3)]
    expected = label_scores(list(label_trials(scenario, repeats=3)))
    for name, score in expected.items():
        assert events[-1].scores[name] | {"seconds": 0} == asdict(score) | {"seconds": 0}


def test_a_study_ends_soon_after_it_is_stopped() -> None:
    scenario = Scenario(model="lenet", composition="random")
    events: list[Event] = []
    for event in Study(scenario=scenario, repeats=9).run(lambda: bool(events)):
        events.append(event)
    assert [event.draws for event in events] == [1]


def test_events_of_studies_survive_messages() -> None:
    scenario = Scenario(model="lenet", indices=(0, 4))
    events = [*Study(scenario=scenario).run(), *Study(scenario=scenario, repeats=1).run()]
    assert [from_message(to_message(event)) for event in events] == events


def test_equal_studies_have_equal_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario = Scenario(indices=(0, 1))
    keys = [
        Study(scenario=scenario).key,
        Study(scenario=scenario.changed(seed=1)).key,
        Study(scenario=scenario, repeats=1).key,
    ]
    assert len(set(keys)) == 3
    assert keys[0] == Study(scenario=of_the_update(scenario.changed(attack="dlg", max_seconds=3.0))).key
    monkeypatch.setattr(strategies, "STRATEGIES", STRATEGIES | {"new": STRATEGIES["idlg"]})
    assert Study(scenario=scenario).key not in keys


def test_every_setting_is_of_the_update_or_of_the_attack() -> None:
    attack_only = {
        "attack", "fedavg", "label_strategy", "wrong_labels", "feature_term", "learning_rate", "total_variation",
        "restarts", "max_seconds", "max_iterations", "mislabel", "repair_labels", "prior", "setting",
    }  # fmt: skip
    assert set(label_accuracy.OF_THE_UPDATE).isdisjoint(attack_only)
    assert set(Scenario.model_fields) - attack_only <= set(label_accuracy.OF_THE_UPDATE)


def test_curves_have_the_points_that_the_data_can_give(monkeypatch: pytest.MonkeyPatch) -> None:
    def check(scenario: Scenario) -> None:
        pick(scenario, datasets.items(scenario).labels)

    named = Scenario(indices=(0, 1, 2))
    sizes = {
        composition: [
            point.scenario.batch_size
            for point in curve(named, over="batch_size", composition=composition, repeats=7, check=check)
        ]
        for composition in ("random", "distinct", "half", "same", "pair")
    }
    # 20 images of 8 classes, of each 2 or 4
    assert sizes == {"random": [1, 2, 4, 8, 16], "distinct": [1, 2, 4, 8], "half": [2, 4, 8], "same": [1, 2, 4],
                     "pair": [2, 4, 8]}  # fmt: skip
    monkeypatch.setattr(checkpoints, "stages", lambda name, vocabulary: {"untrained": None, "late": None})
    points = curve(named, over="stage", composition="random", repeats=7, check=check)
    assert [(p.scenario.stage, p.scenario.batch_size, p.repeats) for p in points] == [
        ("untrained", 3, 7),
        ("late", 3, 7),
    ]


def test_studies_are_tasks_that_can_be_sent_to_workers() -> None:
    task: Task = Study(scenario=Scenario(indices=(0, 1)), repeats=2)
    assert pickle.loads(pickle.dumps(task)) == task
    assert 0 < len(task.key) <= 64
    assert task.urgency > Study(scenario=task.scenario).urgency > 0
    task.check()
    with pytest.raises(UnsupportedScenario):
        Study(scenario=Scenario(model="vgg")).check()


def test_the_verdict_names_the_best_and_the_largest_miss() -> None:
    names, truth = ["cat", "frog"], [1, 3]
    right, sign, minima = (
        answer(name, counts, truth)
        for name, counts in (("zero-shot", [1, 3]), ("idlg", [2, 2]), ("gradinversion", [1, 1]))
    )
    titles = {name: STRATEGIES[name].title for name in STRATEGIES}
    everybody = verdict([right, replace(sign, counts=(1, 3))], names)
    assert "All 2" in everybody
    assert "finds" not in everybody
    some = verdict([right, sign, minima], names)
    assert "1 of 3" in some
    assert titles["zero-shot"] in some
    assert titles["idlg"] not in some
    assert f"{titles['gradinversion']} finds 1 of 3 frog" in some
    assert "no label more than once" in some
    nobody = verdict([sign, minima], names)
    assert "None of 2" in nobody
    assert titles["idlg"] in nobody
    assert "3 of 4" in nobody
