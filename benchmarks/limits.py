"""Measure what the largest batches and images cost on this machine: `python -m benchmarks.limits [--cells NAME ...]`.

Each cell is one scenario: seconds of attack time until the labels are known and until every image is pixel-exact,
whether the copies were certified without the ground truth, and the peak memory of a process of its own. Merges the
cells into benchmarks/results/limits.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import markdown, outcomes
from deepleak_core.data.samples import sample_files
from deepleak_core.events import LabelsInferred
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

RESULT = outcomes.RESULTS / "limits.json"
IMAGENET: dict[str, Any] = {"dataset": "imagenet-samples", "attack": "exact"}
CELLS: dict[str, dict[str, Any]] = {
    "4 of CIFAR-10, FedAvg, 5 steps": {
        "indices": (0, 1, 3, 4), "attack": "exact", "mode": "fedavg", "local_epochs": 5,
    },
    "4 of ImageNet, 64 px": {**IMAGENET, "image_size": 64},
    "8 of ImageNet, 64 px": {**IMAGENET, "image_size": 64, "batch_size": 8},
    "8 of ImageNet, 64 px, 4 labelled alike": {**IMAGENET, "image_size": 64, "indices": tuple(range(8))},
    "2 of ImageNet, 96 px": {**IMAGENET, "image_size": 96, "batch_size": 2},
    "1 of ImageNet, 224 px, strided": {**IMAGENET, "image_size": 224, "batch_size": 1, "model": "strided"},
    "2 of ImageNet, 224 px, strided": {**IMAGENET, "image_size": 224, "batch_size": 2, "model": "strided"},
    "5 of ImageNet, 224 px, strided": {**IMAGENET, "image_size": 224, "batch_size": 5, "model": "strided"},
}  # fmt: skip
# The bundled photos have no class with four. Here a client labels four animals as one class: numbers by class folder.
FOLDERS = {
    "8 of ImageNet, 64 px, 4 labelled alike": {
        "dalmatian": (0, 14, 15, 16), "jeep": (6,), "strawberry": (4,), "yurt": (8,), "drum": (10,),
    },
}  # fmt: skip


def measure(name: str) -> dict[str, Any]:
    """One cell, in this process."""
    torch.set_num_threads(cpu_threads())
    outcomes.attack(Scenario(attack="exact", max_iterations=2))  # loads code
    with tempfile.TemporaryDirectory() as folder:
        for label, numbers in FOLDERS.get(name, {}).items():
            _copy_photos(numbers, Path(folder) / label)
        images = {"images": folder} if name in FOLDERS else {}
        outcome = outcomes.attack(Scenario(**CELLS[name], **images))
    labels, finished = outcome.last(LabelsInferred), outcome.finished
    reached = outcome.score.time_to
    return {
        "cell": name,
        "labels": round(labels.seconds, 2),
        "labels_certified": labels.certified,
        "psnr30": None if reached["psnr30"] is None else round(reached["psnr30"], 2),
        "pixel_exact": None if reached["pixel_exact"] is None else round(reached["pixel_exact"], 2),
        "copies_certified": finished.certified,
        "seconds": round(finished.seconds, 2),
        "mean_psnr": round(outcome.score.mean_psnr, 1),
        "peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def _copy_photos(numbers: Sequence[int], folder: Path) -> None:
    """Copy bundled photos, by number, to a class folder."""
    folder.mkdir()
    for number in numbers:
        photo, _ = sample_files("imagenet")[number]
        shutil.copy(photo, folder)


HEAD = ("batch", "labels, s", "30 dB, s", "pixel-exact, s", "certified", "end, s", "mean PSNR", "peak memory")


def table() -> str:
    """What the largest batches and images cost."""
    cells = outcomes.read(RESULT)["cells"]
    return markdown.sources(cells) + markdown.table(HEAD, map(row, cells))


def row(cell: dict[str, Any]) -> markdown.Row:
    """One scenario."""
    certified = "copies" if cell["copies_certified"] else "labels" if cell["labels_certified"] else "no"
    times = (cell["labels"], cell["psnr30"], cell["pixel_exact"])
    return (cell["cell"], *times, certified, cell["seconds"], f"{cell['mean_psnr']:.0f} dB", f"{cell['peak_mb']} MB")


def main() -> None:
    """Measure every cell asked for, each in a process of its own, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS))
    measured_with = outcomes.measured_with("benchmarks.limits", ["--cells"])
    print(markdown.table(HEAD, []))
    for name in parser.parse_args().cells:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            cell = process.apply(measure, (name,)) | measured_with
        outcomes.keep(RESULT, cell, ["cell"], [(other,) for other in CELLS])
        print(markdown.line(row(cell)), flush=True)


if __name__ == "__main__":
    main()
