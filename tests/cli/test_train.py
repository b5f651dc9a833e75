"""The command `train`: its options, its lines, and how it ends."""

from __future__ import annotations

import inspect
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from deepleak_core.errors import TrainingDiverged
from deepleak_core.federated import checkpoints, training
from deepleak_core.scenario import Scenario

TRAINING = ["--model", "lenet64-relu", "--batch-size", "2", "--stages", "early=0.5,late=3"]


def test_a_stage_that_was_trained_is_attacked(
    command: Callable[..., Any], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path / "new"))
    out = tmp_path / "new" / "checkpoints"
    ended = command("train", "--data", str(photos), *TRAINING)
    assert ended.status == 0
    assert ended.err == ""
    paths = [out / f"lenet64-relu--cifar10--{stage}.safetensors" for stage in ("early", "late")]
    early, late = ended.out.splitlines()
    assert early == f"{paths[0]}: 0.5 epochs, {checkpoints.describe(paths[0]).split(', ')[1]}"
    assert late == f"{paths[1]}: 3 epochs, 100 % accuracy"
    ended = command("attack", "--stage", "late", "--indices", "0", "--model", "lenet64-relu", "--max-iterations", "3")
    assert ended.status == 0
    assert "Target model: LeNet-64 (ReLU), late: 3 epochs, 100 % accuracy." in ended.out


def test_every_setting_of_training_is_an_option(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each arrives under its own name, and what is left out is as `training.train` has it."""
    received: list[dict[str, Any]] = []

    def note(model: str, **settings: Any) -> Iterator[training.Progress]:
        received.append({"model": model, **settings})
        return iter(())

    parameters = inspect.signature(training.train).parameters
    monkeypatch.setattr(training, "train", note)
    given = {
        "model": "lenet", "data": Path("d"), "dataset": "cifar100", "image_size": 40, "batch_size": 3,
        "learning_rate": 0.5, "limit": 7, "seed": 1, "device": "cpu", "out": Path("o"),
    }  # fmt: skip
    options = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    assert command("train", *options, "--stages", "a=1, b=2.5").status == 0
    assert command("train", "--data", "d").status == 0
    assert set(parameters) == set(received[0]) == {*given, "stages"}
    assert received[0] == given | {"stages": {"a": 1.0, "b": 2.5}}
    defaults = {name: value.default for name, value in parameters.items() if value.default is not value.empty}
    del defaults["out"]  # not passed on unless given
    assert received[1] == defaults | {
        "model": Scenario().model, "data": Path("d"), "stages": {"early": 0.25, "late": 5.0}
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (TrainingDiverged("It went\nastray."), "It went astray.\n"),
        (OSError("disk full"), "The work failed with OSError: disk full\n"),
        (KeyboardInterrupt(), "Stopped before the last stage; what was saved until then is kept.\n"),
    ],
)
def test_a_training_that_breaks_is_one_line_and_status_1(
    command: Callable[..., Any], photos: Path, tmp_path: Path, error: BaseException, line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real = training.train

    def broken(*arguments: Any, **settings: Any) -> Iterator[training.Progress]:
        for step in real(*arguments, **settings):
            yield step
            if isinstance(step, training.Saved):
                raise error

    monkeypatch.setattr(training, "train", broken)
    ended = command("train", "--data", str(photos), *TRAINING, "--out", str(tmp_path / "out"))
    assert ended.status == 1
    assert ended.out.count("\n") == 1, "the early stage is there"
    assert ended.err.lstrip("\n") == line


def test_an_interrupt_stops_training_and_keeps_its_stages(
    command: Callable[..., Any], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C once, some steps after the early stage."""
    real = training.train
    steps_after = []

    def pressed(*arguments: Any, **settings: Any) -> Iterator[training.Progress]:
        saved = False
        for step in real(*arguments, **settings):
            if saved:
                steps_after.append(step)
                signal.raise_signal(signal.SIGINT)
            saved = saved or isinstance(step, training.Saved)
            yield step

    monkeypatch.setattr(training, "train", pressed)
    before = signal.getsignal(signal.SIGINT)
    ended = command("train", "--data", str(photos), *TRAINING, "--out", str(tmp_path / "out"))
    assert ended.status == 1
    assert ended.err == "Stopped before the last stage; what was saved until then is kept.\n"
    assert len(steps_after) == 1, "it goes on for no further step"
    assert [path.stem for path in (tmp_path / "out").iterdir()] == ["lenet64-relu--cifar10--early"]
    assert signal.getsignal(signal.SIGINT) is before
