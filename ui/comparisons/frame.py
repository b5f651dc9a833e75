"""The frame of a comparison page: sentence and buttons, start and stop, the player, further runs, address.

A page supplies scenarios, columns and words. One player shows all runs of the page on one clock, while they go on and
afterwards; a further run adds a column and takes none away.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from deepleak_core.errors import DeepLeakError
from deepleak_core.runs.scheduling import Schedule
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import Scenario
from ui import charts, messages, ownership, pieces, records, shell
from ui.backend import REDRAW_SECONDS, engine, give_way, pace, store
from ui.comparisons import groups, sharing
from ui.comparisons.groups import Group, Groups
from ui.comparisons.opening import recording_for
from ui.comparisons.panels import Side, sides_of
from ui.player import ABOVE, Click, Column, play
from ui.top_row import top_row
from ui.why import why

PAIR = "pair"  # the name, in the address, of the runs that a page is about
OWN_SECONDS = "The clock shows each attack's own seconds."
TAKING_TURNS = "Runs side by side share a core and take turns, so they take longer to watch."
RECORDED = "A recording, made earlier."
BELOW_CONTROL = f"max(25rem, calc(100svh - 10.5rem - {ABOVE}))"  # height of the player where a control stands above it

Sides = Mapping[str, Sequence[Side]]  # the runs of each group, by its name; those of the pair also before they start


@dataclass(frozen=True)
class Choice:
    """The control that is particular to a page.

    `scenarios` draws it into a menu, or above the player where `on_stage` says so, and returns the scenarios to
    compare; it raises `DeepLeakError` where there are none. `fill` sets it to a group of runs, None for the default.
    `pick` takes what a visitor picks in the player, and returns the scenarios to start then, none to leave all as it
    is.
    """

    scenarios: Callable[[Scenario, DeltaGenerator, bool], Sequence[Scenario]]
    fill: Callable[[Group | None], None]
    pick: Callable[[Click, Sequence[Scenario]], Sequence[Scenario]] = lambda click, scenarios: ()
    on_stage: bool = False


@dataclass(frozen=True)
class FollowUp:
    """Further runs that a page offers once its pair has ended: the page's columns show them, or `sweep` as a chart."""

    name: str
    button: str
    icon: str
    scenarios: Callable[[Group], Sequence[Scenario]]
    sentence: Callable[[Groups], str]
    running: str = ""
    sweep: Sweep | None = None
    schedule: Schedule = "side by side"


@dataclass(frozen=True)
class Sweep:
    """PSNR at `first`, `first` + 1, ...; each of `lines` has one run at every place."""

    axis: str
    lines: tuple[str, ...] = ("mean",)
    first: Callable[[Scenario], int] = lambda scenario: 0


