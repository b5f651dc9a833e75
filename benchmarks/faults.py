"""Break what the app stands on, one thing at a time, and see what becomes of its runs.

    python -m benchmarks.faults [--only NAME ...] [--short]

The app, its workers, its run database, PostgreSQL and a Dask cluster are real processes on this machine; a visitor
follows a run while something fails. Prints a table and writes benchmarks/results/faults.json. `--only` replaces single
rows there. `--short` takes shorter faults, and fewer files and links, and writes nothing.

A fault has settled when no run is under way any more; then another run is started, which has to finish.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks import hostile, markdown, outcomes, scenes
from benchmarks.scenes import Fault, Scene, ended, under_way, until
from benchmarks.viewers import Visitor, visiting
from deepleak_core.events import Finished, Snapshot
from deepleak_core.runs.record import RunRecord
from deepleak_core.runs.store import Store
from deepleak_core.text import shorten

RESULT = outcomes.RESULTS / "faults.json"


@dataclass(frozen=True, kw_only=True)
class Row:
    """What a fault has led to.

    Attributes:
        fault: What failed, in words.
        intact: Whether the run that had finished before is still there byte by byte.
        under_way: Runs that never ended.
        ended: How the run under way at the time has ended.
        complete: Whether its snapshots are all there, in order, up to its end.
        afterwards: How a run that was started afterwards has ended.
        settled_s: Seconds from the end of the fault until no run was under way.
        sentences: What the page said.
        tracebacks: Errors that the page showed as such.
    """

    fault: str
    intact: bool
    under_way: int
    ended: str
    complete: bool
    afterwards: str
    settled_s: float
    sentences: tuple[str, ...]
    tracebacks: tuple[str, ...] = ()


def tried(scene: Scene, name: str, fault: Fault, seconds: float) -> Row:
    """Have a run finish, start another one of so many seconds, let something fail, and wait until all has settled."""
    before, _ = finished(scene)
    kept = fingerprint(scene.store(), before)
    with visiting(Visitor(scene.app.url, scene.link(seconds), press="start")) as seen:
        until(lambda: len(seen.frames) > 1)
        run_id, known = seen.run, set(seen.sentences)
        fault(scene, seen)
        over, store = time.monotonic(), scene.store()
        with suppress(TimeoutError):
            until(lambda: not under_way(store))
        settled = time.monotonic() - over
        until(lambda: set(seen.sentences) - known, seconds=10, required=False)
    _, afterwards = finished(scene)
    record = store.run(run_id)
    assert record is not None
    return Row(
        fault=name,
        intact=fingerprint(store, before) == kept,
        under_way=len(under_way(store)),
        ended=record.status,
        complete=is_complete(store, record),
        afterwards=afterwards,
        settled_s=round(settled, 1),
        sentences=tuple(words.replace(str(scene.folder), "DIR") for words in seen.sentences if words not in known),
        tracebacks=tuple(seen.tracebacks),
    )


def finished(scene: Scene) -> tuple[str, str]:
    """Start a short run and wait for its end: its id and how it ended."""
    with visiting(Visitor(scene.app.url, scene.link(1), press="start")) as seen:
        until(lambda: seen.run)
        store = scene.store()
        return seen.run, ended(store, seen.run).status


def fingerprint(store: Store, run_id: str) -> str:
    """A hash of all events of a run, pictures included."""
    record = store.run(run_id)
    events = [event.images.tobytes() if isinstance(event, Snapshot) else repr(event) for event in store.events(run_id)]
    return hashlib.sha256(repr((record, events)).encode()).hexdigest()


def is_complete(store: Store, record: RunRecord) -> bool:
    """Whether every snapshot was stored in its order, and, where the run has finished, its end as well."""
    curve = store.curve(record.id)
    places = [(moment.attempt, moment.step) for moment in curve]
    end = store.latest(record.id, Finished)
    whole = end is not None and curve[-1].step == end.step if record.status == "finished" else True
    return whole and len(curve) == record.snapshots and places == sorted(set(places))


# --------------------------------------------------------------------------------------------------- the whole


@dataclass(frozen=True)
class Trial:
    """A fault: its words in the table, how it is made, and for how many seconds the run under way attacks."""

    words: str
    fault: Fault
    seconds: float = 10


Place = Callable[[bool], AbstractContextManager[Scene]]
PLACES: dict[Place, dict[str, Trial]] = {
    scenes.with_sqlite: {
        "worker": Trial("worker killed once", scenes.kill_worker_once),
        "workers": Trial("worker killed every 4 s", scenes.kill_workers, 60),
        "locked": Trial("SQLite locked", scenes.lock),
        "full": Trial("SQLite: disk of 8 MB full for 8 s", scenes.fill_for_a_while),
        "full-long": Trial("SQLite: disk of 8 MB full for 75 s", scenes.fill_for_long, 20),
        "moved": Trial("SQLite: files moved away and back", scenes.move_file_away),
        "app": Trial("app killed and started again", scenes.kill_app, 60),
        "read-only": Trial("SQLite: app started on a read-only disk", scenes.make_read_only, 60),
    },
    scenes.with_postgresql: {
        "postgresql": Trial("PostgreSQL stopped and started", scenes.stop_server),
        "postgresql-read-only": Trial("PostgreSQL read-only", scenes.forbid_writing),
    },
    scenes.with_cluster: {"scheduler": Trial("Dask scheduler and worker killed and back", scenes.lose_scheduler, 60)},
}
INPUTS: dict[str, Callable[[bool], hostile.Count]] = {"files": hostile.files, "links": hostile.links}
NAMES = [*(name for trials in PLACES.values() for name in trials), *INPUTS]


def rows(names: list[str], short: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Try the faults of these names; each row by its name, as soon as it is there."""
    for place, trials in PLACES.items():
        chosen = {name: trial for name, trial in trials.items() if name in names}
        if not chosen:
            continue
        with place(short) as scene:
            for name, trial in chosen.items():
                yield name, asdict(tried(scene, trial.words, trial.fault, trial.seconds))
    for name, read in INPUTS.items():
        if name in names:
            yield name, asdict(read(short))


