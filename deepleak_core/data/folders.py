"""Own images: a folder that holds one folder of images for each class.

Names that start with a dot are ignored, as are folders inside class folders. Links are followed as long as they stay
inside the folder.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from PIL import Image

from deepleak_core.data.class_names import classes_named, unclear
from deepleak_core.data.images import IMAGE_SUFFIXES, open_image
from deepleak_core.data.items import Items
from deepleak_core.errors import DatasetUnavailable
from deepleak_core.text import listed, printable, shorten


def folders_to_choose(root: str | Path) -> tuple[str, ...]:
    """A folder and those in it, as far as they hold class folders with files, in the order of their names.

    Left out is what cannot be read, has a name that is no UTF-8, or is a link out of `root`.
    """
    top = Path(root)
    try:
        if not _is_folder(top):
            return ()
        inside = [Path(entry.path) for entry in _entries(top) if _leads_to(entry.is_dir)]
    except DatasetUnavailable:
        return ()
    return tuple(str(folder) for folder in (top, *inside) if _can_be_chosen(folder, top))


def _can_be_chosen(folder: Path, top: Path) -> bool:
    try:
        str(folder).encode()
        return not _leads_outside(folder, top) and any(folder.glob("*/*.*"))
    except (OSError, UnicodeEncodeError):
        return False


def folder_classes(folder: str | Path) -> tuple[str, ...]:
    """The names of the class folders in a folder, sorted. Raises `DatasetUnavailable` where there are none."""
    root = Path(folder)
    if not _is_folder(root):
        raise DatasetUnavailable(
            f"images was {shorten(repr(str(folder)))}, which is no folder; name a folder of class folders."
        )
    names = []
    for entry in _entries(root):
        if _leads_to(entry.is_dir):
            if entry.is_symlink():
                _refuse_outside(Path(entry.path), root)
            names.append(_readable(entry.name))
    if not names:
        raise DatasetUnavailable(
            f"{_shown(root)} has no class folders; put the images of each class into a folder named after it."
        )
    return tuple(names)


def own_classes(folder: str | Path) -> tuple[str, ...]:
    """The class folders as the classes of a data set. Raises `DatasetUnavailable` where there are fewer than two."""
    names = folder_classes(folder)
    if len(names) == 1:
        raise DatasetUnavailable(
            f"{_shown(Path(folder))} has one class folder, {shorten(names[0])}; with one class every prediction is "
            "right and the gradient is zero: add a folder for a second class."
        )
    return names


def own_items(folder: str | Path) -> Items:
    """The images of all class folders, each folder a class of its own, numbered in the order of `own_classes`."""
    return _items(Path(folder), {name: label for label, name in enumerate(own_classes(folder))})


def matched_items(folder: str | Path, class_names: Sequence[str], dataset: str, own: str) -> Items:
    """The images of all class folders, each matched to one of `class_names` by name or number.

    `dataset` names the data set of these classes; `own` is how to choose the one whose classes are the folders.
    Raises `DatasetUnavailable` where a folder is no class, can mean several, or is the same class as another.
    """
    labels: dict[str, int] = {}
    folders: dict[int, str] = {}
    for name in folder_classes(folder):
        found = classes_named(name, class_names)
        if len(found) != 1:
            problem = unclear(f"{_shown(Path(folder))} has a class folder", name, class_names)
            raise DatasetUnavailable(f"{problem} Rename it, or choose {own}, whose classes are the folders.")
        if found[0] in folders:
            raise DatasetUnavailable(
                f"{_shown(Path(folder))} has two folders for class {class_names[found[0]]} of {dataset}: "
                f"{listed([folders[found[0]], name])}; put their images into one."
            )
        folders[found[0]] = name
        labels[name] = found[0]
    return _items(Path(folder), labels)


def _items(root: Path, labels: dict[str, int]) -> Items:
    files: list[tuple[str, int]] = []
    left_out: list[str] = []
    for name, label in labels.items():
        for entry in _entries(root / name):
            file = f"{name}/{entry.name}"
            if Path(entry.name).suffix.lower() in IMAGE_SUFFIXES:
                if entry.is_symlink():
                    _refuse_outside(Path(entry.path), root)
                if not _leads_to(entry.is_file):
                    raise DatasetUnavailable(
                        f"{printable(file)} in {_shown(root)} is no regular file; accepted are image files: remove it."
                    )
                files.append((file, label))
            elif _leads_to(entry.is_file):
                left_out.append(file)
    if not files:
        others = f" ({listed(left_out, 3)} in none of these formats)" if left_out else ""
        raise DatasetUnavailable(
            f"{_shown(root)} holds no images{others}; accepted are files that end in "
            f"{' '.join(sorted(IMAGE_SUFFIXES))}."
        )

    def read(number: int) -> Image.Image:
        name, _ = files[number]
        _refuse_outside(root / name, root)
        return open_image(root / name, name=name)

    return Items(tuple(label for _, label in files), read, tuple(left_out))


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What a folder holds, sorted by name, without hidden entries. Raises `DatasetUnavailable`."""
    try:
        with os.scandir(folder) as found:
            return sorted((entry for entry in found if entry.name[0] != "."), key=lambda entry: entry.name)
    except OSError as error:
        raise DatasetUnavailable(
            f"{_shown(folder)} cannot be read ({error.strerror}); accepted is a folder that this user may read."
        ) from error


def _leads_to(kind: Callable[[], bool]) -> bool:
    """Whether an entry, or what it links to, is of a kind."""
    try:
        return kind()
    except OSError:  # a link to itself
        return False


def _readable(name: str) -> str:
    """The name of a class folder. Raises `DatasetUnavailable` where it cannot be written as text."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise DatasetUnavailable(
            f"A class folder is named {shorten(name)}, which is not UTF-8; accepted are names in UTF-8: rename it."
        ) from error
    return name


def _refuse_outside(path: Path, root: Path) -> None:
    """Raise `DatasetUnavailable` where a link leads out of the folder of images."""
    if _leads_outside(path, root):
        raise DatasetUnavailable(
            f"{printable(str(path.relative_to(root)))} in {_shown(root)} is a link out of this folder; accepted are "
            "files inside it: copy the images there."
        )


def _leads_outside(path: Path, root: Path) -> bool:
    """Whether a path, once all links in it are followed, is not in `root`."""
    try:
        return not path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a link to itself
        return True


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):  # a name that is too long, or holds a null character
        return False


def _shown(path: Path) -> str:
    return printable(str(path))
