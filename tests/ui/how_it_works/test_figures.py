"""The figures that ship: numbers and pictures of How it works, and how they are made."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import explain
from deepleak_core.events import from_message
from tests.helpers import pictures_named
from ui.how_it_works import figures

SHIPPED = 500_000  # bytes of all figures together


def test_numbers_and_pictures_ship_and_are_small() -> None:
    numbers = json.loads((figures.FOLDER / "figures.json").read_text())
    assert list(numbers) == ["machine", *explain.FIGURES]
    named = set(pictures_named(numbers))
    assert named == {file.name for file in figures.FOLDER.glob("*.png")}
    for name in named:
        with Image.open(figures.FOLDER / name) as picture:
            assert max(picture.size) < 200, "figures are kept at the resolution of the data"
    assert sum(file.stat().st_size for file in figures.FOLDER.iterdir()) < SHIPPED


def test_what_a_figure_keeps_can_be_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The quick ones are: same pictures, same numbers."""
    monkeypatch.setattr(explain, "FOLDER", tmp_path)
    kept = figures.measured()
    assert explain.brief(explain.pixels()) == kept["pixels"]
    assert (tmp_path / "pixels-one.png").read_bytes() == (figures.FOLDER / "pixels-one.png").read_bytes()
    update = explain.brief(explain.shared())["update"]
    assert from_message(update) == from_message(kept["shared"]["update"])


def test_a_sheet_is_as_square_as_it_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "FOLDER", tmp_path)
    with Image.open(tmp_path / explain.sheet("three", np.zeros((3, 3, 4, 4), np.float32))) as picture:
        assert picture.size == (2 * 4 + explain.GAP, 2 * 4 + explain.GAP)
        assert picture.getpixel((0, 0))[3] == 255
        assert picture.getpixel((9, 9))[3] == 0
