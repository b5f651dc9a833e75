"""Pictures as one strip, side by side: one file to encode, send and decode for each moment."""

from __future__ import annotations

import io
from collections.abc import Sequence

from PIL import Image

from deepleak_core.runs.recording import SHOWN


def strip(pictures: Sequence[bytes]) -> bytes:
    """Pictures of equal size, as PNG or WebP bytes, side by side in one lossless WebP."""
    opened = [Image.open(io.BytesIO(picture)).convert("RGB") for picture in pictures[:SHOWN]]
    width, height = opened[0].size
    joined = Image.new("RGB", (width * len(opened), height))
    for place, picture in enumerate(opened):
        joined.paste(picture, (place * width, 0))
    buffer = io.BytesIO()
    joined.save(buffer, "WebP", lossless=True, quality=0, method=0)
    return buffer.getvalue()