@dataclass(frozen=True)
class ComparisonPage:
    """A page that compares runs.

    `columns` makes those of the player, of all runs that were started; before that of the scenarios to run. The
    `invitation` stands at the top before the runs, `running` while they go on (else the invitation stays), `sentence`
    when they have ended. `topic` names the drawing that explains it (`ui.why`). `recordings` names the page of
    recordings in the gallery, one of which plays first. `below` draws what follows below the player.
    """

    name: str
    choice: Choice
    columns: Callable[[Sides], Sequence[Column]]
    sentence: Callable[[Groups], str]
    _: KW_ONLY
    invitation: str
    running: str = ""
    topic: str
    recordings: str = ""
    follow_ups: Sequence[FollowUp] = ()
    below: Callable[[Groups, Sequence[Scenario]], None] | None = None
    remark: str = ""

    def draw(self) -> None:
        """Draw the page, and write its address."""
        engine()  # starts its workers while the visitor looks around
        give_way()
        messages.of_store(store())
        if groups.enter(self.name, [PAIR, *(follow_up.name for follow_up in self.follow_ups)]):
            self.choice.fill(groups.started().get(PAIR))
        self._content()
        if self.remark:
            st.html(pieces.note(self.remark))
        groups.publish()

    def _content(self) -> None:
        """What there is to see, top to bottom."""
        row = top_row()
        with row.slot:
            further, start, menu = (
                st.container(key="next", width="content"),
                st.container(width="content"),
                st.container(width="content"),
            )
        before = groups.started()  # read once, so that controls and buttons show the same moment
        stage = st.container()
        with menu:
            scenarios, problems = self._settings(before, stage)
        started = {name: group for name, group in before.items() if name in st.session_state.groups}
        with start:
            self._run_or_stop(started, scenarios)
        with further:
            self._next_action(started)
        latest = next(reversed(started), PAIR)
        shown = started.get(latest, Group())
        early = pieces.when(shown.runs[0].created) if groups.answered(shown.id) else ""
        early += "Stopped early. " if shown.stopped else ""
        recording = None if PAIR in started else recording_for(self.recordings, scenarios)
        row.say(f"Recorded: {recording.sentence}" if recording else early + self._sentence(started, latest))
        with row.why:
            why(self.topic)
        messages.errors((*st.session_state.problems, *problems))
        messages.warnings(st.session_state.remarks)
        messages.of_runs(*(run for group in started.values() for run in group.runs))
        self._stage(started, scenarios)
        if self.below is not None:
            self.below(started, scenarios)
        self._sweeps(started)

    # ------------------------------------------------------------------------------------------- the first row

    def _settings(self, started: Groups, stage: DeltaGenerator) -> tuple[Sequence[Scenario], tuple[str, ...]]:
        """The scenarios that the controls make, and why they make none; a changed setting leaves all groups."""
        running = any(group.under_way for group in started.values())
        with st.popover("Settings", icon=":material/tune:", disabled=running):
            menu = st.container()
            scenario, problems = groups.settings(locked=running)
        if scenario is None or problems:
            return (), problems
        try:
            scenarios = self.choice.scenarios(scenario, stage if self.choice.on_stage else menu, running)
        except DeepLeakError as error:
            return (), (str(error),)
        with menu:
            sharing.say_batch(scenario, scenarios)
        return scenarios, ()

    def _run_or_stop(self, started: Groups, scenarios: Sequence[Scenario]) -> None:
        running = next((group for group in started.values() if group.under_way), None)
        if running is not None:
            if ownership.may_stop(*running.runs):
                st.button("Stop", icon=":material/stop:", key="stop", on_click=groups.stop, args=(running,))
            return
        ended = started.get(PAIR, Group()).finished is not None
        st.button(
            "Run again" if ended else "Run", type="secondary" if ended else "primary",
            key="start", icon=":material/play_arrow:", on_click=_press_start, args=(PAIR, scenarios, "side by side"),
            kwargs={"instead_of_all": True, "again": ended}, disabled=not scenarios,
        )  # fmt: skip

    def _next_action(self, started: Groups) -> None:
        """The follow-up that the player would show next."""
        shown = [follow_up for follow_up in self.follow_ups if follow_up.sweep is None]
        follow_up = next((follow_up for follow_up in shown if follow_up.name not in started), None)
        if follow_up is not None:
            self._offer(follow_up, started, "primary")

    def _offer(self, follow_up: FollowUp, started: Groups, kind: str) -> None:
        """The button of a follow-up, once the pair has ended and while nothing goes on."""
        pair = started.get(PAIR, Group())
        if pair.finished is None or any(group.under_way for group in started.values()):
            return
        st.button(
            follow_up.button, type="primary" if kind == "primary" else "secondary", key=follow_up.name,
            icon=follow_up.icon, on_click=groups.start,
            args=(follow_up.name, follow_up.scenarios(pair), follow_up.schedule), kwargs={"instead_of_all": False},
        )  # fmt: skip

    def _sentence(self, started: Groups, latest: str) -> str:
        """What the group that was started last has shown, else an earlier one."""
        pair = started.get(PAIR, Group())
        if pair.finished is None:
            return (pair.under_way and self.running) or self.invitation
        follow_up = next((f for f in self.follow_ups if f.name == latest), None)
        if follow_up is None or (started[latest].finished is None and not follow_up.running):
            return self.sentence(started)
        return follow_up.running if started[latest].finished is None else follow_up.sentence(started)

    # ---------------------------------------------------------------------------------------------- the player

    def _stage(self, started: Groups, scenarios: Sequence[Scenario]) -> None:
        """The player: runs under way as they go on, or runs that have ended, or what is about to run."""
        with_columns = {PAIR, *(follow_up.name for follow_up in self.follow_ups if follow_up.sweep is None)}
        shown = {name: group for name, group in started.items() if name in with_columns}
        if PAIR not in shown and not scenarios:
            return
        going = any(group.under_way for group in shown.values())
        slowed = pace()
        attempts = tuple(run.attempt for group in shown.values() for run in group.runs)
        hindered = records.hindrances(*(run for group in shown.values() for run in group.runs))
        repeated = shell.fragment(self._play, run_every=REDRAW_SECONDS * slowed if going else None)
        repeated({name: group.id for name, group in shown.items()}, scenarios, going, attempts, slowed, hindered)
        recorded = PAIR not in shown and self._recorded(scenarios)
        st.html(pieces.note(f"{RECORDED} {OWN_SECONDS} {self.invitation}" if recorded else _about_the_clock(shown)))

    def _play(
        self,
        group_ids: Mapping[str, str],
        scenarios: Sequence[Scenario],
        going: bool,
        attempts: Sequence[int],
        slowed: int,
        hindered: tuple[str, ...],
    ) -> None:
        give_way()
        runs = {name: store().members(group_id) for name, group_id in group_ids.items()}
        forgotten, every = not all(runs.values()), [run for group in runs.values() for run in group]
        if forgotten or (going and (_is_over(every, attempts, slowed) or records.hindrances(*every) != hindered)):
            st.rerun()
        sides: dict[str, Sequence[Side]] = {name: sides_of(group) for name, group in runs.items()}
        recorded = {} if PAIR in sides else self._recorded(scenarios)
        sides = recorded or {PAIR: tuple(map(Side, scenarios))} | sides
        if going:
            messages.of_engine(engine())
        height = BELOW_CONTROL if self.choice.on_stage else None
        replayed = bool(recorded) or any(map(groups.answered, group_ids.values()))
        click = play(self.columns(sides), key="compared", autoplay=replayed, height=height)
        if click is not None and not going and (picked := self.choice.pick(click, scenarios)):
            groups.start(PAIR, picked, "side by side", instead_of_all=True)
            st.rerun()

    def _recorded(self, scenarios: Sequence[Scenario]) -> dict[str, Sequence[Side]]:
        """A recording of these scenarios, and of the first follow-up where it has one."""
        recording = recording_for(self.recordings, scenarios)
        names = [PAIR] * len(scenarios) + [f.name for f in self.follow_ups if f.sweep is None]
        found: dict[str, Sequence[Side]] = {}
        for name, run in zip(names, recording.runs if recording else (), strict=False):
            found[name] = (*found.get(name, ()), Side(run.scenario, recorded=run))
        return found

    # ---------------------------------------------------------------------------------------------- the sweeps

    def _sweeps(self, started: Groups) -> None:
        for follow_up in self.follow_ups:
            if follow_up.sweep is None:
                continue
            self._offer(follow_up, started, "secondary")
            if follow_up.name in started:
                _sweep(started[follow_up.name], follow_up.sweep)


