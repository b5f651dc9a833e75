"""Picture grids: labels, quality, marks, and batches too large to draw."""

from __future__ import annotations

from tests.ui.samples import PNG
from ui import pictures


def test_a_picture_shows_its_label_and_quality_and_marks_a_wrong_label() -> None:
    grid = pictures.rebuilt([PNG, PNG], ["cat", "dog"], [31.26, 12.0], [False, True])
    right, wrong = grid.split("</figure>")[:2]
    assert "cat" in right
    assert "31.3" in right
    assert "dl-wrong" not in right
    assert "dog" in wrong
    assert "12.0" in wrong
    assert "dl-wrong" in wrong


def test_the_outcome_of_a_run_decides_how_a_picture_is_marked() -> None:
    """A PSNR alone may be that of a flat image."""
    outcomes = ["recovered", "not recovered", "recognisable"]
    grid = pictures.rebuilt([PNG] * 3, ["cat"] * 3, [31.0, 31.0, 19.0], (), outcomes)
    recovered, flat, recognisable = grid.split("</figure>")[:3]
    assert "dl-photo" in recovered
    assert "dl-poor" in flat
    assert "dl-clear" in recognisable


def test_without_a_ground_truth_pictures_have_no_quality_and_no_mark() -> None:
    grid = pictures.rebuilt([PNG, PNG], ["cat", "dog"])
    assert grid.count("<img") == 2
    assert "dB" not in grid
    assert "<b" not in grid
    assert "dl-wrong" not in grid


def test_a_large_batch_is_cut_and_the_rest_is_counted() -> None:
    grid = pictures.rebuilt([PNG] * 100, ["cat"] * 100, [10.0] * 100)
    assert grid.count("<img") == pictures.SHOWN
    assert "36" in grid


def test_hidden_images_keep_their_space_and_their_labels() -> None:
    shown, hidden = pictures.thumbnails([PNG] * 3, ["cat"] * 3), pictures.hidden(3)
    assert shown.count("<figure") == hidden.count("<figure") == 3
    assert "<img" not in hidden
    assert "cat" not in hidden
