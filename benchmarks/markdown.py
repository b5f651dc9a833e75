"""Markdown of the tables in docs/benchmarks.md: lines, where the figures are from, and number formats."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Result = dict[str, Any]
Row = Sequence[object]


def table(head: Row, rows: Iterable[Row]) -> str:
    """A markdown table.

    >>> print(table(("a", "b"), [(1, None)]))
    | a | b |
    | --- | --- |
    | 1 | - |
    """
    return "\n".join(map(line, [head, ["---"] * len(head), *rows]))


def line(row: Row) -> str:
    """One line of a markdown table.

    >>> line(("a", None))
    '| a | - |'
    """
    return f"| {' | '.join('-' if value is None else str(value) for value in row)} |"


def figures(*parts: Mapping[str, Result]) -> str:
    """A table of figures by name: median and range of the values of each, beside its budget."""
    rows = []
    for name, figure in (item for part in parts for item in part.items()):
        values = figure["values"]
        measured = (f"{number(values):.3g}" for number in (statistics.median, min, max))
        rows.append((name, *measured, figure["budget"] or None))
    return table(("figure", "median", "min", "max", "budget"), rows)


def source(found: Result, *, threads: bool = True) -> str:
    """The command and the machine of a result, as the sentence above its table.

    `threads` are those of the measuring process, which say nothing of attacks in other processes.
    """
    machine = found["machine"]
    used = f", {n} CPU thread{'s' * (n != 1)}" if threads and (n := machine.get("threads")) else ""
    return f"`{found['command']}`, {machine['date']}, {machine['words']}{used}:\n\n"


def sources(cells: Sequence[Result], name: str = "cell") -> str:
    """The commands and machines of cells that were measured one by one, each with its cells where there are several."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        found.setdefault(source(cell).strip().removesuffix(":"), []).append(cell[name])
    if len(found) == 1:
        return f"{next(iter(found))}:\n\n"
    lines = [f"- {'; '.join(dict.fromkeys(names))}: {where}" for where, names in found.items()]
    return "\n".join(lines) + "\n\n"


def seconds(value: float | None, digits: int = 1) -> str | None:
    """A time.

    >>> seconds(1.25), seconds(None)
    ('1.2 s', None)
    """
    return None if value is None else f"{value:.{digits}f} s"


def decibels(value: float) -> str:
    """A PSNR.

    >>> decibels(31.24)
    '31.2 dB'
    """
    return f"{value:.1f} dB"


def spread(values: Sequence[float | None]) -> str:
    """Median and range in seconds; how many of all where half or more are missing.

    >>> spread([0.5, 0.7, 0.6]), spread([None, 1.0, None]), spread([1.0, None, 2.0])
    ('0.6 (0.5-0.7)', '1 of 3', '2.0 (1.0-)')
    """
    there = sorted(value for value in values if value is not None)
    missing = len(values) - len(there)
    if missing > len(values) / 2:
        return f"{len(there)} of {len(values)}" if there else "-"
    median = statistics.median([*there, *[float("inf")] * missing])
    return f"{median:.1f} ({there[0]:.1f}-{'' if missing else f'{there[-1]:.1f}'})"
