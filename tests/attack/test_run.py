"""Whole runs: the order of events, where they end, and that the truth never reaches the attack."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from torch import Tensor

from deepleak_core.attack import run as attack
from deepleak_core.attack.clock import Clock
from deepleak_core.attack.presets import PRESETS
from deepleak_core.attack.run import reconstruct, trouble
from deepleak_core.attack.solvers import Iterate
from deepleak_core.data.datasets import DATASETS
from deepleak_core.errors import OutOfMemory, UnsupportedScenario
from deepleak_core.events import (
    Event,
    Finished,
    LabelsInferred,
    Prepared,
    Snapshot,
    Stage,
    UpdateShared,
    from_message,
    from_png,
    to_message,
)
from deepleak_core.federated import checkpoints, client, models
from deepleak_core.federated.case import target_model
from deepleak_core.federated.models import MODELS
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs.checks import check
from deepleak_core.runs.run import run
from deepleak_core.scenario import FEDAVG_METHODS, Scenario
from deepleak_core.scoring import metrics
from deepleak_core.scoring.score import Judge

QUICK = Scenario(indices=(0, 1, 4), max_iterations=30)
FEW = 3


def events_of(scenario: Scenario, **options: Any) -> list[Event]:
    return list(run(scenario, **options))


def snapshots_of(events: list[Event]) -> list[Snapshot]:
    return [event for event in events if isinstance(event, Snapshot)]


def last(events: list[Event]) -> Finished:
    finished = events[-1]
    assert isinstance(finished, Finished)
    return finished


@pytest.fixture(scope="module")
def quick() -> list[Event]:
    return events_of(QUICK)


# ------------------------------------------------------------------------------------------------- the story


def test_the_story_comes_in_order(quick: list[Event]) -> None:
    kinds = [kind for kind, _ in itertools.groupby(quick, type)]
    assert kinds == [Prepared, UpdateShared, LabelsInferred, Stage, Snapshot, Finished]


def test_what_is_told_fits_together(quick: list[Event]) -> None:
    prepared, update, inferred = quick[:3]
    assert isinstance(prepared, Prepared) and isinstance(update, UpdateShared) and isinstance(inferred, LabelsInferred)
    assert prepared.labels == (3, 8, 6) and len(prepared.class_names) == 10
    assert [from_png(picture).shape for picture in prepared.pictures] == [(32, 32, 3)] * 3
    assert sum(update.sizes) == prepared.parameters and update.bytes == 4 * prepared.parameters
    assert len(update.layers) == len(update.norms) and min(update.norms) > 0
    assert (update.mode, update.batch_size, update.local_steps) == ("fedsgd", 3, 0)
    assert inferred.exact and inferred.counts == inferred.true_counts
    assert inferred.order == (3, 6, 8) and inferred.falsified == ()
    assert len(inferred.evidence) == len(inferred.real_counts) == 10


def test_the_first_and_the_last_iterate_are_shown(quick: list[Event]) -> None:
    snapshots, finished = snapshots_of(quick), last(quick)
    assert snapshots[0].step == 0
    assert snapshots[-1].step == finished.step == 30 and finished.reason == "iterations"
    assert snapshots[-1].progress == 1
    for earlier, later in itertools.pairwise(snapshots):
        assert earlier.step < later.step and earlier.seconds <= later.seconds and earlier.progress <= later.progress
    assert finished.psnr == snapshots[-1].psnr and finished.residual == snapshots[-1].residual


def test_the_attack_gets_closer(quick: list[Event]) -> None:
    snapshots = snapshots_of(quick)
    assert snapshots[-1].residual < 0.5 * snapshots[0].residual
    assert snapshots[-1].mean_psnr > snapshots[0].mean_psnr + 2


def test_figures_are_those_of_the_pictures(quick: list[Event]) -> None:
    """Measured again from what is shown: PNG pictures, in the order of the private ones."""
    prepared, finished = quick[0], last(quick)
    assert isinstance(prepared, Prepared)
    truth = np.stack([from_png(picture) for picture in prepared.pictures])
    shown = snapshots_of(quick)[-1]
    assert shown.images.shape == (3, 32, 32, 3) and shown.images.dtype == np.uint8
    mse = ((shown.images / 255.0 - truth / 255.0) ** 2).mean((1, 2, 3))
    assert finished.psnr == pytest.approx(-10 * np.log10(mse), abs=0.1)  # pictures are rounded to 8 bit
    assert shown.mean_psnr == pytest.approx(np.mean(finished.psnr))
    assert list(finished.max_error_8bit) == np.abs(shown.images.astype(int) - truth).max((1, 2, 3)).tolist()
    assert finished.pixel_exact == (False,) * 3
    assert sorted(shown.labels) == [3, 6, 8]


def test_pictures_survive_the_wire(quick: list[Event]) -> None:
    for event in quick:
        returned = from_message(to_message(event))
        for field in fields(event):
            before, after = getattr(event, field.name), getattr(returned, field.name)
            assert np.array_equal(before, after) if isinstance(before, np.ndarray) else before == after


def test_the_same_scenario_gives_the_same_result(quick: list[Event]) -> None:
    again = events_of(QUICK)
    assert np.array_equal(snapshots_of(again)[-1].images, snapshots_of(quick)[-1].images)
    assert last(again).psnr == last(quick).psnr and last(again).residual == last(quick).residual
    assert last(events_of(QUICK.changed(seed=1))).psnr != last(quick).psnr


def test_it_leaks() -> None:
    """The point of it all, in the shortest form: one image, L-BFGS, half a minute at the very most."""
    finished = last(events_of(Scenario(indices=(0,), attack="dlg", max_iterations=100)))
    assert min(finished.psnr) > 30 and finished.ssim[0] > 0.9
    assert finished.time_to["psnr20"] <= finished.time_to["psnr30"] <= finished.seconds  # type: ignore[operator]
    assert "The private image was rebuilt" in finished.sentence or "Every pixel" in finished.sentence


# ------------------------------------------------------------------------------------- the truth stays outside


def record_iterates(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The inputs of every iterate the judge is shown, untouched by matching."""
    seen: list[Tensor] = []
    real = Judge.snapshot

    def snapshot(self: Judge, model: TargetModel, iterate: Iterate, *rest: Any) -> Snapshot:
        seen.append(iterate.inputs.detach().clone())
        return real(self, model, iterate, *rest)

    monkeypatch.setattr(Judge, "snapshot", snapshot)
    monkeypatch.setattr(attack, "SNAPSHOT_SECONDS", 0.0)  # every iterate is shown
    return seen


