"""Open safetensors files from unknown sources: the size of the header is checked before anything in it is parsed."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from torch import Tensor

MOST_HEADER_BYTES = 4 * 2**20  # ten times what the largest network and the statistics of 128 classes need
LENGTH_BYTES = 8  # at the start of a file: the size of its header, as a little-endian number


def opened(path: Path) -> Any:
    """A file as safetensors, to be used in a `with` statement. Raises `OSError` or `SafetensorError`."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise SafetensorError("it is no regular file")
    with path.open("rb") as file:
        header = int.from_bytes(file.read(LENGTH_BYTES), "little")
    if header > MOST_HEADER_BYTES:
        raise SafetensorError(f"its header has more than {MOST_HEADER_BYTES >> 20} MB")
    return safe_open(path, "pt")


def read(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name. Raises `OSError` or `SafetensorError`."""
    with opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
