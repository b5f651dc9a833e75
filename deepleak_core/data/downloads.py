"""A download that tells how far it is, as an iterator."""

from __future__ import annotations

import hashlib
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from deepleak_core.events import Downloading

CHUNK = 1 << 18


def fetch(dataset: str, url: str, target: Path, *, md5: str, timeout: float = 20.0) -> Iterator[Downloading]:
    """Download `url` to `target`, at most four events a second and one at the end.

    A file that is there with the right checksum is not downloaded again. Raises OSError when the network or
    the checksum fails; a partial file never takes the target's name.
    """
    if target.is_file() and _md5(target) == md5:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".part")
    with urllib.request.urlopen(url, timeout=timeout) as response, partial.open("wb") as out:
        total = int(response.headers.get("Content-Length") or 0)
        done, told = 0, 0.0
        while chunk := response.read(CHUNK):
            out.write(chunk)
            done += len(chunk)
            if time.monotonic() - told > 0.25:
                told = time.monotonic()
                yield Downloading(dataset=dataset, bytes_done=done, bytes_total=total)
    yield Downloading(dataset=dataset, bytes_done=done, bytes_total=total)
    if (found := _md5(partial)) != md5:
        partial.unlink()
        raise OSError(f"the checksum of {url} was {found}, expected {md5}")
    partial.rename(target)


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