def spoil(images: Tensor, labels: Tensor) -> None:
    images.copy_(1 - images.flip(0).roll(5, -1))
    labels.copy_(9 - labels.flip(0))


@pytest.mark.parametrize("preset", PRESETS)
def test_the_truth_changes_no_reconstruction(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once the update is shared, the private batch is overwritten: the attack must not notice.

    On the CPU, where what the client is handed is the batch itself and not a copy of it.
    """
    scenario = Scenario(indices=(0, 4), attack=preset, max_iterations=FEW, device="cpu")
    seen = record_iterates(monkeypatch)
    honest = last(events_of(scenario))
    expected = list(seen)
    seen.clear()
    share = client.share

    def share_and_spoil(model: TargetModel, images: Tensor, labels: Tensor, *rest: Any) -> client.ClientUpdate:
        update = share(model, images, labels, *rest)
        spoil(images, labels)
        return update

    monkeypatch.setattr(client, "share", share_and_spoil)
    spoilt = last(events_of(scenario))
    assert len(seen) == len(expected) > FEW
    assert all(torch.equal(a, b) for a, b in zip(seen, expected, strict=True))
    assert spoilt.psnr != honest.psnr, "the judge looked at the same truth: nothing was tested"


def test_the_attack_takes_no_batch() -> None:
    assert list(inspect.signature(reconstruct).parameters) == [
        "model",
        "update",
        "believed",
        "preset",
        "scenario",
        "stop",
        "repairs",
    ]


# ----------------------------------------------------------------------------------------- labels in the run


@pytest.mark.parametrize("wrong", [1, 3])
def test_wrong_labels_are_used_and_named(wrong: int) -> None:
    inferred = events_of(QUICK.changed(wrong_labels=wrong, max_iterations=1))[2]
    assert isinstance(inferred, LabelsInferred)
    assert len(inferred.falsified) == wrong
    assert inferred.exact, "inference was right, what is wrong was put in on purpose"
    right = [label for place, label in enumerate(inferred.order) if place not in inferred.falsified]
    assert len(right) == 3 - wrong and set(right) <= {3, 6, 8}
    assert not {inferred.order[place] for place in inferred.falsified} & {3, 6, 8}


def test_a_label_is_wrong_by_name() -> None:
    inferred = events_of(QUICK.changed(mislabel=("cat>dog", "ship>truck"), max_iterations=1))[2]
    assert isinstance(inferred, LabelsInferred)
    assert inferred.order == (5, 6, 9) and inferred.falsified == (0, 2) and inferred.exact
    with pytest.raises(UnsupportedScenario, match="has no such label; accepted are its labels: cat, frog, ship"):
        events_of(QUICK.changed(mislabel=("bird>dog",)))


def test_the_fusion_index_is_told_where_labels_repeat(quick: list[Event]) -> None:
    assert last(quick).fusion is None and last(quick).psnr_to_mean == ()
    events = events_of(QUICK.changed(indices=(4, 5, 0)))
    shown = snapshots_of(events)[-1]
    assert (last(events).fusion, last(events).psnr_to_mean) == (shown.fusion, shown.psnr_to_mean)
    nearer = [to_mean > own for to_mean, own in zip(shown.psnr_to_mean, shown.psnr, strict=True)][:2]
    assert shown.fusion == sum(nearer) / 2 and shown.psnr_to_mean[2] == pytest.approx(shown.psnr[2])


@pytest.mark.parametrize("strategy", [*STRATEGIES, "true"])
def test_every_label_strategy_runs(strategy: str) -> None:
    inferred = events_of(QUICK.changed(label_strategy=strategy, max_iterations=1))[2]
    assert isinstance(inferred, LabelsInferred)
    assert inferred.strategy == strategy and sum(inferred.counts) == len(inferred.order) == 3


def test_one_wrong_label_spoils_the_batch() -> None:
    scenario = Scenario(indices=(0, 1), max_iterations=150)
    right, wrong = (last(events_of(scenario.changed(wrong_labels=n))) for n in (0, 1))
    assert min(right.psnr) > max(wrong.psnr) + 3
    assert wrong.residual > 10 * right.residual
    assert "1 of the 2 labels the attack used was wrong: deer instead of ship." in wrong.sentence


# --------------------------------------------------------------------------------------- everything runs once


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_runs(preset: str) -> None:
    finished = last(events_of(Scenario(indices=(0, 4), attack=preset, max_iterations=FEW)))
    assert finished.reason in ("iterations", "converged") and np.isfinite(finished.psnr).all()


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_runs(model: str, batchnorm: str) -> None:
    scenario = Scenario(indices=(0, 4), model=model, batchnorm=batchnorm, max_iterations=2)
    finished = last(events_of(scenario))
    assert finished.step == 2 and np.isfinite(finished.residual)


@pytest.mark.parametrize("method", FEDAVG_METHODS)
@pytest.mark.parametrize("preset", PRESETS)
def test_every_reading_of_fedavg_runs(preset: str, method: str) -> None:
    scenario = Scenario(
        indices=(0, 1, 4),
        attack=preset,
        mode="fedavg",
        fedavg=method,
        local_epochs=2,
        local_batch_size=2,
        max_iterations=FEW,
    )
    events = events_of(scenario)
    update = events[1]
    assert isinstance(update, UpdateShared) and update.mode == "fedavg" and update.local_steps == 4
    snapshots = snapshots_of(events)
    assert np.isfinite(snapshots[-1].residual) and last(events).reason in ("iterations", "converged")


@pytest.mark.parametrize("changed", [{"head_bias": False}, {"restarts": 2}, {"image_size": 48}, {"batch_size": 1}])
def test_settings_that_change_shapes(changed: dict[str, Any]) -> None:
    scenario = Scenario(**{"batch_size": 2, "max_iterations": 2, **changed})
    events = events_of(scenario)
    size = scenario.image_size
    assert snapshots_of(events)[-1].images.shape == (scenario.batch_size, size, size, 3)


def test_a_scenario_overrides_the_presets_settings() -> None:
    preset = PRESETS["gradinversion"].for_scenario(
        Scenario(learning_rate=0.3, total_variation=0.0, restarts=7, max_iterations=9, label_strategy="idlg")
    )
    settings = preset.settings()
    assert (settings["learning_rate"], settings["total_variation"], settings["restarts"]) == (0.3, 0.0, 7)
    assert (settings["iterations"], settings["label_strategy"]) == (9, "idlg")
    assert PRESETS["gradinversion"].for_scenario(Scenario()) == PRESETS["gradinversion"]


# ------------------------------------------------------------------------------------------------ how it ends


def test_stop_ends_with_a_last_snapshot() -> None:
    asked = itertools.count()
    events = events_of(QUICK.changed(max_iterations=10**6), stop=lambda: next(asked) >= 5)
    snapshots, finished = snapshots_of(events), last(events)
    assert finished.reason == "stopped" and snapshots[-1].step == finished.step == 5
    assert snapshots[-1].progress == 1


def test_the_time_limit_ends_the_run() -> None:
    finished = last(events_of(QUICK.changed(max_iterations=10**6, max_seconds=0.3)))
    assert finished.reason == "seconds" and finished.seconds > 0.3 and finished.step > 0


def test_progress_follows_the_nearer_limit() -> None:
    snapshots = snapshots_of(events_of(QUICK.changed(max_iterations=10**6, max_seconds=1)))
    assert all(0 <= s.progress <= 1 for s in snapshots if s.progress is not None)
    assert any(0.3 < s.progress < 1 for s in snapshots if s.progress is not None)


def altered(change: Callable[[TargetModel], object]) -> Callable[[Scenario], TargetModel]:
    real = attack.target_model

    def build(scenario: Scenario) -> TargetModel:
        model = real(scenario)
        with torch.no_grad():
            change(model)
        return model

    return build


@pytest.mark.parametrize("preset", PRESETS)
def test_vanishing_gradients_end_the_run_with_a_sentence(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first layer's ReLUs are all shut: nothing of an image gets through."""
    monkeypatch.setattr(attack, "target_model", altered(lambda model: model.body[0].bias.fill_(-1e3)))
    scenario = Scenario(indices=(0, 4), model="lenet64-relu", attack=preset, max_iterations=50)
    finished = last(events_of(scenario.changed(label_strategy="true")))
    assert finished.reason == "vanished"
    assert finished.sentence == (
        "The attack gets nowhere: the update does not depend on the pixels, its gradient is zero. "
        "Choose a model with smooth activations, or another training stage or seed."
    )


def test_not_a_number_ends_the_run_with_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack, "target_model", altered(lambda model: model.body[0].bias.fill_(float("nan"))))
    events = events_of(QUICK.changed(label_strategy="true"))
    assert last(events).reason == "diverged"
    assert last(events).sentence == (
        "The attack broke off: its loss became nan at iteration 0. Lower the learning rate or choose another preset."
    )
    assert len(snapshots_of(events)) == 1


