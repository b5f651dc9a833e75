"""Load the app with followers, starters and many runs: cost to the attack, delay of pictures, fairness, growth.

    python -m benchmarks.load [--only NAME ...] [--rounds 3] [--runs 200] [--hours 2]

- `followers`: in one attack, iterations a second alone, followed by 40 visitors, by 5 browsers too, and beside a
  process that only counts; and how late each of its moments is shown. A visitor who skips a moment sees it when the
  next one arrives.
- `starters`: 20 visitors start an attack at once.
- `tabs`: one visitor starts an attack in each of 20 tabs, then another one starts one.
- `growth`: memory and database over `--runs` short runs, or as many as end within `--hours`, where 1 MB may be kept.

Prints a table and writes benchmarks/results/load.json; `--only` replaces single rows there. Visitors speak Streamlit's
protocol without drawing (see `viewers`). They and the browsers run on the same machine, so costs are upper bounds.
"""

from __future__ import annotations

import argparse
import json
import secrets
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from playwright.sync_api import Browser, Page

from benchmarks import markdown, outcomes
from benchmarks.browser import App, chromium, open_page
from benchmarks.scenes import ended, under_way, until
from benchmarks.viewers import Visitor, crowd, visiting
from deepleak_core.runs.engine import Engine
from deepleak_core.runs.keeping import Keeping
from deepleak_core.runs.record import Moment
from deepleak_core.runs.store import Store
from deepleak_core.scenario import Scenario

RESULT = outcomes.RESULTS / "load.json"
VISITORS, BROWSERS, STARTERS, TABS = 40, 5, 20, 20
PHASE_SECONDS = 8.0  # alone, followed, and alone again
ARRIVAL_SECONDS, BROWSERS_ARRIVAL_SECONDS = 25.0, 10.0  # until the last of a crowd that comes at once has its page
VISITORS_NICENESS = 15  # browsers give way to the app: elsewhere they run on machines of their own
LEFT_SECONDS = 11.0  # after which the app no longer counts a viewer who has left
ATTACK = "indices=0,1,3,4&model=lenet&max_iterations=100000"
SHORT = Scenario(indices=(0, 3), model="lenet", max_iterations=20)
KEPT_MB = 1.0
EVERY = 20  # runs between two looks at memory and database
MB = 2**20
WATCH = """
() => { window.moments = [];
  document.addEventListener("deepleak-feed", event => {
    for (const track of Object.values(globalThis.deepleakFeeds.get(event.detail).tracks))
      if (track.live) window.moments.push([Date.now() / 1000, track.live.t]);
  }); }
"""
Figures = dict[str, tuple[Sequence[float], str]]  # values and budget by name


@dataclass
class Stage:
    """The running app, and a reader of its run database."""

    app: App
    store: Store
    questions: int = 0

    def link(self, seconds: float) -> str:
        """A question of its own whose attack ends after so many seconds."""
        self.questions += 1
        return f"{ATTACK}&max_seconds={seconds:g}&seed={self.questions}"


@contextmanager
def stage() -> Iterator[Stage]:
    """The app, warm, with a database of its own."""
    with tempfile.TemporaryDirectory() as folder:
        database = f"sqlite:///{folder}/runs.sqlite"
        with App({"DEEPLEAK_DB": database}, quiet=True) as app:
            found = Stage(app, Store(database))
            with visiting(Visitor(app.url, found.link(1), press="start")) as seen:
                until(lambda: seen.run and not under_way(found.store))
            yield found


# ---------------------------------------------------------------------------------------------------- followers


def followers(at: Stage, rounds: int) -> Figures:
    """Speed of one attack without and with followers, and the delay of what they see."""
    measured = [follow(at) for _ in range(rounds)]
    with_browsers = f"{VISITORS} visitors and {BROWSERS} browsers on this machine"
    return {
        "iterations a second alone": ([one.alone for one in measured], ""),
        "with another process that only counts / alone": ([one.beside / one.alone for one in measured], ""),
        f"with {VISITORS} visitors / alone": ([one.visited / one.alone for one in measured], "0.9 at least"),
        f"with {with_browsers} / alone": ([one.with_browsers / one.alone for one in measured], ""),
        f"{VISITORS} visitors: delay of a moment, 95th percentile, s": (
            [percentile(one.late, 95) for one in measured], "1 at most",
        ),
        f"{with_browsers}: delay of a moment, 95th percentile, s": (
            [percentile(one.late_with_browsers, 95) for one in measured], "",
        ),
    }  # fmt: skip


@dataclass(frozen=True)
class Followed:
    """One attack: iterations a second, and for each follower and moment its delay in s.

    It is measured alone, beside a process of the lowest priority that only counts, with visitors, and with visitors and
    browsers. What the second one costs is owed to the machine: its cores share memory, caches or more.
    """

    alone: float
    beside: float
    visited: float
    with_browsers: float
    late: list[float]
    late_with_browsers: list[float]


