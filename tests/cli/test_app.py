"""The command line as a whole: options from settings, exit status, one line on stderr."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from deepleak_core.cli import app as cli
from deepleak_core.data import datasets
from deepleak_core.federated import models
from deepleak_core.runs import checks
from deepleak_core.scenario import Scenario

HERE = str(Path(__file__))
QUICK = ["--model", "lenet", "--max-iterations", "3"]


def example(name: str) -> str:
    """A value for each option that differs from its default."""
    known = {
        "image_size": "40",
        "indices": "5,0",
        "labels": "cat,dog",
        "composition": "random",
        "batchnorm": "train",
        "mode": "fedavg",
        "local_momentum": "0.5",
        "local_order": "known",
        "fedavg": "simulated",
        "device": "cpu",
        "mislabel": "cat>dog",
    }
    return known.get(name, "3")


@pytest.mark.parametrize("name", Scenario.model_fields)
@pytest.mark.parametrize("verb", ["attack", "labels"])
def test_every_setting_is_an_option(
    command: Callable[..., Any], verb: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each arrives in the scenario under its own name, and nothing else with it."""
    received: list[Scenario] = []

    def note(scenario: Scenario, **_: Any) -> Iterator[Any]:
        received.append(scenario)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("deepleak_core.runs.run.run", note)
    monkeypatch.setattr(checks, "check", lambda scenario: None)
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


def test_lists_can_be_given_in_parts(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    received: list[Scenario] = []

    def note(scenario: Scenario, **_: Any) -> Iterator[Any]:
        received.append(scenario)
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr("deepleak_core.runs.run.run", note)
    priors = ("--prior", "l2=1", "--prior", "total-variation=0.1,batchnorm=2")
    command("attack", "--indices", "0,1", "--indices", "4", *priors)
    expected = Scenario(indices=(0, 1, 4), prior=("l2=1", "total-variation=0.1", "batchnorm=2"))
    assert received == [expected]


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
    "an index": (["attack", "--indices", "99"], "cifar10-samples has the images 0 to 19"),
    "a folder": (["attack", "--images", "/nowhere"], "images was '/nowhere', which is no folder;"),
    "settings that clash": (
        ["attack", "--indices", "1", "--labels", "cat"],
        "Both indices and labels were given; give one of them.",
    ),
    "a folder for a file": (["attack", "--json", "/"], "--json was '/', which is a folder; name a file in it."),
    "a file for a folder": (["attack", "--out", HERE], f"--out was {HERE!r}; its folder cannot be made"),
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
        ["labels", "--json", f"{HERE}/out.json"],
        f"--json was '{HERE}/out.json'; its folder cannot be made",
    ),
}


@pytest.mark.parametrize(("arguments", "line"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_unusable_options_are_one_line_and_status_2(
    command: Callable[..., Any], arguments: list[str], line: str
) -> None:
    ended = command(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert line in ended.err
    assert ended.err.endswith("\n")
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["attack", "--indices", ",".join(map(str, range(4001)))],
        ["attack", "--indices", ",".join(["-1"] * 4000)],
        ["attack", "--model", "x" * 20_000],
        ["attack", "--json", "x/" * 10_000 + "out.json"],
        ["attack", "--batch-size", "\x1b[31m" * 5000],
        ["x" * 20_000],
        ["train", "--data", "/nowhere", "--stages", "a,b" * 5000],
    ],
    ids=lambda arguments: " ".join(arguments)[:20],
)
def test_refusals_are_short_and_harmless_whatever_was_given(command: Callable[..., Any], arguments: list[str]) -> None:
    ended = command(*arguments)
    assert ended.status == 2
    assert ended.out == ""
    assert len(ended.err) < 700
    assert ended.err.count("\n") == 1
    assert ended.err[:-1].isprintable()


def test_threads_are_the_environments(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_help_is_no_mistake(command: Callable[..., Any]) -> None:
    for arguments in (["--help"], ["attack", "--help"]):
        ended = command(*arguments)
        assert ended.status == 0
        assert ended.err == ""
        assert "Usage" in ended.out


def test_help_knows_the_fields(command: Callable[..., Any]) -> None:
    text = command("attack", "--help").out
    for name, field in Scenario.model_fields.items():
        assert f"--{name.replace('_', '-')}" in text
        assert str(field.description).split("`")[0].split()[0] in text
    assert "(default: lenet64-elu)" in text
    assert "distinct|pair|half|same|random" in text


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


def test_help_does_not_wait_for_pytorch() -> None:
    code = "import sys; from deepleak_core.cli.app import main; main(['--help']); assert 'torch' not in sys.modules"
    root = Path(cli.__file__).parents[2]
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert ended.returncode == 0, ended.stderr