def main() -> None:
    """Try every fault, or those of `--only`, print the tables, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--short", action="store_true", help="shorter faults, fewer files and links; writes nothing")
    options = parser.parse_args()
    measured_with = outcomes.measured_with("benchmarks.faults", ["--only"])
    for name, row in rows(options.only, options.short):
        print(name, json.dumps(row), flush=True)
        if not options.short:
            outcomes.keep_named(RESULT, "rows", {name: row}, NAMES, measured_with)
    if not options.short:
        print(f"\n{table()}\n\n{table_of_inputs()}")


# -------------------------------------------------------------------------------------------------- the tables

HEAD = (
    "fault", "finished runs intact", "run under way then", "its pictures complete", "under way for ever",
    "a run afterwards", "settled after, s", "the page said",
)  # fmt: skip
HEAD_OF_INPUTS = ("hostile", "tried", "refused in a sentence", "accepted", "other errors", "slowest, s")


def table() -> str:
    """What each fault has led to."""
    found = outcomes.read(RESULT)
    shown = [line(row) for row in found["rows"].values() if "fault" in row]
    return markdown.source(found, threads=False) + markdown.table(HEAD, shown)


def line(row: dict[str, Any]) -> markdown.Row:
    """One fault; of what the page said, the first sentence."""
    yes = {True: "yes", False: "**no**"}
    words = [shorten(sentence, 160).replace("|", "/") for sentence in (*row["tracebacks"], *row["sentences"])]
    return (
        row["fault"], yes[row["intact"]], row["ended"], yes[row["complete"]], row["under_way"], row["afterwards"],
        markdown.seconds(row["settled_s"]), words[0] if words else "nothing: it went on",
    )  # fmt: skip


def table_of_inputs() -> str:
    """What became of hostile files and links."""
    shown = [
        (
            row["what"], row["tried"], row["refused"], row["accepted"], len(row["errors"]),
            markdown.seconds(row["slowest_s"]),
        )
        for row in outcomes.read(RESULT)["rows"].values() if "tried" in row
    ]  # fmt: skip
    return markdown.table(HEAD_OF_INPUTS, shown)


if __name__ == "__main__":
    main()
