"""A small disk for tests and benchmarks: a file system in memory, where this process may mount one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE = "8m"


@contextmanager
def mounted(folder: Path) -> Iterator[bool]:
    """Mount a small file system on a folder; gives whether that was possible."""
    command = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    possible = subprocess.run(command, capture_output=True, check=False).returncode == 0
    try:
        yield possible
    finally:
        if possible:
            subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all space that is left."""
    filler = folder / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            with suppress(OSError):
                while True:
                    file.write(b"x" * size)
    return filler
