"""The command `record`: a YAML file becomes an archive, or one line says why not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepleak_core.runs.recording import load

SCRIPT = """
name: two-photos
title: Two photos
sentence: The client shares one gradient.
page: wrong-label
runs:
  - {indices: [0, 4], model: lenet, max_iterations: 3}
  - {indices: "0,4", model: lenet, max_iterations: 3, mislabel: [cat>dog]}
"""
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nruns: [*b, *b]"
REFUSED = {
    "empty": "",
    "a list": "- 1",
    "no YAML": "a: [",
    "control characters": "a: \x00",
    "an object": "name: !!python/object/apply:os.system [echo]",
    "aliases": BOMB,
    "deep": "[" * 5000,
    "no runs": SCRIPT.partition("runs:")[0],
    "an empty list of runs": SCRIPT.partition("runs:")[0] + "runs: []",
    "too many runs": SCRIPT + "  - {}\n" * 10,
    "an unknown key": SCRIPT + "speed: 1",
    "an unknown page": SCRIPT.replace("wrong-label", "admin"),
    "a name that is no link": SCRIPT.replace("two-photos", "Two photos!"),
    "an unknown setting": SCRIPT.replace("mislabel", "misslabel"),
    "settings that are none": SCRIPT.replace("[0, 4]", "[0, 0]"),
    "an image that there is not": SCRIPT.replace("[0, 4]", "[0, 4000]"),
    "too long": SCRIPT + "#" * 200_000,
}


@pytest.fixture
def script(tmp_path: Path) -> Path:
    path = tmp_path / "script.yaml"
    path.write_text(SCRIPT)
    return path


def test_runs_are_recorded_beside_the_script(command: Callable[..., Any], script: Path) -> None:
    ended = command("record", str(script))
    assert ended.status == 0, ended.err
    recording = load(script.with_suffix(".zip"))
    assert (recording.name, recording.page) == ("two-photos", "wrong-label")
    assert [run.scenario.mislabel for run in recording.runs] == [None, ("cat>dog",)]
    assert [run.finished.step for run in recording.runs] == [3, 3]


def test_the_archive_goes_where_out_says(command: Callable[..., Any], script: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "a.zip"
    assert command("record", str(script), "--out", str(out)).status == 0
    assert load(out).title == "Two photos"
    assert not script.with_suffix(".zip").exists()


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED)
def test_an_unusable_script_is_refused_in_one_line(command: Callable[..., Any], script: Path, text: str) -> None:
    script.write_text(text)
    ended = command("record", str(script))
    assert ended.status == 2
    assert ended.out == ""
    assert len(ended.err.strip().splitlines()) == 1
    assert not script.with_suffix(".zip").exists()


def test_paths_that_cannot_be_used_are_refused(command: Callable[..., Any], script: Path, tmp_path: Path) -> None:
    for arguments in ([str(tmp_path / "none.yaml")], [str(tmp_path)], [str(script), "--out", str(tmp_path)], []):
        ended = command("record", *arguments)
        assert ended.status == 2
        assert len(ended.err.strip().splitlines()) == 1
