"""The command `record`: a sequence of runs that a YAML file describes, as one archive."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from deepleak_core.cli.output import not_written, require_file, say
from deepleak_core.cli.progress import Bar, interruptible, progress_bar
from deepleak_core.cli.status import DONE, Failed, UnusableOption
from deepleak_core.events import TROUBLE, Event, Finished
from deepleak_core.runs import run as runs
from deepleak_core.runs.checks import check
from deepleak_core.runs.machine import processor
from deepleak_core.runs.recording import (
    MOST_RUNS,
    Name,
    Page,
    RecordedRun,
    Recording,
    Sentence,
    Title,
    load,
    recorded,
    save,
)
from deepleak_core.scenario import Scenario
from deepleak_core.text import shorten

MOST_BYTES = 100_000  # of a YAML file
ALIASES = "it has anchors or aliases, which are not accepted"


class Script(BaseModel):
    """What a YAML file of recordings may contain; each run is the settings of a scenario by their names."""

    model_config = ConfigDict(extra="forbid")

    name: Name
    title: Title
    sentence: Sentence
    page: Page = "live"
    runs: list[dict[str, Any]] = Field(min_length=1, max_length=MOST_RUNS)


def record(file: Path, *, out: Path | None) -> int:
    """Execute the runs of a script one after the other and write them as one archive, beside the script by default.

    Raises what `main` makes an exit status of.
    """
    script = read(file)
    target = out or file.with_suffix(".zip")
    require_file("--out", target)
    scenarios = [Scenario(**settings) for settings in script.runs]
    for scenario in scenarios:
        check(scenario)
    with progress_bar() as bar:
        recording = Recording(
            name=script.name,
            title=script.title,
            sentence=script.sentence,
            page=script.page,
            runs=tuple(_recorded(scenario, bar) for scenario in scenarios),
        )
    data = save(recording)
    load(data)  # what cannot be read again is not written
    try:
        target.write_bytes(data)
    except OSError as error:
        raise not_written("--out", target, error) from error
    for run in recording.runs:
        say(run.finished.sentence)
    runs_in_it = "1 run" if len(recording.runs) == 1 else f"{len(recording.runs)} runs"
    say(f"Written to {target}: {runs_in_it}, {len(data) / 1e6:.2f} MB.")
    return DONE


def read(file: Path) -> Script:
    """The script in a YAML file. Raises `UnusableOption`."""
    given = f"FILE was {shorten(repr(str(file)))}"
    try:
        with file.open("rb") as opened:
            text = opened.read(MOST_BYTES + 1)
    except OSError as error:
        raise UnusableOption(f"{given}, which cannot be read ({error.strerror}); name a YAML file.") from error
    if len(text) > MOST_BYTES:
        raise UnusableOption(f"{given}, which has more than {MOST_BYTES / 1000:.0f} kB; name a short YAML file.")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text)):  # they may expand without bounds
            raise UnusableOption(f"{given}, which is unusable: {ALIASES}; write each value where it belongs.")
        values = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        reason = getattr(error, "problem", None) or type(error).__name__
        raise UnusableOption(f"{given}, which is no YAML ({reason}); see docs/recordings.md.") from error
    try:
        return Script.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        accepted = ", ".join(Script.model_fields)
        raise UnusableOption(
            f"{given}, in which {shorten(where)} is unusable ({shorten(first['msg'])}); accepted are {accepted}."
        ) from error


def _recorded(scenario: Scenario, bar: Bar) -> RecordedRun:
    """One run, recorded with the name of its processor. Raises `Failed` where it has no outcome."""
    with interruptible() as interrupted:
        run = recorded(scenario, _shown(runs.run(scenario, stop=interrupted), bar))
    if run.finished.reason == "stopped":
        raise Failed("Stopped before there was a recording.")
    if run.finished.reason in TROUBLE:
        raise Failed(run.finished.sentence)
    named = f"{processor()}, {run.device}" if run.device.startswith("CPU") else run.device
    return replace(run, device=named)


def _shown(events: Iterator[Event], bar: Bar) -> Iterator[Event]:
    for event in events:
        if not isinstance(event, Finished):
            bar.show_event(event)
        yield event
