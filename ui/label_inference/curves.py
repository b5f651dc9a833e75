"""How often each label strategy is right, as curves: computed now on the workers, and measured before.

Each point of a curve is a study of its own, so that points shared with another visitor's curve exist already, an attack
waits for one point at most, and a reload finds what has been computed.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from deepleak_core.data.datasets import DATASETS, names_of_classes
from deepleak_core.events import Scored
from deepleak_core.federated import checkpoints
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs.store import RunRecord
from deepleak_core.scenario import COMPOSITIONS, Scenario
from deepleak_core.studies import label_accuracy
from deepleak_core.studies.label_accuracy import Study
from ui import charts, controls, echarts, ownership, pieces, shell
from ui.backend import give_way, pace, store
from ui.controls.images import MODES, PICKS, image_labels
from ui.controls.inputs import segments

LOOK_SECONDS = 1.0  # how often new points are looked for
OVER = {"batch_size": "Batch size", "stage": "Stage"}
DRAWS = {"5": "5", "10": "10", "50": "50"}
CORRECT = {"exact_rate": "Batches", "instance_accuracy": "Labels"}
CHOICES: dict[str, Collection[str]] = {"over": OVER, "spread": COMPOSITIONS, "draws": DRAWS, "right": CORRECT}
DEFAULTS = {"over": "batch_size", "spread": "random", "draws": "10", "right": "exact_rate"}
TITLES = {"exact_rate": "batches with all labels correct", "instance_accuracy": "correct labels"}
BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "results" / "label_accuracy.json"


def choose(query: Mapping[str, str]) -> None:
    """Set the controls of the curves from an address; unknown values fall back to the default."""
    for name, default in DEFAULTS.items():
        st.session_state[name] = query[name] if query.get(name) in CHOICES[name] else default


def chosen() -> dict[str, str]:
    """The controls of the curves that are not at their default, for the address."""
    return {name: st.session_state[name] for name, default in DEFAULTS.items() if st.session_state[name] != default}


def draw(scenario: Scenario) -> None:
    """The controls, the curves computed now, and beside them the ones measured before."""
    state = st.session_state
    measured = benchmark(BENCHMARK)
    pick, spread, draws, right, button = st.columns([12, 10, 10, 11, 7], vertical_alignment="bottom")
    stages = checkpoints.stages(scenario.model, DATASETS[scenario.dataset].vocabulary)
    with pick:
        segments("Over", "over", OVER, locked=len(stages) == 1 and not measured)
    with spread:
        st.selectbox("Labels in a batch", list(COMPOSITIONS), key="spread", format_func=PICKS.__getitem__)
    with draws:
        segments("Batches per point", "draws", DRAWS)
    with right:
        segments("Share of", "right", CORRECT)
    points = label_accuracy.curve(
        scenario, over=state.over, composition=state.spread, repeats=int(state.draws), check=controls.check
    )
    records = _records(points)
    busy = any(record.under_way for record in records.values())
    complete = len([record for record in records.values() if record.status == "finished"]) == len(points)
    with button:
        if ownership.may_stop(*records.values()):
            st.button("Stop", icon=":material/stop:", key="stop", width="stretch", on_click=_stop, args=(points,))
        elif not busy:
            st.button(
                "Start", type="primary", icon=":material/play_arrow:", key="start", width="stretch",
                on_click=ownership.study, args=(points,), disabled=complete,
                help="All points are measured. Change a setting to measure others." if complete else None,
            )  # fmt: skip
    before, now = st.columns(2, gap="medium") if measured else (st.container(), st.container())
    if measured:
        with before:
            _measured(measured, scenario)
    with now:
        slowed = pace() if busy else 0
        shell.fragment(_computed, run_every=LOOK_SECONDS * slowed or None)(points, slowed)
        st.html(pieces.note(_limit(scenario, points) if state.over == "batch_size" else ""))


def _limit(scenario: Scenario, points: Sequence[Study]) -> str:
    """Why a curve ends where it does."""
    largest = max((point.scenario.batch_size for point in points), default=0)
    source = DATASETS[scenario.dataset].title
    if largest == label_accuracy.BATCH_SIZES[-1]:
        return ""
    if not largest:
        return f"{source} has no such batch; choose other labels."
    count = len(image_labels(scenario.dataset, scenario.images))
    return f"Only {count} images; choose another data set for larger batches."


# ------------------------------------------------------------------------------------------------ computed now


def _stop(points: Sequence[Study]) -> None:
    """Stop the computation of these points, the waiting ones first; results so far are kept."""
    ownership.stop(sorted(_records(points).values(), key=lambda record: record.status != "queued"))


def _records(points: Sequence[Study]) -> dict[str, RunRecord]:
    return store().studies([point.key for point in points])


def _computed(points: Sequence[Study], slowed: int) -> None:
    """The points so far; draws the whole page anew when the last is there, or when the number of viewers has changed.

    `slowed` is the pace, 0 where nothing is under way.
    """
    give_way()
    records = _records(points)
    if slowed and (not any(record.under_way for record in records.values()) or pace() != slowed):
        st.rerun()
    over, right = st.session_state.over, st.session_state.right
    scored = store().newest([record.id for record in records.values()], Scored)
    found = {
        _place(point, over): scored[records[point.key].id]
        for point in points
        if point.key in records and records[point.key].id in scored
    }
    total, done = sum(point.repeats for point in points), sum(score.draws for score in found.values())
    st.html(pieces.progress(done / total if total else 0, *_progress(done, total, list(records.values()))))
    rates = {
        strategy.title: [(place, s.scores[name][right]) for place, s in found.items() if name in s.scores]
        for name, strategy in STRATEGIES.items()
    }
    places = [_place(point, over) for point in points]
    draw = echarts.accuracy if slowed else charts.accuracy
    draw(rates, places, over=OVER[over], title=TITLES[right], key="accuracy-live" if slowed else "accuracy")


def _place(point: Study, over: str) -> str:
    """The place of a point on the horizontal axis."""
    return str(getattr(point.scenario, over))


def _progress(done: int, total: int, records: Sequence[RunRecord]) -> tuple[str, str]:
    """The words of the progress bar, at its left and its right."""
    if not records:
        return "Press Start: every strategy is run on the same batches.", ""
    count = f"{done} of {total} batches"
    statuses = {record.status for record in records}
    if "running" in statuses:
        return "Computing", count
    if "queued" in statuses:
        return "Waiting for a free worker; attacks go first", count
    failed = next((record.message for record in records if record.status == "failed"), "")
    if failed or done == total:
        return failed or "Done", count
    stopped = "stopped" in statuses
    return "Stopped: press Start to continue" if stopped else "Known so far: press Start for the rest", count


# ---------------------------------------------------------------------------------------------- measured before


def benchmark(path: Path) -> list[dict[str, Any]]:
    """The scores in benchmarks/results, in cells; none where the file is missing or not JSON.

    A cell has model, stage, mode, classes, batch_size, composition, repeats, the machine it was measured on, and
    for each of its strategies exact_rate and more.
    """
    try:
        cells: list[dict[str, Any]] = json.loads(path.read_text())["cells"]
    except (OSError, ValueError):
        return []
    return cells


def sets_of(cells: Sequence[Mapping[str, Any]], scenario: Scenario, over: str) -> list[list[Mapping[str, Any]]]:
    """The cells in sets that differ only in `over`; the set most similar to the scenario comes first."""
    wanted = scenario.model_dump() | {"classes": len(names_of_classes(scenario))}
    alike = ("mode", "model", "head_bias", "classes", "composition", "stage", "batch_size", "dataset", "image_size")
    names = [n for n in alike if n != over]
    sets: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for cell in cells:
        sets.setdefault(tuple(cell[name] for name in names), []).append(cell)
    order = sorted(sets, key=lambda values: [v != wanted[n] for n, v in zip(names, values, strict=True)])

    def place(cell: Mapping[str, Any]) -> tuple[int, bool, str]:
        return cell["batch_size"], cell["stage"] != "untrained", cell["stage"]  # as `checkpoints.stages` has them

    return [sorted(sets[key], key=place) for key in order]


def _measured(measured: Sequence[Mapping[str, Any]], scenario: Scenario) -> None:
    over, right = st.session_state.over, st.session_state.right
    sets = sets_of(measured, scenario, over)
    n = st.selectbox(
        "Measured before", range(len(sets)), label_visibility="collapsed",
        format_func=lambda n: f"Measured before: {_title(sets[n][0], over)}",
    )  # fmt: skip
    cells = sets[n]
    rates = {
        strategy.title: [
            (str(cell[over]), cell["strategies"][name][right]) for cell in cells if name in cell["strategies"]
        ]
        for name, strategy in STRATEGIES.items()
    }
    places = [str(cell[over]) for cell in cells]
    charts.accuracy(rates, places, over=OVER[over], title=TITLES[right], key="measured")
    draws, machines = sorted({cell["repeats"] for cell in cells}), sorted({cell["machine"] for cell in cells})
    several = f"{draws[0]} to {draws[-1]}" if len(draws) > 1 else f"{draws[0]}"
    st.html(pieces.note(f"Measured before: {several} batches per point, on {' and on '.join(machines)}."))


def _title(cell: Mapping[str, Any], over: str) -> str:
    """A set of curves in words, by one of its cells."""
    model = MODELS[cell["model"]].title if cell["model"] in MODELS else cell["model"]
    where = cell["stage"] if over == "batch_size" else f"{cell['batch_size']} images"
    spread = COMPOSITIONS.get(cell["composition"], cell["composition"])
    mode = MODES.get(cell["mode"], cell["mode"])
    bias = "" if cell["head_bias"] else ", no bias"
    return f"{model}{bias}, {where}, {mode}, {cell['classes']} classes, {spread}"
