"""Image files that tests make for themselves."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def picture(path: Path, size: tuple[int, int] = (40, 30), colour: str = "red", **options: Any) -> Path:
    """A file of one colour, in a folder that is made where needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


def zoo(root: Path, *names: str) -> Path:
    """A folder with one image in each of these class folders."""
    for name in names:
        picture(root / name / "a.png")
    return root


def photo(height: int = 30, width: int = 40, channels: int = 1) -> np.ndarray:
    """8-bit values of a picture with every grey value in it: (height, width) or (height, width, channels)."""
    values = np.random.default_rng(0).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return values[..., 0] if channels == 1 else values


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header promises a large picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
