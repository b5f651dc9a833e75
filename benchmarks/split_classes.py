"""More classes out of the same images: every class of a folder is cut into equal parts, from dark to bright.

    python -m benchmarks.split_classes DIR OUT --parts 10

DIR holds a folder for each class; OUT gets one for each part, numbered, with hard links to the images, or copies on
another disk. CIFAR-10 cut into 10 or 100 makes data sets of 100 and 1000 classes that a network can be trained on, and
label inference measured with.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import numpy as np

from deepleak_core.data.folders import folder_classes
from deepleak_core.data.images import open_image


def main() -> None:
    """Write the folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="DIR", help="folder of class folders")
    parser.add_argument("out", type=Path, metavar="OUT", help="where the folders of the parts go")
    parser.add_argument("--parts", type=int, default=10, help="parts of each class (default: 10)")
    options = parser.parse_args()
    names = folder_classes(options.source)
    for index, name in enumerate(names):
        files = sorted((options.source / name).iterdir(), key=brightness)
        for part, members in enumerate(np.array_split(np.arange(len(files)), options.parts)):
            folder = options.out / f"{index * options.parts + part:04d}-{name}"
            folder.mkdir(parents=True)
            for member in members:
                put(files[member], folder / files[member].name)
    print(f"{len(names) * options.parts} classes in {options.out}")


def put(source: Path, target: Path) -> None:
    """The same file under another name; a symbolic link would lead out of the folder of images, which is refused."""
    try:
        target.hardlink_to(source)
    except OSError:
        shutil.copyfile(source, target)


def brightness(path: Path) -> tuple[float, str]:
    """The mean grey value of an image, and its name for a tie."""
    return float(np.asarray(open_image(path).convert("L")).mean()), path.name


if __name__ == "__main__":
    main()