def test_running_away_ends_the_run_with_a_sentence() -> None:
    def iterate(loss: float, step: int) -> Iterate:
        return Iterate(step, torch.zeros(1), loss, torch.tensor([loss]), 1.0, 0.0)

    assert trouble(iterate(9e3, 3), iterate(0.5, 0)) is None
    assert trouble(iterate(2e4, 3), iterate(0.5, 0)) == (
        "diverged",
        "The attack ran away: its loss grew from 0.5 to 2e+04. Lower the learning rate or choose another preset.",
    )


def test_a_model_that_moves_little_is_not_called_dead() -> None:
    """Sigmoids squeeze the residual's changes, yet they are changes."""
    finished = last(events_of(Scenario(indices=(0,), model="lenet", max_iterations=15, label_strategy="true")))
    assert finished.reason == "iterations"


def test_the_clock_counts_the_attack_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([0.0, 10.0, 17.0, 20.0])
    monkeypatch.setattr(attack.time, "perf_counter", lambda: next(ticks))
    clock = Clock()
    with clock.paused():
        pass
    assert clock.seconds == 20.0 - 7.0


def test_a_slow_reader_costs_no_attack_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time that passes while an event is being read is not the attack's."""
    lost = 0.0
    real = attack.time.perf_counter
    monkeypatch.setattr(attack.time, "perf_counter", lambda: real() + lost)
    began = real()
    for event in run(QUICK):  # noqa: B007
        lost += 1000.0
    assert isinstance(event, Finished)
    assert event.seconds <= real() - began