def follow(at: Stage) -> Followed:
    """Measure one attack: alone, with visitors, with browsers too, alone again, and beside a process that counts."""
    token = secrets.token_urlsafe(16)  # who has started the attack may stop it
    begin = Visitor(at.app.url, at.link(280), press="start", token=token)
    with chromium() as browser, visiting(begin) as starter:
        until(lambda: len(starter.frames) > 4)
        run_id, query = starter.run, starter.query
        with watched(at.store, run_id) as stored:
            first = phase()
            with crowd([Visitor(at.app.url, query) for _ in range(VISITORS)]) as seen:
                time.sleep(ARRIVAL_SECONDS)
                visited = phase()
                pages = [watching(browser, f"{at.app.url}/?{query}") for _ in range(BROWSERS)]
                give_way()
                time.sleep(BROWSERS_ARRIVAL_SECONDS)
                both = phase()
                shown = [page.evaluate("() => window.moments") for page in pages]
                for page in pages:
                    page.context.close()
            time.sleep(LEFT_SECONDS)
            last = phase()
            with counting():
                beside = phase()
        curve = at.store.curve(run_id)
        with visiting(Visitor(at.app.url, query, press="stop", token=token)):
            until(lambda: not under_way(at.store), seconds=15, required=False)
    until(lambda: not under_way(at.store), seconds=300)
    began = min(seen_at - curve[n].seconds for n, seen_at in stored.items() if n < len(curve))
    frames = [visitor.frames for visitor in seen]
    return Followed(
        alone=statistics.fmean([speed(curve, began, first), speed(curve, began, last)]),
        beside=speed(curve, began, beside),
        visited=speed(curve, began, visited),
        with_browsers=speed(curve, began, both),
        late=[late for each in frames for late in delays(curve, each, began, visited)],
        late_with_browsers=[late for each in (*frames, *shown) for late in delays(curve, each, began, both)],
    )


