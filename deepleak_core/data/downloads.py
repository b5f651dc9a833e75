"""Downloads with progress, and the torchvision data sets that are read from them."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import os
import tempfile
import time
import urllib.request
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torchvision
from PIL import Image

from deepleak_core.data.items import Items
from deepleak_core.environment import DATA
from deepleak_core.errors import DatasetUnavailable
from deepleak_core.events import Downloading
from deepleak_core.scenario import Scenario

CHUNK = 1 << 18  # bytes
MOST_BYTES = 1 << 30  # of a download whose size is not known
EVENT_SECONDS = 0.25
NETWORK_ERRORS = (OSError, http.client.HTTPException)
DAMAGED = (OSError, RuntimeError, ValueError, AssertionError, EOFError, zlib.error, gzip.BadGzipFile)


class Archive(NamedTuple):
    """A file to download, from the first address that works."""

    urls: Sequence[str]
    target: Path
    md5: str
    unpacked: Path


def fetch(
    name: str,
    url: str,
    target: Path,
    *,
    md5: str = "",
    sha256: str = "",
    most_bytes: int = MOST_BYTES,
    timeout: float = 20.0,
) -> Iterator[Downloading]:
    """Download `url` to `target`, with at most four events a second and one at the end.

    `name` is what the events call it; give one of the checksums. A file that is there with the right one is not
    downloaded again. An incomplete file never has the target's name. Raises OSError where the network or the checksum
    fails, or there are more than `most_bytes`.
    """
    algorithm, expected = ("sha256", sha256) if sha256 else ("md5", md5)
    if target.is_file() and _digest(target, algorithm) == expected:
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}-", delete=False) as out:
        partial = Path(out.name)
    try:
        yield from _download(name, url, partial, most_bytes, timeout)
        if (found := _digest(partial, algorithm)) != expected:
            raise OSError(f"the checksum of {url} was {found}, expected {expected}")
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


def _download(name: str, url: str, target: Path, most_bytes: int, timeout: float) -> Iterator[Downloading]:
    with urllib.request.urlopen(url, timeout=timeout) as response, target.open("wb") as out:
        total = int(response.headers.get("Content-Length") or 0)
        done, reported = 0, 0.0
        while chunk := response.read(CHUNK):
            done += len(chunk)
            if max(done, total) > most_bytes:
                raise OSError(f"{url} has more than the {most_bytes} bytes expected")
            out.write(chunk)
            if time.monotonic() - reported > EVENT_SECONDS:
                reported = time.monotonic()
                yield Downloading(dataset=name, bytes_done=done, bytes_total=total)
    yield Downloading(dataset=name, bytes_done=done, bytes_total=total)


def _digest(path: Path, algorithm: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def data_folder() -> Path:
    """Where downloads are kept: `DEEPLEAK_DATA`, or the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "deepleak"
    return Path(DATA.value() or default)


def downloaded(kind: type[Any], scenario: Scenario) -> Items:
    """The test split of a torchvision data set. Raises `DatasetUnavailable` before `download` has run."""
    try:
        data = _test_split(kind)(data_folder(), train=False)
    except DAMAGED as error:
        raise DatasetUnavailable(
            f"{scenario.dataset} is not in {data_folder()} yet ({error}); the bundled samples work offline."
        ) from error
    return Items(tuple(map(int, data.targets)), lambda i: Image.fromarray(np.asarray(data.data[i])))


def download(kind: type[Any], scenario: Scenario) -> Iterator[Downloading]:
    """Download the test split of a torchvision data set unless it is there. Raises `DatasetUnavailable`."""
    root, split = data_folder(), _test_split(kind)
    archives = _archives(split, root)
    try:
        try:
            split(root, train=False)
        except DAMAGED:
            for archive in archives:
                yield from _fetch_from_any(scenario.dataset, archive)
                if archive.unpacked.is_file():  # torchvision would keep a damaged file
                    archive.unpacked.unlink()
            split(root, train=False, download=True)
    except (*NETWORK_ERRORS, *DAMAGED) as error:
        raise DatasetUnavailable(
            f"{scenario.dataset} could not be downloaded from {archives[-1].urls[0]} ({error}); "
            f"the bundled {scenario.dataset}-samples work offline."
        ) from error


def _fetch_from_any(dataset: str, archive: Archive) -> Iterator[Downloading]:
    for url in archive.urls:
        try:
            yield from fetch(dataset, url, archive.target, md5=archive.md5)
            return
        except NETWORK_ERRORS:
            if url == archive.urls[-1]:
                raise


def _test_split(kind: type[Any]) -> type[Any]:
    """The class of a data set; that of MNIST and its like without its training files, which it would insist on."""
    if not issubclass(kind, torchvision.datasets.MNIST):
        return kind
    test_files = [(name, md5) for name, md5 in kind.resources if name.startswith("t10k")]
    return type(kind.__name__, (kind,), {"resources": test_files})  # the name is that of its folder


def _archives(kind: type[Any], root: Path) -> list[Archive]:
    """The files that torchvision unpacks once they are where it looks for them."""
    if issubclass(kind, torchvision.datasets.MNIST):
        folder = root / kind.__name__ / "raw"
        return [
            Archive([mirror + name for mirror in kind.mirrors], folder / name, md5, folder / name.removesuffix(".gz"))
            for name, md5 in kind.resources
        ]
    return [Archive([kind.url], root / kind.filename, kind.tgz_md5, root / kind.base_folder)]
