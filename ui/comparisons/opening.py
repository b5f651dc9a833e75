"""What a comparison page plays before anything was started: a recording of the same scenarios, if there is one."""

from __future__ import annotations

from collections.abc import Sequence

from deepleak_core.errors import UnusableRecording
from deepleak_core.runs.recording import Recording
from deepleak_core.scenario import Scenario
from ui import recordings

LIMITS = {"max_iterations": None, "max_seconds": None, "device": "auto"}  # may differ: how long, and where, it ran


def recording_for(page: str, scenarios: Sequence[Scenario]) -> Recording | None:
    """The recording in the gallery that begins with these scenarios, None where there is none."""
    wanted = [_question(scenario) for scenario in scenarios]
    for head in recordings.heads():
        if wanted and head.page == page and [_question(run.scenario) for run in head.runs[: len(wanted)]] == wanted:
            try:
                return recordings.recording(head.name)
            except UnusableRecording:  # gone or damaged since it was listed
                continue
    return None


def _question(scenario: Scenario) -> Scenario:
    return scenario.changed(**LIMITS)