@contextmanager
def counting() -> Iterator[None]:
    """A process of the lowest priority that keeps a core busy and touches no memory."""
    process = subprocess.Popen([sys.executable, "-c", "import os; os.nice(19)\nwhile True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def phase() -> tuple[float, float]:
    """Wait; when this began and ended."""
    began = time.time()
    time.sleep(PHASE_SECONDS)
    return began, time.time()


def give_way() -> None:
    """Lower the priority of the browsers that this process has started."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            if "chrom" in process.name():
                process.nice(VISITORS_NICENESS)


def watching(browser: Browser, url: str) -> Page:
    """A page that notes when each moment is handed to its player."""
    page = open_page(browser, url)
    page.evaluate(WATCH)
    return page


@contextmanager
def watched(store: Store, run_id: str) -> Iterator[dict[int, float]]:
    """When the snapshots of a run were first seen in the store, by their numbers."""
    stored: dict[int, float] = {}
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            record = store.run(run_id)
            if record is not None and record.snapshots:
                stored.setdefault(record.snapshots - 1, time.time())

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield stored
    over.set()
    thread.join()


def speed(curve: Sequence[Moment], began: float, during: tuple[float, float]) -> float:
    """Iterations a second between two times."""
    inside = [moment for moment in curve if during[0] <= began + moment.seconds <= during[1]]
    return (inside[-1].step - inside[0].step) / (inside[-1].seconds - inside[0].seconds)


def delays(
    curve: Sequence[Moment], frames: Sequence[Sequence[float]], began: float, during: tuple[float, float]
) -> list[float]:
    """How late a follower saw each moment of a time, or a later one in its place, in seconds.

    `frames` are pairs of a time and the attack's seconds that were shown then.

    >>> moments = [Moment(n=n, attempt=1, step=n, seconds=n, loss=0, residual=0, labels=(), progress=None, score=None)
    ...            for n in range(4)]
    >>> delays(moments, [(100.5, 0), (102.25, 2)], began=100, during=(100, 103))
    [0.5, 1.25, 0.25]
    """
    late = []
    arrived = iter(sorted((tuple(frame) for frame in frames), key=lambda frame: frame[1]))
    current = next(arrived, None)
    for moment in curve:
        while current is not None and current[1] < moment.seconds:
            current = next(arrived, None)
        recorded = began + moment.seconds
        if current is not None and during[0] <= recorded <= during[1]:
            late.append(current[0] - recorded)
    return late


def percentile(values: Sequence[float], percent: int) -> float:
    """The value that so many percent of the values do not exceed."""
    return statistics.quantiles(values, n=100)[percent - 1]


# -------------------------------------------------------------------------------------------- starters and tabs


def starters(at: Stage) -> Figures:
    """Many visitors start an attack at once: all that are accepted finish, the others are told why."""
    began = time.monotonic()
    with crowd([Visitor(at.app.url, at.link(1), press="start") for _ in range(STARTERS)]) as seen:
        _until_quiet(at.store)
    lasted = time.monotonic() - began
    records = [at.store.run(visitor.run) for visitor in seen if visitor.run]
    finished = sum(record is not None and record.status == "finished" for record in records)
    refused = sum(not visitor.run and bool(visitor.sentences) for visitor in seen)
    return {
        f"{STARTERS} starters: runs that finished": ([finished], ""),
        f"{STARTERS} starters: refused in a sentence": ([refused], ""),
        f"{STARTERS} starters: neither": ([STARTERS - finished - refused], "0"),
        f"{STARTERS} starters: until all have ended, s": ([lasted], ""),
    }


def _until_quiet(store: Store) -> None:
    """Wait until nothing was under way for a while."""
    quiet: list[float] = []

    def is_quiet() -> bool:
        quiet.append(time.monotonic())
        if under_way(store):
            quiet.clear()
        return bool(quiet) and quiet[-1] - quiet[0] > 5

    time.sleep(5)
    until(is_quiet)


def tabs(at: Stage) -> Figures:
    """Runs that begin between another visitor's click and the begin of its run, while one has many tabs open."""
    one, other = "o" * 22, "t" * 22
    with crowd([Visitor(at.app.url, at.link(3), press="start", token=one) for _ in range(TABS)]):
        until(lambda: len(under_way(at.store)) >= 3)
        with visiting(Visitor(at.app.url, at.link(1), press="start", token=other)) as seen:
            until(lambda: seen.run)
            until(lambda: at.store.curve(seen.run))
            first_picture = time.time()
        mine = at.store.run(seen.run)
        _until_quiet(at.store)
    assert mine is not None
    assert mine.started is not None
    before = [
        record
        for record in at.store.runs(100)
        if record.started is not None and record.id != mine.id and mine.created < record.started < mine.started
    ]
    return {
        f"{TABS} tabs of another visitor: runs that went first": ([len(before)], "2 at most"),
        f"{TABS} tabs of another visitor: click to first picture, s": ([first_picture - mine.created], ""),
    }


# ------------------------------------------------------------------------------------------------------- growth


def growth(runs: int, hours: float = 0) -> Figures:
    """Memory of this process and its worker, and size of the database, over many short runs of one engine."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs.sqlite"
        engine = Engine(Store(f"sqlite:///{path}"), keeping=Keeping(days=None, megabytes=KEPT_MB))
        try:
            sizes = list(_sizes(engine, path, runs, time.monotonic() + hours * 3600 if hours else 0))
        finally:
            engine.close()
    settled = sizes[1:]  # the first runs load and allocate
    memory = [size["memory"] / MB for size in settled]
    database = [size["database"] / MB for size in settled]
    done = sizes[-1]["runs"]
    return {
        f"{done:.0f} runs: growth of memory, MB": ([memory[-1] - memory[0]], "50 at most"),
        f"{done:.0f} runs: database, MB, {KEPT_MB:g} MB kept": (database, "10 at most"),
        f"{done:.0f} runs: that did not finish": ([sizes[-1]["failed"]], "0"),
    }


def _sizes(engine: Engine, path: Path, runs: int, deadline: float) -> Iterator[dict[str, float]]:
    """Memory and database in bytes, after each so many runs."""
    done = failed = 0
    while done < runs or time.monotonic() < deadline:
        for _ in range(EVERY):
            done += 1
            run_id = engine.submit(SHORT.changed(seed=done), again=True)
            failed += ended(engine.store, run_id).status != "finished"
        yield {"runs": done, "failed": failed, "memory": _memory(), "database": _bytes_of(path)}


def _memory() -> float:
    """Resident bytes of this process and all that it has started."""
    here = psutil.Process()
    return float(sum(process.memory_info().rss for process in (here, *here.children(recursive=True))))


def _bytes_of(path: Path) -> float:
    """The database with the files beside it."""
    return float(sum(file.stat().st_size for file in path.parent.glob(path.name + "*")))


# --------------------------------------------------------------------------------------------------- the whole

ON_STAGE: dict[str, Callable[[Stage, argparse.Namespace], Figures]] = {
    "followers": lambda at, options: followers(at, options.rounds),
    "starters": lambda at, _: starters(at),
    "tabs": lambda at, _: tabs(at),
}
NAMES = [*ON_STAGE, "growth"]


def main() -> None:
    """Measure all, or what `--only` names; print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--rounds", type=int, default=3, help="attacks that are followed")
    parser.add_argument("--runs", type=int, default=200, help="short runs, 40 at least")
    parser.add_argument("--hours", type=float, default=0, help="go on with short runs for so long")
    options = parser.parse_args()
    found: dict[str, Figures] = {}
    with ExitStack() as stack:
        at = stack.enter_context(stage()) if set(options.only) & set(ON_STAGE) else None
        for name in options.only:
            if at is not None and name in ON_STAGE:
                found[name] = ON_STAGE[name](at, options)
                print(name, json.dumps(found[name]), flush=True)
    if "growth" in options.only:
        found["growth"] = growth(options.runs, options.hours)
    new = {
        name: {figure: {"values": values, "budget": budget} for figure, (values, budget) in figures.items()}
        for name, figures in found.items()
    }
    outcomes.keep_named(RESULT, "parts", new, NAMES, outcomes.measured_with("benchmarks.load", ["--only"]))
    print(table())


def table() -> str:
    """Followers, starters, tabs and growth: median and range beside the budget."""
    found = outcomes.read(RESULT)
    return markdown.source(found, threads=False) + markdown.figures(*found["parts"].values())


if __name__ == "__main__":
    main()
