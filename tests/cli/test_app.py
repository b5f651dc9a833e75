"""The command line is a contract: keys, exit status, one line on stderr."""

from __future__ import annotations

import inspect
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from deepleak_core.attack import run as attack
from deepleak_core.attack.presets import PRESETS
from deepleak_core.cli import app as cli
from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch
from deepleak_core.data.images import to_tensor
from deepleak_core.errors import OutOfMemory, TrainingDiverged
from deepleak_core.events import Event, Prepared, Snapshot
from deepleak_core.federated import checkpoints, models, training
from deepleak_core.federated.case import target_model
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.scenario import Scenario

QUICK = ["--model", "lenet", "--max-iterations", "3"]


@dataclass
class Ended:
    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ended]:
    """Run one command in this process."""
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Ended:
        status = cli.main(arguments)
        captured = capsys.readouterr()
        return Ended(status, captured.out, captured.err)

    return run


# ------------------------------------------------------------------------------------------------- contracts


def test_the_json_of_attack(command: Callable[..., Ended], tmp_path: Path) -> None:
    ended = command("attack", "--indices", "0,1,3,4", *QUICK, "--json", str(tmp_path / "out.json"))
    assert ended.status == 0 and ended.err == ""
    values = json.loads((tmp_path / "out.json").read_text())
    assert list(values) == [
        "scenario",
        "device",
        "elapsed_s",
        "iterations",
        "residual",
        "labels",
        "images",
        "mean_psnr",
        "min_psnr",
        "fusion",
        "time_to",
        "trace",
    ]
    scenario = Scenario(indices=(0, 1, 3, 4), model="lenet", max_iterations=3)
    assert Scenario(**values["scenario"]) == scenario and set(values["scenario"]) == set(Scenario.model_fields)
    assert values["labels"] == {
        "true": [3, 8, 0, 6],
        "inferred": [0, 3, 6, 8],
        "made_wrong": None,
        "mended": None,
        "counts_true": [1, 0, 0, 1, 0, 0, 1, 0, 1, 0],
        "counts_inferred": [1, 0, 0, 1, 0, 0, 1, 0, 1, 0],
        "exact": True,
    }
    assert [list(image) for image in values["images"]] == [
        ["label", "attacked_as", "psnr", "ssim", "max_error_8bit", "pixel_exact", "psnr_to_mean"]
    ] * 4
    assert [image["label"] for image in values["images"]] == [3, 8, 0, 6]
    assert values["iterations"] == 3
    assert values["min_psnr"] == min(image["psnr"] for image in values["images"]) <= values["mean_psnr"]
    assert values["time_to"] == {"psnr20": None, "psnr30": None, "pixel_exact": None}
    assert [list(point) for point in values["trace"]] == [["step", "seconds", "residual", "mean_psnr"]] * len(
        values["trace"]
    )
    assert values["trace"][0]["step"] == 0 and values["trace"][-1]["step"] == 3


