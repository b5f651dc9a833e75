"""Two runs beside each other on one page, on one clock: while they go on, and replayed.

One fragment draws both as one piece of HTML, so that their pictures change in the same instant.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence

import streamlit as st

from deepleak_core.errors import DeepLeakError
from deepleak_core.events import Stage
from deepleak_core.runs.store import Moment, RunRecord
from deepleak_core.scenario import Scenario
from deepleak_core.studies import comparisons as findings
from deepleak_core.text import percent
from ui import charts, live, markup
from ui.acts import Act
from ui.backend import give_way, pace, store

PICTURE_SECONDS = 2 * live.PICTURE_SECONDS  # pictures of two runs in one message: no more a second than of one run

MINUS = "\N{MINUS SIGN}"

Shown = tuple[Moment, tuple[bytes, ...]]
Draw = Callable[[Sequence[RunRecord], Sequence[Shown | None]], str]


def play(act: Act, draw: Draw) -> None:
    """Runs under way as they go on, or any moment of runs that are over; `draw` makes the HTML of both."""
    if act.under_way:
        slowed = pace(live.viewer())
        attempts = tuple(run.attempt for run in act.runs)
        st.fragment(_watching, run_every=PICTURE_SECONDS * slowed)(act.id, attempts, slowed, draw)
    else:
        st.fragment(_replay)(act.id, draw)


def _watching(group_id: str, attempts: tuple[int, ...], slowed: int, draw: Draw) -> None:
    give_way()
    runs = store().members(group_id)
    again = any(run.attempt > max(1, attempt) for run, attempt in zip(runs, attempts, strict=True))
    if again or not any(run.under_way for run in runs) or pace(live.viewer()) != slowed:
        st.rerun()
    state, key = st.session_state, (group_id, *(run.snapshots for run in runs))
    if state.get("frame", (None,))[0] != key or not all(run.snapshots for run in runs):
        state.frame = key, draw(runs, _at_once(runs, [store().pictures(run.id) for run in runs]))
    st.html(state.frame[1])


def _at_once(runs: Sequence[RunRecord], shown: Sequence[Shown | None]) -> Sequence[Shown | None]:
    """No pictures of any run while one has yet to give its first: seen alone, a run looks like the faster one."""
    awaited = any(run.under_way and pictures is None for run, pictures in zip(runs, shown, strict=True))
    return [None] * len(runs) if awaited else shown


def _replay(group_id: str, draw: Draw) -> None:
    give_way()
    runs = store().members(group_id)
    curves = [live.moments_of(run.id) for run in runs]
    pictures = st.container()  # above what moves them, where they have been while the runs went on
    seconds = sorted({round(moment.seconds, 1) for curve in curves for moment in curve})
    at = seconds[-1] if seconds else 0.0
    if len(seconds) > 1:
        offered = [*seconds[: -1 : math.ceil(len(seconds) / live.STOPS)], seconds[-1]]
        at = st.select_slider(
            "Replay", offered, value=offered[-1], key=f"at-{group_id}", label_visibility="collapsed",
            format_func=lambda second: f"{second:.1f} s",
        )  # fmt: skip
    shown = [
        store().pictures(run.id, max(0, bisect_right(curve, at + 0.05, key=lambda moment: moment.seconds) - 1))
        for run, curve in zip(runs, curves, strict=True)
    ]
    with pictures:
        st.html(draw(runs, shown))


def chart(acts: Sequence[Act], names: Sequence[str]) -> None:
    """The curves of all runs of these acts on the same axis of seconds; `names` are the runs', in order."""
    every = live.CURVE_SECONDS * pace(live.viewer()) if any(act.under_way for act in acts) else None
    st.fragment(_chart, run_every=every)(tuple(act.id for act in acts if act.runs), tuple(names))


def _chart(group_ids: tuple[str, ...], names: tuple[str, ...]) -> None:
    give_way()
    runs = [run for group_id in group_ids for run in store().members(group_id)]
    curves = [live.moments_of(run.id) for run in runs] or [[] for _ in names]
    charts.compared(list(zip(names, curves, strict=False)), key="compared")


def sweep(act: Act, axis: str, first: int = 0, names: Sequence[str] = ("mean",)) -> None:
    """PSNR at `first`, `first` + 1, ..., point by point as runs end; as many runs stand for a point as have names."""
    every = live.READING_SECONDS * pace(live.viewer()) if act.under_way else None
    st.fragment(_sweep, run_every=every)(act.id, axis, first, tuple(names), act.under_way)


