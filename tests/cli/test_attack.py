"""The command `attack`: its JSON, its images, its report, and how it ends."""

from __future__ import annotations

import json
import math
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from deepleak_core.data.batches import load_batch
from deepleak_core.data.images import to_tensor
from deepleak_core.errors import OutOfMemory
from deepleak_core.events import Event, Finished, GroundTruthKnown, LabelsInferred, LabelsRevised, Prepared, Snapshot
from deepleak_core.federated import capture
from deepleak_core.federated.case import observe
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario

RUN = "deepleak_core.runs.run.run"  # what the command iterates
QUICK = ["--model", "lenet", "--max-iterations", "3"]


def test_the_json_of_attack(command: Callable[..., Any], tmp_path: Path) -> None:
    ended = command("attack", "--indices", "0,1,3,4", *QUICK, "--json", str(tmp_path / "out.json"))
    assert ended.status == 0
    assert ended.err == ""
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
        "reason",
        "sentence",
        "noise_psnr",
        "grey_psnr",
        "mean_ssim",
        "certified_copies",
    ]
    scenario = Scenario(indices=(0, 1, 3, 4), model="lenet", max_iterations=3)
    assert Scenario(**values["scenario"]) == scenario
    assert set(values["scenario"]) == set(Scenario.model_fields)
    assert values["labels"] == {
        "true": [3, 8, 0, 6],
        "inferred": [0, 3, 6, 8],
        "made_wrong": None,
        "mended": None,
        "counts_true": [1, 0, 0, 1, 0, 0, 1, 0, 1, 0],
        "counts_inferred": [1, 0, 0, 1, 0, 0, 1, 0, 1, 0],
        "exact": True,
        "strategy": "zero-shot",
        "proven": False,
        "note": values["labels"]["note"],
    }
    assert [list(image) for image in values["images"]] == [
        ["label", "attacked_as", "psnr", "ssim", "max_error_8bit", "pixel_exact", "psnr_to_mean", "outcome", "fused"]
    ] * 4
    assert [image["label"] for image in values["images"]] == [3, 8, 0, 6]
    assert values["iterations"] == 3
    assert values["min_psnr"] == min(image["psnr"] for image in values["images"]) <= values["mean_psnr"]
    assert values["time_to"] == {"psnr20": None, "psnr30": None, "pixel_exact": None}
    assert [list(point) for point in values["trace"]] == [["step", "seconds", "residual", "mean_psnr"]] * len(
        values["trace"]
    )
    assert values["trace"][0]["step"] == 0
    assert values["trace"][-1]["step"] == 3


def test_the_images_of_attack(command: Callable[..., Any], tmp_path: Path) -> None:
    folder = tmp_path / "new" / "images"
    assert command("attack", "--indices", "0,4", *QUICK, "--out", str(folder)).status == 0
    names = ["private-0.png", "private-1.png", "rebuilt-0.png", "rebuilt-1.png", "sheet.png"]
    assert sorted(path.name for path in folder.iterdir()) == names
    private = to_tensor(Image.open(folder / "private-1.png"), 32)
    assert private.equal(load_batch(Scenario(indices=(4,))).images[0])
    assert all(Image.open(folder / name).size == (32, 32) for name in names[:-1])
    sheet = Image.open(folder / "sheet.png")
    assert min(sheet.size) > 64


def test_what_attack_says(command: Callable[..., Any]) -> None:
    ended = command("attack", "--labels", "frog,cat", *QUICK)
    assert ended.status == 0
    rows = [line.split() for line in ended.out.splitlines()]
    assert [row[0] for row in rows if row and row[0] in ("frog", "cat")] == ["frog", "cat"]
    assert "Labels by zero-shot: all right" in ended.out
    assert ended.out.strip().endswith(".")
    assert "private images" in ended.out.splitlines()[-1]


def changed(change: Callable[[Event], Event | None]) -> Callable[..., Iterator[Event]]:
    """A run whose events are changed, or left out where the change is None."""

    def changed_run(scenario: Scenario, **options: Any) -> Iterator[Event]:
        return (new for event in run(scenario, **options) if (new := change(event)) is not None)

    return changed_run


def without_truth(event: Event) -> Event | None:
    if isinstance(event, GroundTruthKnown):
        return None
    return (
        replace(event, score=None) if isinstance(event, LabelsInferred | LabelsRevised | Snapshot | Finished) else event
    )


def test_an_attack_without_a_ground_truth(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUN, changed(without_truth))
    path = tmp_path / "out.json"
    ended = command("attack", "--indices", "0,4", *QUICK, "--json", str(path), "--out", str(tmp_path / "images"))
    assert ended.status == 0
    assert ended.err == ""
    rows = [line.split() for line in ended.out.splitlines()]
    assert ["0", "cat"] in rows
    assert ["1", "frog"] in rows
    values = json.loads(path.read_text())
    assert values["mean_psnr"] is None
    assert values["labels"]["true"] is None
    names = sorted(file.name for file in (tmp_path / "images").iterdir())
    assert names == ["rebuilt-0.png", "rebuilt-1.png", "sheet.png"]


