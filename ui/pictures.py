"""Grids of pictures as HTML: private images, reconstructions, placeholders.

A grid is one piece of HTML, so that all its pictures change in the same instant.
"""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from deepleak_core.scoring.sentences import RECOVERED_DB
from ui.rendering import render

SHOWN = 64  # pictures of a larger batch that are drawn
STYLES = {"recovered": "photo", "recognisable": "clear", "not recovered": "poor"}  # by the outcome of an image


@dataclass(frozen=True)
class Tile:
    """One picture of a grid, as base64 text, or a placeholder without one."""

    title: str
    picture: str = ""
    alt: str = ""
    wrong: bool = False
    psnr: float | None = None
    outcome: str = ""
    aside: str | None = None

    @property
    def style(self) -> str:
        """The style of the PSNR: by the outcome, before the end of a run by the PSNR alone."""
        if self.outcome:
            return STYLES[self.outcome]
        return "photo" if (self.psnr or 0.0) >= RECOVERED_DB else "poor"


def thumbnails(pictures: Sequence[bytes], titles: Sequence[str]) -> Markup:
    """The private images, small, each with its label."""
    return _grid("dl-thumbs", _thumb_columns(len(pictures)), _tiles(pictures, titles), len(pictures))


def square(pictures: Sequence[bytes], titles: Sequence[str]) -> Markup:
    """Pictures as large as their column and the window allow, as many rows as columns."""
    return _grid("dl-square", _columns(len(pictures)), _tiles(pictures, titles), len(pictures))


def hidden(count: int) -> Markup:
    """Placeholders for hidden private images, in the space of `thumbnails`."""
    return _grid("dl-thumbs", _thumb_columns(count), [Tile("private")] * min(count, SHOWN), count)


def rebuilt(
    pictures: Sequence[bytes],
    titles: Sequence[str],
    psnr: Sequence[float] = (),
    wrong: Sequence[bool] = (),
    outcomes: Sequence[str] = (),
    asides: Sequence[str] = (),
) -> Markup:
    """Reconstructions, large, each with the label assumed for it.

    PSNR in dB, marks for wrong labels, outcomes and `asides`, small words below, are given for all pictures or none.
    """
    tiles = []
    for i, (picture, title) in enumerate(zip(pictures[:SHOWN], titles, strict=False)):
        quality = psnr[i] if psnr else None
        alt = f"rebuilt image {i + 1}" + (f", {quality:.1f} dB" if quality is not None else "")
        tiles.append(
            Tile(
                title,
                _encoded(picture),
                alt,
                wrong=bool(wrong) and wrong[i],
                psnr=quality,
                outcome=outcomes[i] if outcomes else "",
                aside=asides[i] if asides else None,
            )
        )
    return _grid("dl-rebuilt", _columns(len(pictures)), tiles, len(pictures))


def nothing_rebuilt(count: int) -> Markup:
    """Placeholders in the space of `rebuilt`."""
    return _grid("dl-rebuilt", _columns(count), [Tile("\N{NO-BREAK SPACE}")] * min(count, SHOWN), count)


def sheets(pictures: Mapping[str, bytes]) -> Markup:
    """Pictures by the words below them; more than four in rows of three."""
    tiles = _tiles(list(pictures.values()), list(pictures))
    return _grid("dl-sheets", len(tiles) if len(tiles) <= 4 else 3, tiles, len(tiles))


def _tiles(pictures: Sequence[bytes], titles: Sequence[str]) -> list[Tile]:
    return [Tile(title, _encoded(p), alt=title) for p, title in zip(pictures[:SHOWN], titles, strict=False)]


def _encoded(picture: bytes) -> str:
    return b64encode(picture).decode("ascii")


def _grid(kind: str, columns: int, tiles: Sequence[Tile], total: int) -> Markup:
    rows = math.ceil(len(tiles) / columns)
    return render("grid.html", kind=kind, columns=columns, rows=rows, tiles=tiles, left_out=max(0, total - SHOWN))


def _columns(count: int) -> int:
    """Columns of a large grid: as square as possible.

    >>> [_columns(count) for count in (1, 2, 4, 8, 64)]
    [1, 2, 2, 3, 8]
    """
    return max(1, math.ceil(math.sqrt(min(count, SHOWN))))


def _thumb_columns(count: int) -> int:
    return max(4, min(count, 8))
