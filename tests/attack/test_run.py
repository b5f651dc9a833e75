"""Attacks on a case: the order of events, what ends an attack, and that the ground truth has no part in it."""

from __future__ import annotations

import ast
import inspect
import itertools
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import deepleak_core
from deepleak_core.attack import run as attack_run
from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.run import reconstruct, trouble
from deepleak_core.attack.solvers import Iterate
from deepleak_core.errors import UnsupportedScenario, UnusableUpdate
from deepleak_core.events import Event, Finished, LabelsInferred, Snapshot, Stage, UpdateShared
from deepleak_core.federated.case import Case, observe
from deepleak_core.federated.client import LocalTraining
from deepleak_core.federated.models import build
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.labels.wrong_labels import WrongLabels
from deepleak_core.runs.run import run
from deepleak_core.scenario import FEDAVG_METHODS, Scenario
from tests.helpers import all_of, case_of, end_of, only, random_images

QUICK = Scenario(indices=(0, 1, 4), device="cpu")
FEW = 3


@pytest.fixture(scope="module")
def case() -> Case:
    return observe(QUICK)[0]


@pytest.fixture
def every_iterate(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every iterate is shown, however fast they follow one another."""
    monkeypatch.setattr(attack_run, "SNAPSHOT_SECONDS", 0.0)


def network_case(
    name: str = "lenet64-elu", change: Callable[[Any], object] | None = None, local: LocalTraining | None = None
) -> Case:
    """Two random images and a model that is changed before the client computes its update."""
    model = build(name, classes=10, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    if change is not None:
        with torch.no_grad():
            change(model)
    return case_of(model, random_images(2, 3, 32, 32), torch.tensor([3, 6]), local)


# ------------------------------------------------------------------------------------------------- events


def test_events_come_in_order_and_without_scores(case: Case) -> None:
    events = list(reconstruct(case, iterations=30))
    assert [kind for kind, _ in itertools.groupby(events, type)] == [
        UpdateShared,
        LabelsInferred,
        Stage,
        Snapshot,
        Finished,
    ]
    assert all(getattr(event, "score", None) is None for event in events)
    update, inferred = only(UpdateShared, events), only(LabelsInferred, events)
    parameters = sum(p.numel() for p in case.model.parameters())
    assert sum(update.sizes) == parameters
    assert update.bytes == 4 * parameters
    assert len(update.layers) == len(update.norms)
    assert min(update.norms) > 0
    assert len(update.sample) == 48 * 48
    assert {min(update.sample), max(update.sample)} <= set(range(256))
    assert len(set(update.sample)) > 100
    assert (update.mode, update.batch_size, update.local_steps) == ("fedsgd", 3, 0)
    assert inferred.order == inferred.found == (3, 6, 8)
    assert inferred.falsified == ()
    assert len(inferred.evidence) == len(inferred.real_counts) == 10


def test_the_first_and_the_last_iterate_are_shown(case: Case) -> None:
    events = list(reconstruct(case, iterations=30))
    snapshots, finished = all_of(Snapshot, events), end_of(events)
    assert snapshots[0].step == 0
    assert snapshots[-1].step == finished.step == 30
    assert finished.reason == "iterations"
    assert snapshots[-1].progress == 1
    assert finished.residual == snapshots[-1].residual
    for earlier, later in itertools.pairwise(snapshots):
        assert earlier.step < later.step
        assert earlier.seconds <= later.seconds
        assert earlier.progress <= later.progress
    assert snapshots[-1].residual < 0.5 * snapshots[0].residual


def test_snapshots_hold_images_in_the_order_of_their_labels(case: Case) -> None:
    for snapshot in all_of(Snapshot, list(reconstruct(case, iterations=5))):
        assert snapshot.images.shape == (3, 3, 32, 32)
        assert snapshot.images.dtype == np.float32
        assert snapshot.images.min() >= 0
        assert snapshot.images.max() <= 1
        assert snapshot.labels == (3, 6, 8)


def test_the_end_says_how_much_of_the_update_is_matched(case: Case) -> None:
    finished = end_of(list(reconstruct(case, iterations=5)))
    assert finished.sentence
    assert finished.score is None


# -------------------------------------------------------------------------------- the ground truth has no part


def spoil(images: Tensor, labels: Tensor) -> None:
    images.copy_(1 - images.flip(0).roll(5, -1))
    labels.copy_(9 - labels.flip(0))


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.usefixtures("every_iterate")
def test_a_case_is_attacked_the_same_with_and_without_its_ground_truth(attack: str) -> None:
    """`run` knows the private batch and scores; `reconstruct` has the case alone, its batch overwritten."""
    scenario = Scenario(indices=(0, 4), attack=attack, max_iterations=FEW, device="cpu")
    scored = all_of(Snapshot, list(run(scenario)))
    case, truth = observe(scenario)
    spoil(truth.images, truth.labels)
    alone = all_of(Snapshot, list(reconstruct(case, attack, iterations=FEW)))
    assert len(alone) == len(scored) > FEW
    for one, other in zip(alone, scored, strict=True):
        assert np.array_equal(one.images, other.images)
        assert (one.step, one.loss, one.residual, one.labels) == (other.step, other.loss, other.residual, other.labels)
        assert one.score is None
        assert other.score is not None


@pytest.mark.parametrize("package", ["attack", "labels", "features"])
def test_attack_code_cannot_reach_the_private_batch(package: str) -> None:
    """By its imports: nothing of data loading, observation or scoring."""
    forbidden = {"GroundTruth", "load_batch", "labels_of_batch", "pick", "items", "observe", "observe_model", "scored"}
    for path in (Path(deepleak_core.__file__).parent / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom):
                assert node.module is not None
                assert not node.module.startswith(("deepleak_core.scoring", "deepleak_core.data.batches")), path
                assert not forbidden & {alias.name for alias in node.names}, path
            if isinstance(node, ast.Import):
                assert not any(alias.name.startswith("deepleak_core") for alias in node.names), path


def test_a_case_holds_no_batch() -> None:
    assert list(inspect.signature(Case).parameters) == ["model", "update", "class_names", "image_shape", "trained"]


# ----------------------------------------------------------------------------------------------- settings


@pytest.mark.parametrize("method", FEDAVG_METHODS)
@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_reads_fedavg_in_every_way(attack: str, method: str) -> None:
    case = network_case(local=LocalTraining(epochs=2, batch_size=1, lr=0.01))
    events = list(reconstruct(case, attack, fedavg=method, iterations=FEW))
    update = only(UpdateShared, events)
    assert update.mode == "fedavg"
    assert update.local_steps == 4
    assert np.isfinite(end_of(events).residual)
    assert end_of(events).reason in ("iterations", "converged")


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_same_seed_gives_the_same_result(case: Case, attack: str) -> None:
    def images(seed: int) -> Any:
        return all_of(Snapshot, list(reconstruct(case, attack, iterations=2, labels=[3, 6, 8], seed=seed)))[-1].images

    assert np.array_equal(images(1), images(1))
    if attack != "exact":
        assert not np.array_equal(images(1), images(2))


def test_unknown_names_and_values_are_refused(case: Case) -> None:
    for arguments, values in ((("magic",), {}), ((), {"colour": "red"}), ((), {"restarts": 0})):
        with pytest.raises(UnsupportedScenario):
            next(reconstruct(case, *arguments, **values))


# ------------------------------------------------------------------------------------------------- labels


def inferred_of(case: Case, **arguments: Any) -> LabelsInferred:
    for event in reconstruct(case, iterations=1, **arguments):
        if isinstance(event, LabelsInferred):
            return event
    raise AssertionError("no labels were inferred")


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_label_strategy_gives_as_many_labels_as_images(case: Case, strategy: str) -> None:
    inferred = inferred_of(case, label_strategy=strategy)
    assert inferred.strategy == strategy
    assert sum(inferred.counts) == len(inferred.order) == 3


def test_labels_that_are_given_are_taken(case: Case) -> None:
    inferred = inferred_of(case, labels=[8, 3, 6])
    assert inferred.strategy == "true"
    assert inferred.order == (3, 6, 8)


@pytest.mark.parametrize("wrong", [1, 3])
def test_labels_are_made_wrong_on_purpose(case: Case, wrong: int) -> None:
    inferred = inferred_of(case, wrong_labels=WrongLabels(count=wrong))
    assert len(inferred.falsified) == wrong
    assert inferred.found == (3, 6, 8)
    right = [label for place, label in enumerate(inferred.order) if place not in inferred.falsified]
    assert len(right) == 3 - wrong
    assert set(right) <= {3, 6, 8}
    assert not {inferred.order[place] for place in inferred.falsified} & {3, 6, 8}


# -------------------------------------------------------------------------------------------------- the end


def test_stop_ends_with_a_last_snapshot(case: Case) -> None:
    asked = itertools.count()
    events = list(reconstruct(case, iterations=10**6, labels=[3, 6, 8], stop=lambda: next(asked) >= 20))
    snapshots, finished = all_of(Snapshot, events), end_of(events)
    assert finished.reason == "stopped"
    assert snapshots[-1].step == finished.step <= 20
    assert snapshots[-1].progress == 1


def test_the_time_limit_ends_the_attack(case: Case) -> None:
    finished = end_of(list(reconstruct(case, iterations=10**6, max_seconds=0.3)))
    assert finished.reason == "seconds"
    assert finished.seconds > 0.3


def test_progress_follows_the_nearer_limit(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that goes on whenever it is read."""
    monkeypatch.setattr(time, "perf_counter", partial(next, itertools.count(0.0, 0.02)))
    snapshots = all_of(Snapshot, list(reconstruct(case, iterations=10**6, max_seconds=1)))
    progress = [snapshot.progress for snapshot in snapshots if snapshot.progress is not None]
    assert all(0 <= share <= 1 for share in progress)
    assert any(0.3 < share < 1 for share in progress)


def test_an_attack_ends_soon_after_the_update_is_matched() -> None:
    """One image by L-BFGS: reached long before the limit of iterations."""
    case, _ = observe(Scenario(indices=(0,)))
    finished = end_of(list(reconstruct(case, "exact", iterations=5000)))
    assert finished.reason == "converged"
    assert finished.residual < 1e-9
    assert finished.step < 1000


@pytest.mark.parametrize("attack", ATTACKS)
def test_vanishing_gradients_end_the_attack(attack: str) -> None:
    """The first layer's ReLUs are all shut: the update does not depend on the pixels."""
    case = network_case("lenet64-relu", lambda model: model.body[0].bias.fill_(-1e3))
    finished = end_of(list(reconstruct(case, attack, labels=[3, 6], iterations=50)))
    assert finished.reason == "vanished"
    assert finished.step <= attack_run.UNMOVED_STEPS


def test_a_loss_that_is_no_number_ends_the_attack() -> None:
    case = network_case()
    with torch.no_grad():
        case.model.body[0].bias.fill_(float("nan"))  # after the client: the update itself is fine
    events = list(reconstruct(case, labels=[3, 6]))
    assert end_of(events).reason == "diverged"
    assert len(all_of(Snapshot, events)) == 1


def test_a_loss_that_grows_without_bound_ends_the_attack() -> None:
    def iterate(loss: float, step: int) -> Iterate:
        return Iterate(step, torch.zeros(1), loss, torch.tensor([loss]), 1.0, 0.0)

    assert trouble(iterate(9e3, 3), iterate(0.5, 0)) is None
    reason, sentence = trouble(iterate(2e4, 3), iterate(0.5, 0)) or ("", "")
    assert reason == "diverged"
    assert "0.5" in sentence
    assert "2e+04" in sentence


def test_a_residual_that_changes_little_has_not_vanished() -> None:
    """Sigmoids make the residual change by little, yet it changes."""
    case, _ = observe(Scenario(indices=(0,), model="lenet"))
    assert end_of(list(reconstruct(case, labels=[3], iterations=15))).reason == "iterations"


@pytest.mark.parametrize(
    "spoil_update", [lambda t: t.fill_(float("nan")), lambda t: t.fill_(float("inf")), torch.zero_]
)
def test_an_update_that_reveals_nothing_is_refused_before_the_attack(spoil_update: Callable[[Tensor], Any]) -> None:
    case = network_case()
    for tensor in case.update.tensors.values():
        spoil_update(tensor)
    with pytest.raises(UnusableUpdate):
        next(reconstruct(case))


def test_a_slow_reader_costs_no_attack_time(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that passes while an event is being handled is not attack time."""
    lost, real = 0.0, time.perf_counter
    monkeypatch.setattr(time, "perf_counter", lambda: real() + lost)
    began = real()
    events: Iterator[Event] = reconstruct(case, iterations=30)
    for event in events:  # noqa: B007
        lost += 1000.0
    assert isinstance(event, Finished)
    assert event.seconds <= real() - began
