"""What the page shows: a scenario, or a run of it. Imports no PyTorch: the first sight is drawn before it is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import streamlit as st

from deepleak_core.events import Finished
from deepleak_core.runs.recording import RecordedRun
from deepleak_core.scenario import Scenario
from ui import address, pieces
from ui.live import examples

if TYPE_CHECKING:
    from deepleak_core.runs.store import RunRecord

PAGE = "live"


@dataclass(frozen=True, kw_only=True)
class View:
    """The scenario that the controls make, if any, every problem with it, and the run that is shown, if any.

    `notices` are problems that do not concern the scenario: a link that was ignored, a run that was refused. `remarks`
    say what of a link was changed.

    `recording` is a recorded run of just this scenario, or the run itself when it is over; it can be played. `answered`
    says that the run was over before anybody asked for it here.
    """

    scenario: Scenario | None
    problems: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    record: RunRecord | None = None
    recording: RecordedRun | None = field(default=None, repr=False)
    answered: bool = False

    @property
    def under_way(self) -> bool:
        """Whether the run goes on."""
        return self.record is not None and self.record.under_way

    @property
    def finished(self) -> Finished | None:
        """The outcome of the run; None where only the recording of another is shown."""
        return self.recording.finished if self.record is not None and self.recording is not None else None

    @property
    def hidden(self) -> bool:
        """Whether the private images are hidden."""
        return bool(st.session_state.get("suspense")) and not (self.record is not None and not self.under_way)


def first_sight() -> View | None:
    """The recorded attack that a visitor sees who comes by an address without any setting; else None.

    What the session has to remember is set here, so that the controls may be drawn later.
    """
    settings = {*Scenario.model_fields, "run", "suspense"} & set(st.query_params)
    recording = None if settings or not address.is_arriving(PAGE) else examples.recorded_for(address.WELCOME)
    if recording is None:
        return None
    address.arriving(PAGE)
    address.news(arriving=True)
    begin(None)
    st.session_state.suspense = False
    st.session_state.picked = address.WELCOME  # the controls may still hold another page's scenario
    return View(scenario=address.WELCOME, recording=recording)


def begin(run_id: str | None, problems: tuple[str, ...] = ()) -> None:
    """Show a run, or the scenario of the controls, and no run."""
    state = st.session_state
    state.run, state.untouched, state.problems, state.answered = run_id, None, problems, False
    state.remarks = ()


def sentence_of(view: View, invitation: Mapping[str, str]) -> str:
    """The sentence at the top: an invitation by the scenario's mode, what a recording shows, or what came out."""
    if view.record is None:
        if view.recording is not None:
            example = examples.example_of(view.scenario)
            return f"Recorded: {example.sentence if example else view.recording.finished.sentence}"
        return invitation[view.scenario.mode if view.scenario else "fedsgd"]
    if view.under_way:
        source = "gradient" if view.record.scenario.mode == "fedsgd" else "weights"
        return f"The server rebuilds the private images from the shared {source}."
    stopped = view.record.status == "stopped"
    if view.finished is not None:
        when = pieces.when(view.record.created) if view.answered else ""
        return when + ("Stopped early. " if stopped else "") + view.finished.sentence
    if stopped:
        return "Stopped before it began."
    return "This run failed." if view.record.status == "failed" else "This run has no outcome."
