"""Grids of pictures as HTML, each picture with its title. Pictures of an attack are drawn by `ui.player`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deepleak_core.runs.recording import SHOWN
from ui.rendering import base64_of, render


@dataclass(frozen=True)
class Tile:
    """One picture of a grid, as base64 text, and its title."""

    title: str
    picture: str


def square(pictures: Sequence[bytes], titles: Sequence[str]) -> Markup:
    """Pictures as large as their column and the window allow, as many rows as columns."""
    return _grid("dl-square", _columns(len(pictures)), _tiles(pictures, titles), len(pictures))


def sheets(pictures: Mapping[str, bytes]) -> Markup:
    """Pictures by the words below them; more than four in rows of three."""
    tiles = _tiles(list(pictures.values()), list(pictures))
    return _grid("dl-sheets", len(tiles) if len(tiles) <= 4 else 3, tiles, len(tiles))


def _tiles(pictures: Sequence[bytes], titles: Sequence[str]) -> list[Tile]:
    return [Tile(title, base64_of(p)) for p, title in zip(pictures[:SHOWN], titles, strict=False)]


def _grid(kind: str, columns: int, tiles: Sequence[Tile], total: int) -> Markup:
    rows = math.ceil(len(tiles) / columns)
    return render("grid.html", kind=kind, columns=columns, rows=rows, tiles=tiles, left_out=max(0, total - SHOWN))


def _columns(count: int) -> int:
    """Columns of a large grid: as square as possible.

    >>> [_columns(count) for count in (1, 2, 4, 8, 64)]
    [1, 2, 2, 3, 8]
    """
    return max(1, math.ceil(math.sqrt(min(count, SHOWN))))