# --------------------------------------------------------------------------------------------------- refusals

REFUSALS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a label that is no class": (
        {"mislabel": ("cat>unicorn",)},
        [
            "mislabel named 'unicorn', which is no class here; accepted are airplane, automobile, bird, cat, deer, "
            "dog, frog, horse, ship, truck or their numbers."
        ],
    ),
    "a label on both sides": (
        {"mislabel": ("cat>Dog", "5>frog")},
        ["mislabel has a class on both sides; accepted are pairs of two different classes."],
    ),
    "attack": ({"attack": "magic"}, [f"attack was 'magic'; accepted are {', '.join(PRESETS)}."]),
    "label strategy": (
        {"label_strategy": "guess"},
        [f"label_strategy was 'guess'; accepted are {', '.join(STRATEGIES)}, true."],
    ),
    "model and data set": (
        {"model": "vgg", "dataset": "emnist"},
        [
            f"dataset was 'emnist'; accepted are {', '.join(DATASETS)}.",
            f"model was 'vgg'; accepted are {', '.join(MODELS)}.",
        ],
    ),
    "a learning rate for a line search": (
        {"attack": "dlg", "learning_rate": 0.1},
        ["learning_rate is no setting of dlg, whose solver finds its own steps; leave it out."],
    ),
    "a device that is not there": (
        {"device": "cuda:99"},
        [f"device was 'cuda:99', this machine has {torch.cuda.device_count()} CUDA devices; take auto or cpu."],
    ),
}