def test_the_pictures_of_attack(command: Callable[..., Ended], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pictures"
    assert command("attack", "--indices", "0,4", *QUICK, "--out", str(folder)).status == 0
    names = ["private-0.png", "private-1.png", "rebuilt-0.png", "rebuilt-1.png", "sheet.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    private = to_tensor(Image.open(folder / "private-1.png"), 32)
    assert private.equal(load_batch(Scenario(indices=(4,))).images[0])
    assert all(Image.open(folder / name).size == (32, 32) for name in names[:-1])
    sheet = Image.open(folder / "sheet.png")
    assert min(sheet.size) > 64


def test_what_attack_says(command: Callable[..., Ended]) -> None:
    ended = command("attack", "--labels", "frog,cat", *QUICK)
    assert ended.status == 0
    rows = [line.split() for line in ended.out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("frog", "cat")] == ["frog", "cat"]
    assert "Labels by zero-shot: all right" in ended.out
    assert ended.out.strip().endswith(".") and "private images" in ended.out.splitlines()[-1]


@pytest.mark.parametrize("repeats", [1, 3])
def test_the_json_of_labels(command: Callable[..., Ended], tmp_path: Path, repeats: int) -> None:
    arguments = ["--model", "lenet", "--composition", "pair", "--repeats", str(repeats)]
    ended = command("labels", *arguments, "--json", str(tmp_path / "out.json"))
    assert ended.status == 0 and ended.err == ""
    values = json.loads((tmp_path / "out.json").read_text())
    assert list(values) == ["scenario", "repeats", "strategies"]
    assert Scenario(**values["scenario"]) == Scenario(model="lenet", composition="pair")
    assert values["repeats"] == repeats
    assert list(values["strategies"]) == list(STRATEGIES)
    keys = ["exact_rate", "instance_accuracy", "presence_accuracy", "proven_rate", "wrongly_proven", "seconds"]
    assert all(list(score) == keys for score in values["strategies"].values())
    zero_shot = values["strategies"]["zero-shot"]
    assert zero_shot["exact_rate"] == zero_shot["instance_accuracy"] == zero_shot["presence_accuracy"] == 1
    assert values["strategies"]["gradinversion"]["exact_rate"] == 0, "it believes that no label repeats"
    assert all(name in ended.out for name in STRATEGIES)
    of = f"{repeats} batch{'es' if repeats > 1 else ''} of 4 images, 10 classes"
    assert f"Label inference, fedsgd, lenet untrained: {of}" in ended.out


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """train/ and test/ with two images of two classes each, one class dark, one bright."""
    root = tmp_path / "photos"
    for split in ("train", "test"):
        for name, value in (("cat", 30), ("ship", 220)):
            (root / split / name).mkdir(parents=True)
            for i in range(2):
                Image.new("RGB", (32, 32), (value, value, 100 + i)).save(root / split / name / f"{i}.jpg")
    return root


TRAINING = ["--model", "lenet64-relu", "--batch-size", "2", "--stages", "early=0.5,late=3"]


def test_a_stage_that_was_trained_is_attacked(
    command: Callable[..., Ended], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "new" / "checkpoints"
    ended = command("train", "--data", str(photos), *TRAINING, "--out", str(out))
    assert ended.status == 0 and ended.err == ""
    paths = [out / f"lenet64-relu--cifar10--{stage}.safetensors" for stage in ("early", "late")]
    early, late = ended.out.splitlines()
    assert early == f"{paths[0]}: 0.5 epochs, {checkpoints.describe(paths[0]).split(', ')[1]}"
    assert late == f"{paths[1]}: 3 epochs, 100 % accuracy"
    monkeypatch.setattr(models, "CHECKPOINTS", out)
    ended = command("attack", "--stage", "late", "--indices", "0", "--model", "lenet64-relu", "--max-iterations", "3")
    assert ended.status == 0
    assert "Target model: LeNet-64 (ReLU), late: 3 epochs, 100 % accuracy." in ended.out


def test_every_setting_of_training_is_an_option(command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert received[1] == defaults | {
        "model": Scenario().model, "data": Path("d"), "stages": {"early": 0.25, "late": 5.0}
    }  # fmt: skip


def test_list_names_everything_there_is(command: Callable[..., Ended]) -> None:
    ended = command("list")
    assert ended.status == 0
    words = ended.out.split()
    for name in (*datasets.DATASETS, *models.MODELS, *PRESETS, *STRATEGIES, "true", "untrained"):
        assert name in words, name


def test_list_names_trained_stages(
    command: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = target_model(Scenario(dataset="cifar100-samples", model="lenet"))
    checkpoints.save(trained, tmp_path / "lenet--cifar100--late.safetensors", epochs=5, accuracy=0.684)
    (tmp_path / "lenet--cifar10--early.safetensors").touch()
    monkeypatch.setattr(models, "CHECKPOINTS", tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    told = command("list").out
    assert "late: 5 epochs, 68 % accuracy (cifar100)" in told
    assert "early: unreadable (cifar10)" in told, "a broken file is seen, and breaks no list"


def example(name: str) -> str:
    """A value for each option that differs from its default."""
    known = {
        "image_size": "40",
        "indices": "5,0",
        "labels": "cat,dog",
        "composition": "random",
        "batchnorm": "train",
        "mode": "fedavg",
        "fedavg": "simulated",
        "device": "cpu",
        "mislabel": "cat>dog",
    }
    return known.get(name, "3")


@pytest.mark.parametrize("name", Scenario.model_fields)
@pytest.mark.parametrize("verb", ["attack", "labels"])
def test_every_setting_is_an_option(
    command: Callable[..., Ended], verb: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each arrives in the scenario under its own name, and nothing else with it."""
    received: list[Scenario] = []

    def note(scenario: Scenario, **_: Any) -> Iterator[Any]:
        received.append(scenario)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(attack, "run", note)
    monkeypatch.setattr(attack, "check", lambda scenario: None)
    monkeypatch.setattr(datasets, "prepare", note)
    flag = name.replace("_", "-")
    boolean = Scenario.model_fields[name].annotation in (bool, bool | None)
    value = not Scenario.model_fields[name].default if boolean else example(name)
    needed = {"mode": "fedavg"} if name.startswith("local_") or name == "fedavg" else {}
    arguments = [f"--{flag}" if value else f"--no-{flag}"] if boolean else [f"--{flag}", str(value)]
    for other, given in needed.items():
        arguments += [f"--{other}", given]
    command(verb, *arguments)
    assert received == [Scenario(**{name: value, **needed})]


# ---------------------------------------------------------------------------------------- unusable: status 2

UNUSABLE: dict[str, tuple[list[str], str]] = {
    "no command": ([], "Missing command. See python -m deepleak_core --help."),
    "unknown command": (["atack"], "No such command 'atack'"),
    "unknown option": (["attack", "--colour", "red"], "No such option: --colour"),
    "option without value": (["attack", "--model"], "Option '--model' requires an argument."),
    "a word for a number": (["attack", "--batch-size", "four"], "batch_size was 'four'; accepted are whole numbers."),
    "a word for repeats": (["labels", "--repeats", "many"], "Invalid value for '--repeats'"),
    "no repeats": (["labels", "--repeats", "0"], "Invalid value for '--repeats'"),
    "a choice": (["attack", "--mode", "fedprox"], "mode was 'fedprox'; accepted are fedsgd, fedavg."),
    "a name": (["attack", "--model", "vgg"], f"model was 'vgg'; accepted are {', '.join(models.MODELS)}."),
    "a name for labels": (["labels", "--model", "vgg"], f"model was 'vgg'; accepted are {', '.join(models.MODELS)}."),
    "an index": (["attack", "--indices", "99"], "indices were 99; cifar10-samples has the images 0 to 19."),
    "a folder": (["attack", "--images", "/nowhere"], "images was '/nowhere', which is no folder;"),
    "settings that clash": (
        ["attack", "--indices", "1", "--labels", "cat"],
        "Both indices and labels were given; give one of them.",
    ),
    "a folder for a file": (["attack", "--json", "/"], "--json was '/', which is a folder; name a file in it."),
    "a file for a folder": (["attack", "--out", __file__], f"--out was {__file__!r}; its folder cannot be made"),
    "training on nothing": (["train"], "Missing option '--data'."),
    "training without folders": (["train", "--data", "/nowhere"], "data was '/nowhere', which has no folder 'train';"),
    "stages without epochs": (
        ["train", "--data", "/nowhere", "--stages", "early,late"],
        "--stages was 'early,late'; accepted are different names with their epochs, such as early=0.25,late=5.",
    ),
    "epochs that are no number": (
        ["train", "--data", "/nowhere", "--stages", "late=many"],
        "--stages was 'late=many';",
    ),
    "a stage named twice": (
        ["train", "--data", "/nowhere", "--stages", "late=1,late=2"],
        "--stages was 'late=1,late=2'; accepted are different names with their epochs",
    ),
    "a stage of no epochs": (["train", "--data", "/nowhere", "--stages", "late=0"], "stages had late=0; accepted are"),
    "a path through a file": (
        ["labels", "--json", f"{__file__}/out.json"],
        f"--json was '{__file__}/out.json'; its folder cannot be made",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_unusable_options_are_one_line_and_status_2(
    command: Callable[..., Ended], arguments: list[str], line: str
) -> None:
    ended = command(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith(line) and ended.err.endswith("\n") and ended.err.count("\n") == 1


def test_threads_are_the_environments(command: Callable[..., Ended], monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.get_num_threads()
    monkeypatch.setenv("DEEPLEAK_THREADS", "2")
    try:
        assert "on CPU, 2 threads" in command("attack", "--device", "cpu", *QUICK).out
    finally:
        torch.set_num_threads(before)
    monkeypatch.setenv("DEEPLEAK_THREADS", "many")
    ended = command("list")
    assert ended.status == 2
    assert ended.err == "DEEPLEAK_THREADS was 'many'; accepted is a number from 1 up, or leave it unset.\n"


def test_help_is_no_mistake(command: Callable[..., Ended]) -> None:
    for arguments in (["--help"], ["attack", "--help"]):
        ended = command(*arguments)
        assert ended.status == 0 and ended.err == "" and "Usage" in ended.out


def test_help_knows_the_fields(command: Callable[..., Ended]) -> None:
    text = command("attack", "--help").out
    for name, field in Scenario.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert str(field.description).split("`")[0].split()[0] in text
    assert "(default: lenet64-elu)" in text and "distinct|pair|half|same|random" in text


# ------------------------------------------------------------------------------------------ failed: status 1


def story(*ends: BaseException) -> Callable[..., Iterator[Event]]:
    """A run that is prepared and then breaks."""
    real = attack.run

    def run(scenario: Scenario, **options: Any) -> Iterator[Event]:
        for event in real(scenario, **options):
            yield event
            if isinstance(event, Prepared):
                raise ends[0]

    return run


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OutOfMemory("It does\nnot fit."), "It does not fit.\n"),
        (RuntimeError("shapes differ"), "The work failed with RuntimeError: shapes differ\n"),
        (KeyboardInterrupt(), "Stopped before there was a result.\n"),
    ],
)
def test_an_attack_that_breaks_is_one_line_and_status_1(
    command: Callable[..., Ended], error: BaseException, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attack, "run", story(error))
    ended = command("attack", "--batch-size", "1", *QUICK)
    assert ended.status == 1 and ended.out == ""
    assert ended.err.lstrip("\n") == line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (TrainingDiverged("It went\nastray."), "It went astray.\n"),
        (OSError("disk full"), "The work failed with OSError: disk full\n"),
        (KeyboardInterrupt(), "Stopped before the last stage; what was saved until then is kept.\n"),
    ],
)
def test_a_training_that_breaks_is_one_line_and_status_1(
    command: Callable[..., Ended], photos: Path, tmp_path: Path, error: BaseException, line: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    real = training.train

    def broken(*arguments: Any, **settings: Any) -> Iterator[training.Progress]:
        for told in real(*arguments, **settings):
            yield told
            if isinstance(told, training.Saved):
                raise error

    monkeypatch.setattr(training, "train", broken)
    ended = command("train", "--data", str(photos), *TRAINING, "--out", str(tmp_path / "out"))
    assert ended.status == 1
    assert ended.out.count("\n") == 1, "the early stage is there"
    assert ended.err.lstrip("\n") == line


def test_an_attack_that_diverges_still_leaves_its_json(
    command: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = attack.target_model

    def broken(scenario: Scenario) -> models.TargetModel:
        model = real(scenario)
        model.body[0].bias.data.fill_(float("nan"))
        return model

    monkeypatch.setattr(attack, "target_model", broken)
    path = tmp_path / "out.json"
    ended = command("attack", "--label-strategy", "true", *QUICK, "--json", str(path))
    assert ended.status == 1
    assert ended.err.startswith("The attack broke off: its loss became nan") and ended.err.count("\n") == 1
    values = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert values["residual"] is None


# ------------------------------------------------------------------------------------------ a real process


def test_an_interrupt_stops_and_keeps_what_there_is(
    command: Callable[..., Ended], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the second snapshot of an endless attack."""
    real = attack.run

    def pressed(scenario: Scenario, **options: Any) -> Iterator[Event]:
        snapshots = 0
        for event in real(scenario, **options):
            yield event
            snapshots += isinstance(event, Snapshot)
            if snapshots == 2:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(attack, "run", pressed)
    before = signal.getsignal(signal.SIGINT)
    path = tmp_path / "out.json"
    ended = command("attack", "--model", "lenet", "--max-iterations", "1000000", "--json", str(path))
    assert ended.status == 0
    assert 0 < json.loads(path.read_text())["iterations"] < 1000000
    assert signal.getsignal(signal.SIGINT) is before


def test_an_interrupt_stops_training_and_keeps_its_stages(
    command: Callable[..., Ended], photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C once, some steps after the early stage."""
    real = training.train
    told_after = []

    def pressed(*arguments: Any, **settings: Any) -> Iterator[training.Progress]:
        saved = False
        for told in real(*arguments, **settings):
            if saved:
                told_after.append(told)
                signal.raise_signal(signal.SIGINT)
            saved = saved or isinstance(told, training.Saved)
            yield told

    monkeypatch.setattr(training, "train", pressed)
    before = signal.getsignal(signal.SIGINT)
    ended = command("train", "--data", str(photos), *TRAINING, "--out", str(tmp_path / "out"))
    assert ended.status == 1
    assert ended.err == "Stopped before the last stage; what was saved until then is kept.\n"
    assert len(told_after) == 1, "it goes on for no further step"
    assert [path.stem for path in (tmp_path / "out").iterdir()] == ["lenet64-relu--cifar10--early"]
    assert signal.getsignal(signal.SIGINT) is before


def test_python_dash_m(tmp_path: Path) -> None:
    """The module runs as a process of its own, and its status reaches the shell."""
    path = tmp_path / "out.json"
    for arguments, status, lines in (
        (["attack", "--batch-size", "2", *QUICK, "--json", str(path)], 0, 0),
        (["attack", "--batch-size", "none"], 2, 1),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "deepleak_core", *arguments],
            capture_output=True,
            text=True,
            cwd=Path(cli.__file__).parents[2],
        )
        assert (ended.returncode, ended.stderr.count("\n")) == (status, lines), ended.stderr
    assert len(json.loads(path.read_text())["images"]) == 2
