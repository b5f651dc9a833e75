"""Downloads with progress, and the torchvision data sets that are read from them."""

from __future__ import annotations

import hashlib
import os
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from deepleak_core.data.items import Items
from deepleak_core.errors import DatasetUnavailable
from deepleak_core.events import Downloading
from deepleak_core.scenario import Scenario

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


def data_folder() -> Path:
    """Where downloads are kept: `DEEPLEAK_DATA`, or the user's cache folder."""
    default = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "deepleak"
    return Path(os.environ.get("DEEPLEAK_DATA", default))


def downloaded(kind: type[Any], scenario: Scenario) -> Items:
    """The test split of a torchvision data set. Raises `DatasetUnavailable` before `download` was run."""
    try:
        data = kind(data_folder(), train=False)
    except RuntimeError as error:
        raise DatasetUnavailable(
            f"{scenario.dataset} is not in {data_folder()} yet ({error}); the bundled samples work offline."
        ) from error
    return Items(tuple(data.targets), lambda i: Image.fromarray(data.data[i]))


def download(kind: type[Any], scenario: Scenario) -> Iterator[Downloading]:
    """Download a torchvision data set unless it is there already. Raises `DatasetUnavailable`."""
    root = data_folder()
    try:
        if not (root / kind.base_folder).is_dir():
            yield from fetch(scenario.dataset, kind.url, root / kind.filename, md5=kind.tgz_md5)
        kind(root, train=False, download=True)
    except (OSError, RuntimeError) as error:
        raise DatasetUnavailable(
            f"{scenario.dataset} could not be downloaded from {kind.url} ({error}); "
            f"the bundled {scenario.dataset}-samples work offline."
        ) from error