def _press_start(
    name: str, scenarios: Sequence[Scenario], schedule: Schedule, *, instead_of_all: bool, again: bool
) -> None:
    if not ownership.has_just_stopped():
        groups.start(name, scenarios, schedule, instead_of_all=instead_of_all, again=again)


# ------------------------------------------------------------------------------------------- what repeats by itself


def _is_over(runs: Sequence[RunRecord], attempts: Sequence[int], slowed: int) -> bool:
    """Whether the whole page has to be drawn anew: nothing goes on, a run began again, or the pace is another."""
    again = any(run.attempt > max(1, attempt) for run, attempt in zip(runs, attempts, strict=True))
    return again or not any(run.under_way for run in runs) or pace() != slowed


def _about_the_clock(shown: Groups) -> str:
    """What the seconds of the timeline are; runs of one group that overlap in time have shared a worker."""
    shared = any(_overlap(group.runs) for group in shown.values())
    return f"{OWN_SECONDS} {TAKING_TURNS}" if shared else OWN_SECONDS


def _overlap(runs: Sequence[RunRecord]) -> bool:
    spans = sorted((run.started, run.ended or float("inf")) for run in runs if run.started is not None)
    return any(later[0] < earlier[1] for earlier, later in pairwise(spans))


def _sweep(group: Group, sweep: Sweep) -> None:
    every = REDRAW_SECONDS * pace() if group.under_way else None
    shell.fragment(_sweep_chart, run_every=every)(group.id, sweep, group.under_way)


def _sweep_chart(group_id: str, sweep: Sweep, under_way: bool) -> None:
    """Point by point, as runs end."""
    give_way()
    runs = store().members(group_id)
    if not runs or (under_way and not any(run.under_way for run in runs)):
        st.rerun()
    width, first = len(sweep.lines), sweep.first(runs[0].scenario)
    scores = [
        (first + place // width, end.score if (end := records.end_of(run)) else None) for place, run in enumerate(runs)
    ]
    lines = [(name, [(x, score.psnr) for x, score in scores[i::width] if score]) for i, name in enumerate(sweep.lines)]
    baselines = records.baselines(next((score for _, score in scores if score), None))
    charts.sweep(lines, range(first, first + len(runs) // width), baselines, axis=sweep.axis, key="sweep-chart")
