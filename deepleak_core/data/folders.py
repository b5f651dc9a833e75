"""Own images: a folder that holds one folder of images for each class."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from deepleak_core.data.class_names import class_index
from deepleak_core.data.images import IMAGE_SUFFIXES, open_image
from deepleak_core.data.items import Items
from deepleak_core.errors import DatasetUnavailable


def folder_classes(folder: str | Path) -> tuple[str, ...]:
    """The class folders below a folder, sorted. Raises `DatasetUnavailable` when there are none."""
    path = Path(folder)
    if not path.is_dir():
        raise DatasetUnavailable(f"images was {str(folder)!r}, which is no folder; name a folder of class folders.")
    names = tuple(sorted(entry.name for entry in path.iterdir() if entry.is_dir()))
    if not names:
        raise DatasetUnavailable(
            f"{path} has no class folders; put the images of each class into a folder named after it."
        )
    return names


def folder_items(folder: str | Path, class_names: Sequence[str], dataset: str) -> Items:
    """The images of all class folders, matched to `class_names` by name or number.

    Raises `DatasetUnavailable` where a folder matches no class, or where there are no images.
    """
    files: list[tuple[Path, int]] = []
    unknown = []
    for name in folder_classes(folder):
        label = class_index(name, class_names)
        if label is None:
            unknown.append(name)
            continue
        paths = sorted((Path(folder) / name).iterdir())
        files += [(path, label) for path in paths if path.suffix.lower() in IMAGE_SUFFIXES]
    if unknown:
        raise DatasetUnavailable(
            f"{folder} has class folders that {dataset} does not know: "
            f"{', '.join(unknown[:5])}; name them after its classes or their numbers, or take dataset 'folder'."
        )
    if not files:
        raise DatasetUnavailable(f"{folder} holds no images; accepted are {' '.join(sorted(IMAGE_SUFFIXES))}.")
    return Items(tuple(label for _, label in files), lambda i: open_image(files[i][0]))
