"""Whole runs of scenarios: events with scores, every setting once, and what is refused before the start."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.errors import DeepLeakError, OutOfMemory, UnsupportedScenario
from deepleak_core.events import (
    Event,
    Finished,
    GroundTruthKnown,
    LabelsInferred,
    Prepared,
    Snapshot,
    Stage,
    UpdateShared,
    from_message,
    from_png,
    in_private_order,
    to_message,
)
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs import run as run_module
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario
from tests.helpers import all_of, end_of, only

QUICK = Scenario(indices=(0, 1, 4), max_iterations=30)


def events_of(scenario: Scenario, **options: Any) -> list[Event]:
    return list(run(scenario, **options))


def score_of(events: list[Event]) -> Any:
    return end_of(events).score


@pytest.fixture(scope="module")
def quick() -> list[Event]:
    return events_of(QUICK)


# ------------------------------------------------------------------------------------------------- events


def test_events_come_in_order(quick: list[Event]) -> None:
    kinds = [kind for kind, _ in itertools.groupby(quick, type)]
    assert kinds == [Prepared, GroundTruthKnown, UpdateShared, LabelsInferred, Stage, Snapshot, Finished]


def test_public_facts_and_ground_truth_are_apart(quick: list[Event]) -> None:
    prepared, truth = only(Prepared, quick), only(GroundTruthKnown, quick)
    assert len(prepared.class_names) == 10
    assert prepared.parameters == sum(only(UpdateShared, quick).sizes)
    assert truth.labels == (3, 8, 6)
    assert [from_png(picture).shape for picture in truth.pictures] == [(3, 32, 32)] * 3
    public = {field.name for field in fields(Prepared)}
    assert not public & {"labels", "pictures", "images", "indices"}


def test_labels_and_images_are_scored(quick: list[Event]) -> None:
    inferred, score = only(LabelsInferred, quick), score_of(quick)
    assert inferred.score is not None
    assert inferred.score.exact
    assert inferred.score.true_counts == inferred.counts
    snapshots = all_of(Snapshot, quick)
    assert all(snapshot.score is not None for snapshot in snapshots)
    first, last = snapshots[0].score, snapshots[-1].score
    assert first is not None
    assert last is not None
    assert last.mean_psnr > first.mean_psnr + 2
    assert score.psnr == last.psnr
    assert score.mean_psnr > score.noise_psnr


def test_figures_are_those_of_the_pictures(quick: list[Event]) -> None:
    """Measured again from the PNG pictures, in the order of the private ones."""
    truth = np.stack([from_png(picture) for picture in only(GroundTruthKnown, quick).pictures])
    shown, score = all_of(Snapshot, quick)[-1], score_of(quick)
    rebuilt = np.stack([from_png(p) for p in in_private_order(shown.pictures(), shown.score)])
    mse = ((rebuilt - truth) ** 2).mean((1, 2, 3))
    assert score.psnr == pytest.approx(-10 * np.log10(mse), abs=0.1)  # pictures are rounded to 8 bits
    worst = np.abs((rebuilt * 255).round() - (truth * 255).round()).max((1, 2, 3))
    assert list(score.max_error_8bit) == worst.tolist()


def test_events_survive_messages(quick: list[Event]) -> None:
    for event in quick:
        returned = from_message(msgpack.unpackb(msgpack.packb(to_message(event))))
        for field in fields(event):
            before, after = getattr(event, field.name), getattr(returned, field.name)
            if isinstance(before, np.ndarray):
                assert np.abs(before - after).max() <= 0.51 / 255
            else:
                assert before == after


def test_the_same_scenario_gives_the_same_result(quick: list[Event]) -> None:
    again = events_of(QUICK)
    assert np.array_equal(all_of(Snapshot, again)[-1].images, all_of(Snapshot, quick)[-1].images)
    assert score_of(again).psnr == score_of(quick).psnr
    assert end_of(again).residual == end_of(quick).residual
    assert score_of(events_of(QUICK.changed(seed=1))).psnr != score_of(quick).psnr


def test_it_leaks() -> None:
    """The point of it all, in the shortest form: one image by L-BFGS."""
    end = end_of(events_of(Scenario(indices=(0,), attack="dlg", max_iterations=100)))
    assert end.score is not None
    assert end.score.outcomes == ("recovered",)
    assert min(end.score.psnr) > 30
    assert end.score.ssim[0] > 0.9
    times = end.score.time_to
    assert times["psnr20"] <= times["psnr30"] <= end.seconds  # type: ignore[operator]


def test_a_callers_settings_are_restored_between_events() -> None:
    with torch.no_grad():
        events = []
        for event in run(QUICK.changed(max_iterations=3)):
            assert not torch.is_grad_enabled()
            events.append(event)
    assert end_of(events).reason == "iterations"
    flags = torch.backends.cudnn.deterministic
    list(run(QUICK.changed(max_iterations=1)))
    assert torch.backends.cudnn.deterministic == flags
    with torch.inference_mode():
        assert end_of(events_of(QUICK.changed(max_iterations=3))).residual == end_of(events).residual


# ------------------------------------------------------------------------------------------------- labels


@pytest.mark.parametrize("strategy", [*STRATEGIES, "true"])
def test_every_label_strategy_runs(strategy: str) -> None:
    inferred = only(LabelsInferred, events_of(QUICK.changed(label_strategy=strategy, max_iterations=1)))
    assert inferred.strategy == strategy
    assert sum(inferred.counts) == len(inferred.order) == 3


def test_labels_are_made_wrong_by_number_and_by_name() -> None:
    inferred = only(LabelsInferred, events_of(QUICK.changed(wrong_labels=1, max_iterations=1)))
    assert len(inferred.falsified) == 1
    assert inferred.found == (3, 6, 8)
    assert inferred.score is not None
    assert inferred.score.exact, "inference was right; the wrong label was put in"
    swaps = ("cat>dog", "ship>truck")
    inferred = only(LabelsInferred, events_of(QUICK.changed(mislabel=swaps, max_iterations=1)))
    assert inferred.order == (5, 6, 9)
    assert inferred.falsified == (0, 2)


def test_one_wrong_label_spoils_the_batch() -> None:
    scenario = Scenario(indices=(0, 1), max_iterations=150)
    right, wrong = (end_of(events_of(scenario.changed(wrong_labels=n))) for n in (0, 1))
    assert right.score is not None
    assert wrong.score is not None
    assert min(right.score.psnr) > max(wrong.score.psnr) + 3
    assert wrong.residual > 10 * right.residual


# --------------------------------------------------------------------------------------------- every setting once


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_runs(attack: str) -> None:
    end = end_of(events_of(Scenario(indices=(0, 4), attack=attack, max_iterations=3)))
    assert end.reason in ("iterations", "converged")
    assert end.score is not None
    assert np.isfinite(end.score.psnr).all()


@pytest.mark.parametrize("batchnorm", ["eval", "train"])
@pytest.mark.parametrize("model", MODELS)
def test_every_model_runs(model: str, batchnorm: str) -> None:
    end = end_of(events_of(Scenario(indices=(0, 4), model=model, batchnorm=batchnorm, max_iterations=2)))
    assert end.step == 2
    assert np.isfinite(end.residual)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["resnet18", "mobilenet-v2", "strided"])
def test_photos_at_full_size_among_a_thousand_classes(model: str) -> None:
    """A pair of one class: the round, the labels, and the first step of the attack."""
    photos = Scenario(dataset="imagenet-samples", image_size=224, indices=(6, 7), model=model, max_iterations=1)
    events = events_of(photos)
    inferred = only(LabelsInferred, events)
    assert inferred.score is not None
    assert inferred.score.exact
    assert len(only(Prepared, events).class_names) == 1000
    assert all_of(Snapshot, events)[-1].images.shape == (2, 3, 224, 224)
    assert np.isfinite(end_of(events).residual)


@pytest.mark.parametrize(
    "changed",
    [
        {"head_bias": False},
        {"restarts": 2},
        {"image_size": 48},
        {"batch_size": 1},
        {"prior": ("l2=0.1",)},
        {"setting": ("distance=squared-l2",)},
    ],
)
def test_settings_of_a_scenario_reach_the_attack(changed: dict[str, Any]) -> None:
    scenario = Scenario(**{"batch_size": 2, "max_iterations": 2, **changed})
    shown = all_of(Snapshot, events_of(scenario))[-1]
    assert shown.images.shape == (scenario.batch_size, 3, scenario.image_size, scenario.image_size)
    if not {"head_bias", "image_size", "batch_size"} & changed.keys():
        plain = all_of(Snapshot, events_of(Scenario(batch_size=2, max_iterations=2)))[-1]
        assert shown.loss != plain.loss


def test_stop_ends_with_a_last_snapshot() -> None:
    asked = itertools.count()
    events = events_of(QUICK.changed(max_iterations=10**6, label_strategy="true"), stop=lambda: next(asked) >= 20)
    assert end_of(events).reason == "stopped"
    assert score_of(events) is not None
    assert all_of(Snapshot, events)[-1].step == end_of(events).step


# ------------------------------------------------------------------------------------------------- greyscale


@pytest.fixture
def grey_folder(tmp_path: Path) -> str:
    """Two class folders of greyscale pictures."""
    rng = np.random.default_rng(0)
    for name in ("left", "right"):
        (tmp_path / name).mkdir()
        for i in range(2):
            pixels = np.kron(rng.integers(0, 256, (8, 8)), np.ones((4, 4))).astype(np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{i}.png")
    return str(tmp_path)


@pytest.mark.parametrize("attack", ATTACKS)
def test_greyscale_images_are_attacked(attack: str, grey_folder: str) -> None:
    scenario = Scenario(dataset="grey-folder", images=grey_folder, batch_size=2, attack=attack, max_iterations=3)
    events = events_of(scenario)
    assert all_of(Snapshot, events)[-1].images.shape == (2, 1, 32, 32)
    assert from_png(only(GroundTruthKnown, events).pictures[0]).shape == (1, 32, 32)
    assert score_of(events) is not None


# --------------------------------------------------------------------------------------------------- refusals


def test_too_little_memory_is_said_before_starting(monkeypatch: pytest.MonkeyPatch) -> None:
    available = psutil.virtual_memory()._replace(available=10_000_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: available)
    with pytest.raises(OutOfMemory) as refusal:
        events_of(Scenario(batch_size=8, model="resnet18", device="cpu"))
    assert "GB" in str(refusal.value)
    assert "resnet18" in str(refusal.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
    ],
)
def test_running_out_of_memory_is_explained(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def greedy(*_: object, **__: object) -> Iterator[Event]:
        raise error
        yield

    monkeypatch.setattr(run_module, "reconstruct", greedy)
    with pytest.raises(OutOfMemory) as refusal:
        events_of(QUICK)
    assert isinstance(refusal.value, DeepLeakError)
    assert "lenet64-elu" in str(refusal.value)


def test_what_cannot_run_is_refused_before_it_starts() -> None:
    for values in ({"attack": "magic"}, {"model": "vgg"}, {"dataset": "none"}, {"mislabel": ("bird>dog",)}):
        with pytest.raises(UnsupportedScenario):
            next(run(QUICK.changed(**values)))
