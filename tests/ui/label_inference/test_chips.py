"""Answers as chips: wrong counts say the true one, certificates are shown, and no error is left out."""

from __future__ import annotations

from deepleak_core.labels.strategies import STRATEGIES
from tests.ui.samples import answered
from ui.label_inference import chips

NAMES = ["cat", "dog", "frog"]


def test_a_wrong_count_says_the_true_one() -> None:
    html = chips.answers([answered([2, 1, 0], [2, 0, 1])], NAMES)
    assert html.count("<span>") == 1
    assert html.count("dl-wrong") == 2
    assert "dog 1, true 0" in html
    assert "2 of 3" in html
    assert "dl-part" in html
    assert "dl-all" in chips.answers([answered([2, 0, 1], [2, 0, 1])], NAMES)


def test_a_strategy_that_has_not_answered_has_a_line_that_says_why() -> None:
    given = [answered([2, 1], [2, 1])]
    html = chips.answers(given, NAMES[:2], awaited="Computing for 3 s.")
    assert html.count("<li>") == len(STRATEGIES)
    assert html.count("Computing") == len(STRATEGIES) - 1
    assert chips.answers(given, NAMES[:2]).count("<li>") == 1


def test_certificates_wrong_ones_and_estimates_differ() -> None:
    kinds = [chips.badge(answered(*pair, **values))[1] for *pair, values in (
        ([1, 1], [1, 1], {"certified": True}),
        ([2, 0], [1, 1], {"certified": True}),
        ([1, 1], [1, 1], {"confidence": (0.9, 0.9)}),
    )]  # fmt: skip
    assert len(set(kinds)) == 3


def test_of_many_classes_wrong_ones_keep_their_chip() -> None:
    truth = [1] * 100
    found = [*truth[:-1], 2]
    html = chips.answers([answered(found, truth)], [f"class {c}" for c in range(100)])
    assert "class 99 2, true 1" in html
    assert f"and {100 - chips.CHIPS} further" in html
