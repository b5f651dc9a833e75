"""Measured cells are kept in one file, in the order of their table."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks import outcomes

ORDER = [("small",), ("large",)]


def cells(path: Path) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(path.read_text())["cells"]
    return found


def test_the_first_cell_makes_the_file(tmp_path: Path) -> None:
    outcomes.keep(tmp_path / "new.json", {"cell": "large", "seconds": 1.0}, ["cell"], ORDER)
    assert cells(tmp_path / "new.json") == [{"cell": "large", "seconds": 1.0}]


def test_a_cell_measured_again_replaces_its_predecessor_and_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    for seconds, name in enumerate(["large", "small", "large"]):
        outcomes.keep(path, {"cell": name, "seconds": seconds}, ["cell"], ORDER)
    assert cells(path) == [{"cell": "small", "seconds": 1}, {"cell": "large", "seconds": 2}]


def test_cells_that_the_table_has_no_more_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    path.write_text(json.dumps({"cells": [{"cell": "removed"}]}))
    outcomes.keep(path, {"cell": "small"}, ["cell"], ORDER)
    assert cells(path) == [{"cell": "small"}]


def test_attacks_of_one_setting_are_cells_of_their_own() -> None:
    kept = [{"cell": "small", "attack": "a"}, {"cell": "small", "attack": "b"}]
    measured = {"cell": "small", "attack": "b", "new": True}
    order = [("small", "a"), ("small", "b")]
    assert outcomes.merged(kept, measured, ["cell", "attack"], order) == [kept[0], measured]


def test_a_named_entry_is_replaced_and_others_of_the_table_stay(tmp_path: Path) -> None:
    path = tmp_path / "kept.json"
    for measured, new in (({"date": 1}, {"b": 1, "removed": 2}), ({"date": 2}, {"a": 3})):
        outcomes.keep_named(path, "rows", new, ["a", "b"], measured)
    assert json.loads(path.read_text()) == {"date": 2, "rows": {"a": 3, "b": 1}}
