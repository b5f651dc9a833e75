"""What the server sees: inferred labels beside the truth, where there is one and it may be shown."""

from __future__ import annotations

from dataclasses import replace

from tests.ui.samples import inferred
from ui import server_view
from ui.server_view import listed_classes

NAMES = ["cat", "dog"]


def test_labels_are_named_with_their_counts_and_a_verdict() -> None:
    html = server_view.labels(inferred([2, 1]), [0, 0, 1], NAMES, true_counts=[2, 1])
    assert "all correct" in html
    assert "dl-wrong" not in html
    assert "✗" not in html
    html = server_view.labels(inferred([2, 0]), [0, 0], NAMES, true_counts=[1, 1])
    assert "1 of 2 correct" in html
    assert "dl-wrong" in html
    assert "✗" in html


def test_nothing_is_called_wrong_while_the_truth_is_hidden_or_unknown() -> None:
    html = server_view.labels(inferred([2, 0]), [0, 0], NAMES, true_counts=None)
    assert "correct" not in html
    assert "dl-wrong" not in html
    assert "✗" not in html
    assert "truth" not in html


def test_labels_that_were_changed_stand_beside_those_inferred() -> None:
    corrected = server_view.labels(inferred([2, 0]), [0, 1], NAMES, true_counts=[1, 1])
    assert "<th>used</th>" in corrected
    assert "dog instead of cat" in corrected
    spoilt = replace(inferred([1, 1]), order=(0, 0), falsified=(1,))
    html = server_view.labels(spoilt, spoilt.order, NAMES, true_counts=[1, 1])
    assert html.count("1 ✗") == 2
    assert "cat instead of dog" in html


def test_of_many_classes_the_found_the_true_and_the_nearest_are_listed() -> None:
    counts, truth, real = [0] * 1000, [0] * 1000, [0.0] * 1000
    counts[7], truth[9], real[7], real[9], real[500] = 1, 1, 0.9, 0.2, 0.3  # 7 instead of 9, 500 a near miss
    shown = listed_classes(inferred(counts, real), [7, 800], truth)
    assert len(shown) == server_view.ROWS
    assert shown[:3] == [7, 500, 9]
    assert 800 in shown
    assert listed_classes(inferred([0, 1]), [1], [1, 0]) == [0, 1]


def test_certified_copies_certify_labels_that_were_estimated() -> None:
    estimated = replace(inferred([1, 1]), note="An estimate.", confidence=(0.2, 0.2))
    before, after = (
        server_view.labels(estimated, [0, 1], NAMES, true_counts=None, certified_copies=certified)
        for certified in (False, True)
    )
    assert server_view.CERTIFIED_BY_COPIES not in before
    assert "Least certain" in before
    assert server_view.CERTIFIED_BY_COPIES in after
    assert "Least certain" not in after
    already = server_view.labels(
        replace(estimated, certified=True), [0, 1], NAMES, true_counts=None, certified_copies=True
    )
    assert server_view.CERTIFIED_BY_COPIES not in already
