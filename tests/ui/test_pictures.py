"""Picture grids: labels, and batches too large to draw."""

from __future__ import annotations

from tests.ui.samples import PNG
from ui import pictures


def test_every_picture_has_its_label() -> None:
    grid = pictures.square([PNG, PNG], ["cat", "dog"])
    first, second = grid.split("</figure>")[:2]
    assert grid.count("<img") == 2
    assert "cat" in first
    assert "dog" in second


def test_a_large_batch_is_cut_and_the_rest_is_counted() -> None:
    grid = pictures.square([PNG] * 100, ["cat"] * 100)
    assert grid.count("<img") == pictures.SHOWN
    assert "36" in grid