def _sweep(group_id: str, axis: str, first: int, names: tuple[str, ...], under_way: bool) -> None:
    give_way()
    runs = store().members(group_id)
    if under_way and not any(run.under_way for run in runs):
        st.rerun()
    ends = [(first + place // len(names), live.end_of(run)) for place, run in enumerate(runs)]
    lines = [(name, [(x, end.psnr) for x, end in ends[i :: len(names)] if end]) for i, name in enumerate(names)]
    noise = next((end.noise_psnr for _, end in ends if end), None)
    charts.steps(lines, range(first, first + len(runs) // len(names)), noise, axis, key="steps")


# ------------------------------------------------------------------------------------------------------- panels


def private(title: str, scenario: Scenario, above: str = "") -> str:
    """The private images of a scenario, whether it has run or not."""
    try:
        pictures, labels = live.preview(scenario)
    except DeepLeakError as error:
        return markup.panel(title, markup.note(str(error)))
    return markup.panel(title, above, markup.no_progress(), markup.originals(pictures, labels))


def empty(title: str, count: int, above: str = "") -> str:
    """Where pictures will be."""
    return markup.panel(title, above, markup.progress(0, ""), markup.nothing_rebuilt(count))


def attacked(
    title: str,
    place: int,
    runs: Sequence[RunRecord],
    shown: Shown | None,
    asides: Sequence[str] = (),
    above: str = "",
    below: str = "",
) -> str:
    """What the attack at this place among the runs has rebuilt, and how far it is."""
    run, prepared = runs[place], live.facts_of(runs[place]).prepared
    if shown is None or prepared is None:
        # Runs side by side wait as one: the first knows where.
        state = live.waiting(runs[0]) if run.under_way else markup.progress(0, "Ended before its first picture")
        return markup.panel(title, above, state, markup.nothing_rebuilt(run.scenario.batch_size), below)
    moment, pictures = shown
    done = moment.progress if run.under_way else 1.0
    words = f"{moment.mean_psnr:.1f} dB, {percent(moment.residual)} unexplained"
    wrong = _unknown(moment.labels, prepared.labels)
    grid = markup.rebuilt(pictures, live.named(prepared, moment.labels), moment.psnr, wrong, asides)
    return markup.panel(title, above, markup.progress(done, f"{moment.seconds:.1f} s", words), grid, below)


def _unknown(labels: Sequence[int], truth: Sequence[int]) -> list[bool]:
    return [believed != true for believed, true in zip(labels, truth, strict=True)]


def last(run: RunRecord) -> Shown | None:
    """The pictures that a run ended with."""
    return store().pictures(run.id)


def changes(before: Shown | None, after: Shown | None) -> list[str]:
    """What each picture has won or lost against another run, in dB."""
    if before is None or after is None:
        return []
    return [f"{b - a:+.1f} dB".replace("-", MINUS) for a, b in zip(before[0].psnr, after[0].psnr, strict=True)]


def means(run: RunRecord) -> list[str]:
    """The mean image of each class that repeats in a run's batch, enlarged."""
    prepared = live.facts_of(run).prepared
    return [] if prepared is None else [markup.mean(*found) for found in findings.mean_pictures(prepared)]


def to_mean(run: RunRecord, shown: Shown | None) -> list[str]:
    """How close each picture is to the mean of its class, where that has other images."""
    prepared = live.facts_of(run).prepared
    if shown is None or prepared is None:
        return []
    shared = [prepared.labels.count(label) > 1 for label in prepared.labels]
    values = shown[0].psnr_to_mean or [0.0] * len(shared)
    return [f"to mean {psnr:.1f}" if mates else "" for psnr, mates in zip(values, shared, strict=True)]


def similarity(run: RunRecord, shown: Shown | None) -> list[str]:
    """How alike each picture that a run ended with is to its own image in structure; nothing for earlier ones."""
    end = live.end_of(run)
    if end is None or shown is None or shown[0].step != end.step:
        return []
    return [f"SSIM {ssim:.2f}" for ssim in end.ssim]


def labels_read(run: RunRecord, *, truth: bool = False) -> str:
    """The labels that a run's rule reads from the update and how many are right, or the true ones."""
    facts = live.facts_of(run)
    if facts.prepared is None or facts.inferred is None:
        return markup.told_labels(())
    counts = facts.inferred.true_counts if truth else facts.inferred.counts
    names = [facts.prepared.class_names[label] for label, count in enumerate(counts) for _ in range(count)]
    return markup.told_labels(names, None if truth else findings.labels_right(facts.inferred))


def told(run: RunRecord) -> list[Stage]:
    """What the attack of a run has done so far, stage by stage."""
    return [event for event in store().events(run.id, Stage) if isinstance(event, Stage)]


def stages(run: RunRecord) -> str:
    """The same as a list."""
    return markup.stages(told(run))