def test_nothing_of_a_class_name_is_obeyed_by_the_terminal(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def rename(event: Event) -> Event:
        if isinstance(event, Prepared):
            return replace(event, class_names=tuple(f"\x1b[31m{name}\x07[bold]" for name in event.class_names))
        return event

    monkeypatch.setattr(RUN, changed(rename))
    ended = command("attack", "--indices", "0,4", *QUICK)
    assert ended.status == 0
    assert "[31mcat" in ended.out
    assert "[bold]" in ended.out
    assert not set(ended.out) & {"\x1b", "\x07"}


# ------------------------------------------------------------------------------------------ captured updates


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Options that name the files of a captured update of two images."""
    weights, update = tmp_path / "weights.safetensors", tmp_path / "update.safetensors"
    capture.save(observe(Scenario(indices=(0, 4), model="lenet"))[0], weights, update)
    return ["--weights", str(weights), "--update", str(update)]


def test_a_captured_update_is_attacked(command: Callable[..., Any], files: list[str], tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    ended = command("attack", *files, *QUICK, "--json", str(path), "--out", str(tmp_path / "images"))
    assert ended.status == 0
    assert ended.err == ""
    assert "cat" in ended.out
    assert "frog" in ended.out
    assert "No ground truth" in ended.out
    values = json.loads(path.read_text())
    assert values["scenario"]["batch_size"] == 2
    assert values["iterations"] == 3
    assert values["labels"]["inferred"] == [3, 6]
    assert values["labels"]["true"] is None
    assert [image["psnr"] for image in values["images"]] == [None, None]
    assert sorted(p.name for p in (tmp_path / "images").iterdir()) == ["rebuilt-0.png", "rebuilt-1.png", "sheet.png"]


def test_facts_that_are_missing_in_the_files_are_given_as_options(command: Callable[..., Any], tmp_path: Path) -> None:
    """FedAvg weights without metadata."""
    scenario = Scenario(indices=(0, 4), model="lenet", mode="fedavg", local_batch_size=2)
    case, _ = observe(scenario)
    weights, update = tmp_path / "weights.safetensors", tmp_path / "update.safetensors"
    capture.save(case, weights, update)
    save_file(load_file(update), update)
    files = ["--weights", str(weights), "--update", str(update)]
    ended = command("attack", *files, *QUICK)
    assert ended.status == 2
    assert "batch_size" in ended.err
    facts = ["--batch-size", "2", "--mode", "fedavg", "--local-batch-size", "2"]
    ended = command("attack", *files, *QUICK, *facts, "--json", str(tmp_path / "out.json"))
    assert ended.status == 0
    assert json.loads((tmp_path / "out.json").read_text())["labels"]["inferred"] == [3, 6]


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--model", "convnet"], "weights"),
        (["--model", "nothing"], "model"),
        (["--indices", "0,4"], "indices"),
        (["--label-strategy", "true"], "label_strategy"),
        (["--mislabel", "ship>dog"], "mislabel"),
        (["--attack", "nothing"], "attack"),
        (["--update", "/nowhere"], "/nowhere"),
        (["--update", "/dev/null"], "/dev/null"),
        (["--dataset", "cifar100-samples"], "class"),
    ],
)
def test_what_does_not_fit_a_captured_update_is_unusable(
    command: Callable[..., Any], files: list[str], options: list[str], word: str
) -> None:
    ended = command("attack", *QUICK, *files, *options)
    assert ended.status == 2
    assert ended.out == ""
    assert word in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize("option", ["--weights", "--update"])
def test_one_file_of_a_captured_update_is_unusable(command: Callable[..., Any], files: list[str], option: str) -> None:
    ended = command("attack", option, files[1], *QUICK)
    assert ended.status == 2
    assert "--weights" in ended.err
    assert "--update" in ended.err


# ------------------------------------------------------------------------------------------ results to be written


@pytest.mark.parametrize(
    ("option", "path"),
    [("--json", "/proc/out.json"), ("--out", "/proc"), ("--json", f"{__file__}/out.json"), ("--out", __file__)],
)
def test_where_nothing_can_be_written_is_refused_before_the_start(
    command: Callable[..., Any], option: str, path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUN, lambda *_, **__: pytest.fail("the attack was started"))
    other = ("--out", str(tmp_path)) if option == "--json" else ("--json", str(tmp_path / "out.json"))
    ended = command("attack", *QUICK, *other, option, path)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith(f"{option} was '{path}'")
    assert ended.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == [], "the check leaves nothing behind"


@pytest.mark.parametrize("broken", ["--json", "--out"])
def test_a_result_that_cannot_be_written_is_still_shown(
    command: Callable[..., Any], broken: str, tmp_path: Path
) -> None:
    """A full disk, and a folder that was replaced meanwhile."""
    (tmp_path / "rebuilt-0.png").mkdir()
    options = {"--json": str(tmp_path / "out.json"), "--out": str(tmp_path / "new")}
    options |= {"--json": "/dev/full"} if broken == "--json" else {"--out": str(tmp_path)}
    ended = command("attack", "--indices", "0,4", *QUICK, *(text for pair in options.items() for text in pair))
    assert ended.status == 1
    assert broken in ended.err
    assert options[broken] in ended.err
    assert ended.err.count("\n") == 1
    assert "private images" in ended.out
    other = tmp_path / "new" / "sheet.png" if broken == "--json" else tmp_path / "out.json"
    assert other.exists(), "what could be written is there"


def test_a_file_that_exists_is_replaced(command: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    path.write_text("old")
    assert command("attack", "--indices", "0", *QUICK, "--json", str(path)).status == 0
    assert json.loads(path.read_text())["iterations"] == 3
    assert command("attack", "--indices", "0", *QUICK, "--json", "/dev/null").status == 0


# ------------------------------------------------------------------------------------------ how an attack ends


def breaking(error: BaseException) -> Callable[..., Iterator[Event]]:
    """A run that is prepared and then breaks."""

    def broken(scenario: Scenario, **options: Any) -> Iterator[Event]:
        for event in run(scenario, **options):
            yield event
            if isinstance(event, Prepared):
                raise error

    return broken


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OutOfMemory("It does\nnot fit."), "It does not fit.\n"),
        (RuntimeError("shapes differ"), "The work failed with RuntimeError: shapes differ\n"),
        (KeyboardInterrupt(), "Stopped before there was a result.\n"),
    ],
)
def test_an_attack_that_breaks_is_one_line_and_status_1(
    command: Callable[..., Any], error: BaseException, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(RUN, breaking(error))
    ended = command("attack", "--batch-size", "1", *QUICK)
    assert ended.status == 1
    assert ended.out == ""
    assert ended.err.lstrip("\n") == line


def test_a_swap_of_labels_that_the_batch_does_not_have_is_unusable(command: Callable[..., Any]) -> None:
    ended = command("attack", "--labels", "ship,dog", "--mislabel", "cat>dog", *QUICK)
    assert ended.status == 2
    assert ended.out == ""
    assert ended.err.startswith("mislabel")
    assert ended.err.count("\n") == 1


def test_an_attack_that_diverges_still_leaves_its_json(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def diverge(event: Event) -> Event:
        if isinstance(event, Finished):
            return replace(event, reason="diverged", sentence="Its loss became nan.", residual=math.nan)
        return event

    monkeypatch.setattr(RUN, changed(diverge))
    path = tmp_path / "out.json"
    ended = command("attack", *QUICK, "--json", str(path))
    assert ended.status == 1
    assert ended.err == "Its loss became nan.\n"
    values = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert values["residual"] is None
    assert values["reason"] == "diverged"


def test_an_interrupt_stops_and_keeps_what_there_is(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C at the second snapshot of an endless attack."""

    def pressed(scenario: Scenario, **options: Any) -> Iterator[Event]:
        snapshots = 0
        for event in run(scenario, **options):
            yield event
            snapshots += isinstance(event, Snapshot)
            if snapshots == 2:
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(RUN, pressed)
    before = signal.getsignal(signal.SIGINT)
    path = tmp_path / "out.json"
    ended = command("attack", "--model", "lenet", "--max-iterations", "1000000", "--json", str(path))
    assert ended.status == 0
    values = json.loads(path.read_text())
    assert 0 < values["iterations"] < 1000000
    assert values["reason"] == "stopped"
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("start", ["shared", "independent"])
def test_images_that_share_a_label_start_as_asked(command: Callable[..., Any], tmp_path: Path, start: str) -> None:
    ended = command(
        "attack", "--indices", "4,5", *QUICK, "--setting", f"start={start}", "--out", str(tmp_path)
    )  # fmt: skip
    assert ended.status == 0
    first, second = (to_tensor(Image.open(path), 32) for path in sorted(tmp_path.glob("rebuilt*")))
    assert first.equal(second) == (start == "shared")


def test_a_start_that_is_none_is_refused(command: Callable[..., Any]) -> None:
    ended = command("attack", "--indices", "4,5", *QUICK, "--setting", "start=elsewhere")
    assert ended.status == 2
    assert "shared, independent" in ended.err
