"""The frame of a comparison page: headline and buttons, start and stop, panels on one clock, replay, curves, address.

A page supplies scenarios, panels and words. One fragment draws all panels as one piece of HTML, so that their pictures
change in the same instant.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from deepleak_core.errors import DeepLeakError
from deepleak_core.runs.scheduling import Schedule
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from ui import charts, live_charts, messages, pieces, records
from ui.backend import engine, give_way, pace, store
from ui.comparisons import groups
from ui.comparisons.groups import Group, Groups
from ui.comparisons.panels import Side
from ui.pieces import Panel
from ui.records import Frame

PAIR = "pair"  # the name, in the address, of the runs that a page is about
PICTURE_SECONDS, CURVE_SECONDS, SWEEP_SECONDS = 0.44, 3.0, 1.0  # between repetitions while runs go on
STOPS = 500  # moments that the replay offers

Panels = Callable[[Groups, Sequence[Side]], Sequence[Panel]]


@dataclass(frozen=True)
class Choice:
    """The control that is particular to a page.

    `scenarios` draws it into a menu and returns the scenarios to compare; it raises `DeepLeakError` where there are
    none. `fill` sets it to a group of runs, None for the default.
    """

    scenarios: Callable[[Scenario, DeltaGenerator, bool], Sequence[Scenario]]
    fill: Callable[[Group | None], None]


@dataclass(frozen=True)
class FollowUp:
    """Further runs that a page offers once its pair has ended: `panels` show them, or `sweep` does as a chart."""

    name: str
    button: str
    icon: str
    scenarios: Callable[[Group], Sequence[Scenario]]
    sentence: Callable[[Groups], str]
    running: str = ""
    panels: Panels | None = None
    curve: str = ""
    sweep: Sweep | None = None
    schedule: Schedule = "side by side"


@dataclass(frozen=True)
class Sweep:
    """PSNR at `first`, `first` + 1, ...; each of `lines` has one run at every place."""

    axis: str
    lines: tuple[str, ...] = ("mean",)
    first: Callable[[Scenario], int] = lambda scenario: 0


def comparison_page(
    name: str,
    choice: Choice,
    panels: Panels,
    sentence: Callable[[Groups], str],
    *,
    invitation: str,
    section: str,
    curves: Sequence[str],
    follow_ups: Sequence[FollowUp] = (),
    remark: str = "",
) -> None:
    """Draw a page that compares runs.

    `invitation` stands at the top before the runs have ended, `sentence` says what came out. `curves` are the names of
    the runs in the chart, `section` is the section of How it works that explains them.
    """
    page = _Page(choice, panels, sentence, invitation, section, tuple(curves), tuple(follow_ups))
    engine()  # starts its workers while the visitor looks around
    give_way()
    messages.of_store(store())
    if groups.enter(name, [PAIR, *(follow_up.name for follow_up in follow_ups)]):
        choice.fill(groups.started().get(PAIR))
    page.draw()
    if remark:
        st.caption(remark)
    groups.publish()


@dataclass(frozen=True)
class _Page:
    choice: Choice
    panels: Panels
    sentence: Callable[[Groups], str]
    invitation: str
    section: str
    curves: tuple[str, ...]
    follow_ups: tuple[FollowUp, ...]

    def draw(self) -> None:
        """The page, top to bottom."""
        words, buttons = st.columns([5, 6], vertical_alignment="center")
        with buttons, st.container(horizontal=True, horizontal_alignment="right", vertical_alignment="bottom"):
            before = groups.started()  # read once, so that controls and buttons show the same moment
            scenarios, problems = self._settings(before)
            started = {name: group for name, group in before.items() if name in st.session_state.groups}
            self._buttons(started, scenarios)
        with words:
            latest = next(reversed(started), PAIR)
            early = "Stopped early. " if started.get(latest, Group()).stopped else ""
            st.html(pieces.headline(early + self._sentence(started, latest), self.section))
        messages.errors((*st.session_state.problems, *problems))
        messages.of_runs(*(run for group in started.values() for run in group.runs))
        self._results(started, latest, scenarios)

    def _settings(self, started: Groups) -> tuple[Sequence[Scenario], tuple[str, ...]]:
        """The scenarios that the controls make, and why they make none; a changed setting leaves all groups."""
        running = any(group.under_way for group in started.values())
        with st.popover("Change", icon=":material/tune:", disabled=running):
            menu = st.container()
            scenario, problems = groups.settings(locked=running)
        if scenario is None or problems:
            return (), problems
        try:
            return self.choice.scenarios(scenario, menu, running), ()
        except DeepLeakError as error:
            return (), (str(error),)

    def _buttons(self, started: Groups, scenarios: Sequence[Scenario]) -> None:
        running = next((group for group in started.values() if group.under_way), None)
        if running is not None:
            st.button("Stop", icon=":material/stop:", key="stop", on_click=groups.stop, args=(running,))
            return
        pair = started.get(PAIR, Group())
        st.button(
            "Run again" if pair.finished else "Run both", type="secondary" if pair.finished else "primary",
            key="start", icon=":material/play_arrow:", on_click=groups.start, args=(PAIR, scenarios, "side by side"),
            kwargs={"instead_of_all": True, "again": bool(pair.finished)}, disabled=not scenarios,
        )  # fmt: skip
        if pair.finished is None:
            return
        suggested = next((follow_up.name for follow_up in self.follow_ups if follow_up.name not in started), None)
        for follow_up in self.follow_ups:
            st.button(
                follow_up.button, type="primary" if follow_up.name == suggested else "secondary", key=follow_up.name,
                icon=follow_up.icon, on_click=groups.start,
                args=(follow_up.name, follow_up.scenarios(pair), follow_up.schedule),
                kwargs={"instead_of_all": False},
            )  # fmt: skip

    def _sentence(self, started: Groups, latest: str) -> str:
        """What the group that was started last has shown, else an earlier one."""
        if started.get(PAIR, Group()).finished is None:
            return self.invitation
        follow_up = next((f for f in self.follow_ups if f.name == latest), None)
        if follow_up is None or (started[latest].finished is None and not follow_up.running):
            return self.sentence(started)
        return follow_up.running if started[latest].finished is None else follow_up.sentence(started)

    def _results(self, started: Groups, latest: str, scenarios: Sequence[Scenario]) -> None:
        sweeps = [(f, f.sweep) for f in self.follow_ups if f.sweep and f.name in started]
        with_panels = [f for f in self.follow_ups if f.panels and f.name in started]
        for follow_up, sweep in sweeps:
            if follow_up.name == latest:
                _sweep(started[follow_up.name], sweep)
        if with_panels and with_panels[-1].panels is not None:
            _play(started[with_panels[-1].name], with_panels[-1].panels)
        elif PAIR in started:
            _play(started[PAIR], self.panels)
        elif scenarios:
            st.html(pieces.side_by_side(self.panels({}, [Side(scenario) for scenario in scenarios])))
        if PAIR in started:
            drawn = [started[PAIR], *(started[follow_up.name] for follow_up in with_panels)]
            names = [*self.curves, *(follow_up.curve for follow_up in with_panels)]
            every = CURVE_SECONDS * pace() if any(group.under_way for group in drawn) else None
            st.fragment(_curves, run_every=every)(tuple(group.id for group in drawn), tuple(names))
        for follow_up, sweep in sweeps:
            if follow_up.name != latest:
                _sweep(started[follow_up.name], sweep)


# ------------------------------------------------------------------------------------------- what repeats by itself


def _play(group: Group, panels: Panels) -> None:
    """Runs under way as they go on, or any moment of runs that have ended."""
    if group.under_way:
        slowed, attempts = pace(), tuple(run.attempt for run in group.runs)
        st.fragment(_watch, run_every=PICTURE_SECONDS * slowed)(group.id, attempts, slowed, panels)
    else:
        st.fragment(_replay)(group.id, panels)


def _watch(group_id: str, attempts: tuple[int, ...], slowed: int, panels: Panels) -> None:
    give_way()
    runs = store().members(group_id)
    again = any(run.attempt > max(1, attempt) for run, attempt in zip(runs, attempts, strict=True))
    if again or not any(run.under_way for run in runs) or pace() != slowed:
        st.rerun()
    state, key = st.session_state, (group_id, *(run.snapshots for run in runs))
    if state.get("frame", (None,))[0] != key or not all(run.snapshots for run in runs):
        state.frame = key, _drawn(panels, runs, _together(runs, [records.frame_of(run) for run in runs]))
    st.html(state.frame[1])


def _together(runs: Sequence[RunRecord], frames: Sequence[Frame | None]) -> Sequence[Frame | None]:
    """No pictures of any run while one has none yet: shown alone, a run would look like the faster one."""
    awaited = any(run.under_way and frame is None for run, frame in zip(runs, frames, strict=True))
    return [None] * len(runs) if awaited else frames


def _drawn(panels: Panels, runs: Sequence[RunRecord], frames: Sequence[Frame | None]) -> str:
    sides = [Side(run.scenario, run, frame, runs[0]) for run, frame in zip(runs, frames, strict=True)]
    return pieces.side_by_side(panels(groups.started(), sides))


def _replay(group_id: str, panels: Panels) -> None:
    give_way()
    runs = store().members(group_id)
    curves = [records.moments_of(run.id) for run in runs]
    space = st.container()  # above the slider, where the panels were while the runs went on
    seconds = sorted({round(moment.seconds, 1) for curve in curves for moment in curve})
    at = seconds[-1] if seconds else 0.0
    if len(seconds) > 1:
        offered = [*seconds[: -1 : math.ceil(len(seconds) / STOPS)], seconds[-1]]
        at = st.select_slider(
            "Replay", offered, value=offered[-1], key=f"at-{group_id}", label_visibility="collapsed",
            format_func=lambda second: f"{second:.1f} s",
        )  # fmt: skip
    frames = [
        records.frame_of(run, max(0, bisect_right(curve, at + 0.05, key=lambda moment: moment.seconds) - 1))
        for run, curve in zip(runs, curves, strict=True)
    ]
    with space:
        st.html(_drawn(panels, runs, frames))


def _curves(group_ids: tuple[str, ...], names: tuple[str, ...]) -> None:
    give_way()
    runs = [run for group_id in group_ids for run in store().members(group_id)]
    live_charts.comparison_curves(
        list(zip(names, [records.moments_of(run.id) for run in runs], strict=False)), key="compared"
    )


def _sweep(group: Group, sweep: Sweep) -> None:
    every = SWEEP_SECONDS * pace() if group.under_way else None
    st.fragment(_sweep_chart, run_every=every)(group.id, sweep, group.under_way)


def _sweep_chart(group_id: str, sweep: Sweep, under_way: bool) -> None:
    """Point by point, as runs end."""
    give_way()
    runs = store().members(group_id)
    if under_way and not any(run.under_way for run in runs):
        st.rerun()
    width, first = len(sweep.lines), sweep.first(runs[0].scenario)
    scores = [
        (first + place // width, end.score if (end := records.end_of(run)) else None) for place, run in enumerate(runs)
    ]
    lines = [(name, [(x, score.psnr) for x, score in scores[i::width] if score]) for i, name in enumerate(sweep.lines)]
    noise = next((score.noise_psnr for _, score in scores if score), None)
    charts.sweep(lines, range(first, first + len(runs) // width), noise, axis=sweep.axis, key="sweep-chart")
