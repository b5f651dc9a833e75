"""One whole attack for a measurement, and the files that measurements are kept in."""

from __future__ import annotations

import json
import sys
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import deepleak_core
from benchmarks.machine import describe_machine
from deepleak_core.events import Event, FinalScore, Finished, Score, Snapshot
from deepleak_core.scenario import Scenario

RESULTS = Path(__file__).parent / "results"
Kind = TypeVar("Kind", bound=Event)


@dataclass(frozen=True)
class Outcome:
    """All events of a run that has finished."""

    events: tuple[Event, ...]

    def last(self, kind: type[Kind]) -> Kind:
        """The latest event of one kind. Raises StopIteration where there is none."""
        return next(event for event in reversed(self.events) if isinstance(event, kind))

    @property
    def snapshots(self) -> list[Snapshot]:
        """Every snapshot, in order."""
        return [event for event in self.events if isinstance(event, Snapshot)]

    @property
    def finished(self) -> Finished:
        """The last event."""
        return self.last(Finished)

    @property
    def score(self) -> FinalScore:
        """The final score; scenarios always have a ground truth."""
        assert self.finished.score is not None
        return self.finished.score


def attack(scenario: Scenario) -> Outcome:
    """Run a scenario to its end."""
    return Outcome(tuple(deepleak_core.run(scenario)))


def score_of(snapshot: Snapshot) -> Score:
    """The score of a snapshot; scenarios always have a ground truth."""
    assert snapshot.score is not None
    return snapshot.score


def command(module: str, arguments: Sequence[str] = (), choices: Sequence[str] = ()) -> str:
    """The command line of a measurement, folders named by their last part only.

    `choices` are options that choose some cells of a table, which say nothing about a single cell and are left out.

    >>> command("benchmarks.label_accuracy", ["--repeats", "5", "--images", "/home/me/test"])
    'python -m benchmarks.label_accuracy --repeats 5 --images test'
    >>> command("benchmarks.solvers", ["--cells", "1 image", "4 distinct", "--seeds", "1"], ["--cells"])
    'python -m benchmarks.solvers --seeds 1'
    """
    named, chooses = [], False
    for argument in arguments or sys.argv[1:]:
        chooses = argument in choices or (chooses and not argument.startswith("--"))
        if not chooses:
            named.append(Path(argument).name if argument.startswith("/") else argument)
    return " ".join(["python -m", module, *named])


def measured_with(module: str, choices: Sequence[str] = ()) -> dict[str, Any]:
    """What a result says of its measurement: the command line, see `command`, and the machine."""
    return {"command": command(module, choices=choices), "machine": describe_machine()}


def read(path: Path) -> dict[str, Any]:
    """A result that was kept."""
    result: dict[str, Any] = json.loads(path.read_text())
    return result


def write(path: Path, result: dict[str, Any]) -> None:
    """Keep a result as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result, indent=1) + "\n")
    print(f"\nwritten to {path}")


def keep(path: Path, cell: dict[str, Any], names: Sequence[str], order: Sequence[Hashable]) -> None:
    """Put one measured cell into the file of a table, see `merged`."""
    kept = read(path)["cells"] if path.exists() else []
    path.write_text(json.dumps({"cells": merged(kept, cell, names, order)}, indent=1) + "\n")


def keep_named(path: Path, kind: str, new: dict[str, Any], order: Sequence[str], measured: dict[str, Any]) -> None:
    """Put entries into the file of a measurement: others of the names in `order` stay, all the rest is dropped."""
    kept = read(path)[kind] if path.exists() else {}
    found = kept | new
    write(path, measured | {kind: {name: found[name] for name in order if name in found}})


def merged(
    kept: Sequence[dict[str, Any]], cell: dict[str, Any], names: Sequence[str], order: Sequence[Hashable]
) -> list[dict[str, Any]]:
    """Cells by the values of their `names`, in `order`: `cell` replaces its predecessor; others are dropped.

    >>> kept = [{"batch": "a", "s": 1}, {"batch": "b", "s": 1}, {"batch": "old", "s": 1}]
    >>> merged(kept, {"batch": "a", "s": 2}, ["batch"], [("b",), ("a",)])
    [{'batch': 'b', 's': 1}, {'batch': 'a', 's': 2}]
    """
    found = {tuple(other[name] for name in names): other for other in [*kept, cell]}
    return [found[key] for key in order if key in found]
