"""Tables name where their figures are from."""

from __future__ import annotations

from benchmarks import markdown


def test_cells_measured_on_one_machine_name_it_once_others_each() -> None:
    here = {"cell": "a", "command": "python -m x", "machine": {"date": "2026-11-28", "words": "1 core"}}
    there = here | {"cell": "b", "machine": {"date": "2026-11-29", "words": "2 cores"}}
    assert markdown.sources([here, here | {"cell": "c"}]).count("1 core") == 1
    both = markdown.sources([here, there])
    assert both.index("a: ") < both.index("1 core") < both.index("b: ") < both.index("2 cores")
