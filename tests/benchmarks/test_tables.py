"""Tables in the documentation are those of the recorded results."""

from __future__ import annotations

import re

import pytest

from benchmarks import outcomes, tables


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
    for path in outcomes.RESULTS.glob("*.json"):
        commands = re.findall(r'"command": "([^"]*)"', path.read_text())
        assert not [command for command in commands if re.search(r"\s/\w", command)], path.name
