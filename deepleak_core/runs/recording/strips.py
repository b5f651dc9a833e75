"""The pictures of one frame, side by side as one WebP picture."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
from PIL import Image

LOSSLESS_PIXELS = 8192  # of a frame; larger ones are compressed with loss, but for the last
WEBP_QUALITY = 90
Pixels = npt.NDArray[np.uint8]


def strip(images: Pixels, *, lossless: bool) -> bytes:
    """Images (B, C, H, W) side by side as one WebP picture; large ones with loss unless `lossless`."""
    row = np.concatenate(list(images), axis=2)
    picture = Image.fromarray(row[0] if len(row) == 1 else row.transpose(1, 2, 0)).convert("RGB")
    buffer = io.BytesIO()
    if lossless or picture.width * picture.height <= LOSSLESS_PIXELS:
        picture.save(buffer, "WEBP", lossless=True, method=2)
    else:
        picture.save(buffer, "WEBP", quality=WEBP_QUALITY, method=4)
    return buffer.getvalue()


def split(pictures: bytes, count: int) -> tuple[bytes, ...]:
    """The `count` images of a strip, as PNG bytes."""
    with Image.open(io.BytesIO(pictures), formats=("WEBP",)) as opened:
        row = opened.convert("RGB")
    width = row.width // count
    return tuple(_png(row.crop((i * width, 0, (i + 1) * width, row.height))) for i in range(count))


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()
