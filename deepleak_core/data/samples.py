"""Bundled sample images: 20 real images of each data set, from the files of the package foolbox."""

from __future__ import annotations

import importlib.util
import re
from functools import cache
from pathlib import Path

from deepleak_core.data.images import open_image
from deepleak_core.data.items import Items
from deepleak_core.errors import DatasetUnavailable


@cache
def sample_files(prefix: str) -> tuple[tuple[Path, int], ...]:
    """The sample files whose name starts with `prefix`, and their labels, in order of their numbers.

    Only the files are read; foolbox is never imported. Raises `DatasetUnavailable` where it is not installed.
    """
    spec = importlib.util.find_spec("foolbox")
    if spec is None or not spec.submodule_search_locations:
        raise DatasetUnavailable(
            "The bundled samples come with the package foolbox, which is not installed; pip install foolbox."
        )
    folder = Path(spec.submodule_search_locations[0]) / "data"
    pattern = re.compile(rf"{prefix}_(\d+)_(\d+)\.(png|jpg)")
    found = ((path, pattern.fullmatch(path.name)) for path in sorted(folder.iterdir()))
    return tuple((path, int(name[2])) for path, name in found if name)


def samples(prefix: str) -> Items:
    """The 20 samples of one data set."""
    files = sample_files(prefix)
    return Items(tuple(label for _, label in files), lambda i: open_image(files[i][0]))
