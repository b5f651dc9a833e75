"""The labelled images of a data set, read one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Items:
    """Labelled images: `read(i)` returns image `i` as a PIL image, `labels[i]` is the index of its class."""

    labels: tuple[int, ...]
    read: Callable[[int], Image.Image]
