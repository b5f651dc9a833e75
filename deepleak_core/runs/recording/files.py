"""Recordings as zip archives: run.json with texts and numbers, private/RUN/0000.png, frames/RUN/0000.webp.

An archive may come from anywhere. Sizes are checked before anything is decoded, and all values by their types; texts
are as foreign as the file, so whoever draws them must escape them.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from deepleak_core.errors import UnusableRecording
from deepleak_core.runs.recording.archives import ADVICE, MOST_BYTES, Archive, packed
from deepleak_core.runs.recording.consistency import require_consistent
from deepleak_core.runs.recording.kept import MOST_RUNS, Recording
from deepleak_core.scenario import Scenario
from deepleak_core.text import json_values, shorten

FORMAT, FORMAT_VERSION = "deepleak-recording", 1
MOST_FRAMES_READ = 240  # of one run, in an archive
ENTRIES = {r"run\.json": 8 * 2**20, r"private/\d\/\d{4}\.png": 2**19, r"frames/\d/\d{4}\.webp": 12 * 2**20}


def save(recording: Recording) -> bytes:
    """A recording as the bytes of a zip archive. Paths of image folders are shortened to the folder's name.

    Numbers that are not finite become texts that `load` reads as those numbers.
    """
    entries: dict[str, bytes] = {}
    runs = []
    for number, run in enumerate(recording.runs):
        values = asdict(run)
        values["scenario"] = _portable(run.scenario).model_dump(mode="json")
        for place, picture in enumerate((values["truth"] or {}).pop("pictures", ())):
            entries[f"private/{number}/{place:04d}.png"] = picture
        for place, frame in enumerate(values["frames"]):
            entries[f"frames/{number}/{place:04d}.webp"] = frame.pop("pictures")
        runs.append(values)
    head = {"format": FORMAT, "format_version": FORMAT_VERSION}
    texts = {"name": recording.name, "title": recording.title, "sentence": recording.sentence, "page": recording.page}
    return packed({"run.json": json.dumps(json_values(head | texts | {"runs": runs}, str)).encode(), **entries})


def _portable(scenario: Scenario) -> Scenario:
    """The same scenario without the place of its image folder on this machine."""
    return scenario if scenario.images is None else scenario.changed(images=Path(scenario.images).name or "images")


def load(source: bytes | Path) -> Recording:
    """The recording in an archive. Raises `UnusableRecording` with a sentence for anything else."""
    archive = Archive(bytes_of(source), ENTRIES)
    values = described(archive)
    for number, run in enumerate(values["runs"]):
        _fill_in_pictures(archive, number, run)
    try:
        recording = _adapter().validate_python(values)
    except ValidationError as error:
        raise UnusableRecording(_sentence(error)) from error
    for number, run in enumerate(recording.runs):
        require_consistent(number, run)
    return recording


def bytes_of(source: bytes | Path) -> bytes:
    """The archive's bytes; of a file that is too large only so many that it is seen to be."""
    if isinstance(source, bytes):
        return source
    try:
        with source.open("rb") as file:
            return file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UnusableRecording(f"{shorten(str(source))} cannot be read ({error.strerror}); {ADVICE}") from error


def described(archive: Archive) -> dict[str, Any]:
    """The values in run.json as far as pictures can be added to them."""
    try:
        values = json.loads(archive.read("run.json"))
    except (ValueError, RecursionError) as error:
        raise UnusableRecording(f"run.json in the archive is no JSON text; {ADVICE}") from error
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise UnusableRecording(f"run.json in the archive describes no recording; {ADVICE}")
    if values.get("format_version") != FORMAT_VERSION:
        raise UnusableRecording(
            f"The recording has format version {shorten(repr(values.get('format_version')))}; accepted is "
            f"{FORMAT_VERSION}, so make it again with this version of DeepLeak."
        )
    runs = values.get("runs")
    if not isinstance(runs, list) or not 1 <= len(runs) <= MOST_RUNS or not all(isinstance(r, dict) for r in runs):
        raise UnusableRecording(f"runs in the archive's run.json is no list of 1 to {MOST_RUNS} runs; {ADVICE}")
    return values


def _fill_in_pictures(archive: Archive, number: int, run: dict[str, Any]) -> None:
    """Add to the values of one run the bytes of its pictures, as many as its values call for."""
    frames, truth = run.get("frames"), run.get("truth")
    if not isinstance(frames, list) or not 1 <= len(frames) <= MOST_FRAMES_READ:
        raise UnusableRecording(
            f"Run {number + 1} of the archive has no list of 1 to {MOST_FRAMES_READ} frames; {ADVICE}"
        )
    for place, frame in enumerate(frames):
        if isinstance(frame, dict):
            frame["pictures"] = archive.read(f"frames/{number}/{place:04d}.webp")
    if isinstance(truth, dict) and isinstance(truth.get("labels"), list):
        names = [f"private/{number}/{place:04d}.png" for place in range(len(truth["labels"]))]
        truth["pictures"] = [archive.read(name) for name in names]


@cache
def _adapter() -> TypeAdapter[Recording]:
    return TypeAdapter(Recording)


def _sentence(error: ValidationError) -> str:
    """What is wrong with the first unusable value of run.json."""
    first = error.errors(include_url=False)[0]
    where = ".".join(map(str, first["loc"])) or "run.json"
    return f"{shorten(where)} in the archive's run.json is unusable ({shorten(first['msg'])}); {ADVICE}"
