"""The labelled images of a data set, read one at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class Items:
    """The labelled images of a data set.

    Attributes:
        labels: class index of each image.
        read: returns an image by its number, as a PIL image of 8 bits a channel. Raises `DatasetUnavailable`.
        left_out: names of files that lie among the images and are in no accepted format.
    """

    labels: tuple[int, ...]
    read: Callable[[int], Image.Image]
    left_out: tuple[str, ...] = ()