@pytest.mark.parametrize(("values", "problems"), REFUSALS.values(), ids=REFUSALS.keys())
def test_what_cannot_run_is_refused_before_it_starts(values: dict[str, Any], problems: list[str]) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        check(Scenario(**values))
    assert list(refusal.value.problems) == problems
    with pytest.raises(UnsupportedScenario):
        next(run(Scenario(**values)))


def test_a_stage_nobody_trained() -> None:
    with pytest.raises(UnsupportedScenario, match=r"^stage of resnet18 was 'ripe'; accepted are untrained"):
        check(Scenario(model="resnet18", stage="ripe"))


def test_a_checkpoint_that_does_not_fit_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path)
    trained = target_model(Scenario(seed=5))
    checkpoints.save(trained, tmp_path / "lenet64-elu--cifar10--late.safetensors", epochs=5, accuracy=0.68)
    scenario = Scenario(stage="late", indices=(0,), max_iterations=1)
    check(scenario)
    prepared = events_of(scenario)[0]
    assert isinstance(prepared, Prepared) and prepared.stage_note == "late: 5 epochs, 68 % accuracy"
    model = target_model(scenario)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True))
    state = torch.random.get_rng_state()
    with pytest.raises(
        UnsupportedScenario, match=r"^lenet64-elu--cifar10--late.safetensors was trained for an image_size of 32"
    ):
        check(scenario.changed(image_size=64))
    assert torch.equal(torch.random.get_rng_state(), state)


def test_too_little_memory_is_said_before_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    available = psutil.virtual_memory()._replace(available=10_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    with pytest.raises(OutOfMemory) as refusal:
        events_of(Scenario(batch_size=8, model="resnet18", device="cpu"))
    assert "A batch of 8 at 32 pixels with resnet18 needs about" in str(refusal.value)
    assert "the device has 0.0 GB free; make the batch or the images smaller" in str(refusal.value)


def test_running_out_of_memory_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def greedy(*_: object, **__: object) -> Iterator[Iterate]:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        yield

    monkeypatch.setattr(attack, "reconstruct", greedy)
    with pytest.raises(OutOfMemory) as refusal:
        events_of(QUICK)
    assert str(refusal.value) == (
        "A batch of 3 at 32 pixels with lenet64-elu needs more memory than the device has; make the batch or the "
        "images smaller, or take fewer restarts."
    )


def test_pixel_exactness_is_noticed() -> None:
    """The judge, shown the truth in another order, finds every image and says so."""
    from deepleak_core.data.batches import load_batch

    batch, model = load_batch(QUICK), target_model(QUICK)
    judge = Judge(batch, QUICK)
    inputs = model.normalise(batch.images.flip(0))[None]
    snapshot = judge.snapshot(model, Iterate(4, inputs, 0.0, torch.tensor([0.0]), 0.0, 1.0), (3, 6, 8), 2.5, 1.0)
    assert np.array_equal(snapshot.images, metrics.to_8bit(batch.images).permute(0, 2, 3, 1).numpy())
    assert snapshot.labels == (8, 6, 3)
    assert judge.time_to == {"psnr20": 2.5, "psnr30": 2.5, "pixel_exact": 2.5}
