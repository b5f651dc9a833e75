"""The tables of label inference: hits and misses, certificates, and vocabularies too large to show."""

from __future__ import annotations

from dataclasses import replace

import pytest

from deepleak_core.labels.strategies import STRATEGIES
from tests.ui.samples import answered, read
from ui.label_inference import tables

NAMES = ["cat", "dog", "frog"]


def row(table: str, n: int) -> str:
    """The n-th row of a table's body."""
    return table.partition("<tbody>")[2].partition("</tbody>")[0].split("<tr>")[1 + n]


def test_hits_and_misses_are_marked_and_counted() -> None:
    answer = row(tables.matrix([answered([2, 1, 0], [2, 0, 1])], NAMES, [0, 1, 2]), 1)
    assert answer.count("dl-hit") == 1
    assert answer.count("dl-miss") == 2
    assert "2 of 3" in answer
    assert "2 ms" in answer
    assert "dl-part" in answer
    assert "dl-all" in row(tables.matrix([answered([2, 0, 1], [2, 0, 1])], NAMES, [0, 1, 2]), 1)


def test_a_strategy_that_has_not_answered_has_a_row_in_its_place_that_says_why() -> None:
    given = [answered([2, 1], [2, 1])]
    table = tables.matrix(given, NAMES[:2], [0, 1], awaited="Computing for 3 s.")
    rows = [row(table, n) for n in range(1, 1 + len(STRATEGIES))]
    assert [strategy.title in r for strategy, r in zip(STRATEGIES.values(), rows, strict=True)] == [True] * len(rows)
    assert ["Computing" in r for r in rows] == [name != "idlg" for name in STRATEGIES]
    assert tables.matrix(given, NAMES[:2], [0, 1]).count("<tr>") == 3


@pytest.mark.parametrize(
    ("counts", "values", "style"),
    [
        ([1, 1], {"certified": True, "confidence": (0.9, 0.9)}, "<em>"),
        ([2, 0], {"certified": True}, "dl-false"),
        ([1, 1], {"confidence": (0.9, 0.9)}, "dl-estimated"),
    ],
)
def test_certificates_wrong_ones_and_estimates_differ(counts: list[int], values: dict, style: str) -> None:
    answer = row(tables.matrix([answered(counts, [1, 1], **values)], NAMES[:2], [0, 1]), 1)
    assert style in answer
    assert answer.count("<em") == 1


def test_a_strategy_that_never_certifies_has_no_badge() -> None:
    assert "<em" not in tables.matrix([answered([1, 1], [1, 1])], NAMES[:2], [0, 1])


def test_of_many_classes_those_in_the_batch_or_named_get_a_column() -> None:
    truth, claimed = [0] * 100, [0] * 100
    truth[70], claimed[5] = 3, 3
    first = read(truth, truth)
    assert tables.columns(first, [answered(claimed, truth)]) == [5, 70]
    assert "98" in tables.steps(first, [f"class {c}" for c in range(100)], [5, 70])
    assert len(tables.columns(read([1] * 100, [1] * 100), [])) == tables.COLUMNS
    assert tables.columns(read([0, 1], [1, 0]), []) == [0, 1]


def test_counts_outside_the_columns_are_mentioned() -> None:
    table = tables.matrix([answered([1, 0, 2], [3, 0, 0])], ["a", "b", "c"], [0, 1])
    assert "2 in further classes" in table


def test_bars_of_both_rows_have_one_scale_and_a_direction() -> None:
    table = tables.steps(read([1, 0], [1, 0]), ["cat", "dog"], [0, 1])
    assert table.count("dl-below") == 2
    assert table.count("dl-above") == 2
    assert "height:50.0%" in table
    assert "height:25.0%" in table


def test_where_only_the_strategy_verified_is_right_a_line_says_so() -> None:
    verified = {right: replace(answered(right, [1, 1]), strategy="verified") for right in ((1, 1), (2, 0))}
    for found, answers, said in [
        ([2, 0], [verified[1, 1]], True),
        ([2, 0], [verified[2, 0]], False),
        ([2, 0], [answered([1, 1], [1, 1])], False),
        ([1, 1], [verified[1, 1]], False),
    ]:
        assert (tables.VERIFIED_HELPS in tables.steps(read(found, [1, 1]), ["cat", "dog"], [0, 1], answers)) == said
