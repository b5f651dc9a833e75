"""Tables in the documentation are those of the recorded results."""

from __future__ import annotations

import re

import pytest

from benchmarks import tables


def test_tables_of_the_page_are_up_to_date() -> None:
    page = tables.PAGE.read_text()
    assert tables.updated(page) == page, "run `make tables`"


def test_every_table_is_on_the_page() -> None:
    assert set(re.findall(r"<!-- table ([\w-]+) -->", tables.PAGE.read_text())) == set(tables.TABLES)


def test_a_table_is_replaced_and_everything_else_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tables.TABLES, "solvers", lambda: "new")
    page = "before\n<!-- table solvers -->\nold\n<!-- end -->\nafter"
    assert tables.updated(page) == "before\n<!-- table solvers -->\n\nnew\n\n<!-- end -->\nafter"


def test_an_unknown_table_is_refused() -> None:
    with pytest.raises(KeyError):
        tables.updated("<!-- table none -->\n<!-- end -->")


def test_results_name_no_folder_of_a_machine() -> None:
    """A command names folders by their last part."""
    for path in tables.RESULTS.glob("*.json"):
        commands = re.findall(r'"command": "([^"]*)"', path.read_text())
        assert not [command for command in commands if re.search(r"\s/\w", command)], path.name


def test_cells_measured_on_one_machine_name_it_once_others_each() -> None:
    here = {"cell": "a", "command": "python -m x", "machine": {"date": "2026-11-28", "words": "1 core"}}
    there = here | {"cell": "b", "machine": {"date": "2026-11-29", "words": "2 cores"}}
    assert tables.sources([here, here | {"cell": "c"}]).count("1 core") == 1
    both = tables.sources([here, there])
    assert both.index("a: ") < both.index("1 core") < both.index("b: ") < both.index("2 cores")
