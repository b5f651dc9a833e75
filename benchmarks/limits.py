"""Measure what the largest batches and images cost on this machine: `python -m benchmarks.limits [--cells NAME ...]`.

Each cell is one scenario: seconds of attack time until the labels are known and until every image is pixel-exact,
whether the copies were certified without the ground truth, and the peak memory of a process of its own. Writes
benchmarks/results/limits.json; cells measured before are kept unless they are measured again.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
from typing import Any

import torch

from benchmarks import outcomes, tables
from benchmarks.machine import describe_machine
from deepleak_core.events import LabelsInferred
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

RESULT = outcomes.RESULTS / "limits.json"
IMAGENET: dict[str, Any] = {"dataset": "imagenet-samples", "attack": "exact"}
CELLS: dict[str, dict[str, Any]] = {
    "4 of CIFAR-10, distinct": {"indices": (0, 1, 3, 4), "attack": "exact"},
    "4 of CIFAR-10, one class": {"indices": (4, 5, 7, 19), "attack": "exact"},
    "8 of CIFAR-10, repeats": {"indices": (4, 5, 7, 19, 0, 1, 2, 3), "attack": "exact"},
    "16 of CIFAR-100": {"dataset": "cifar100-samples", "batch_size": 16, "attack": "exact"},
    "4 of CIFAR-10, FedAvg, 5 steps": {
        "indices": (0, 1, 3, 4), "attack": "exact", "mode": "fedavg", "local_epochs": 5,
    },
    "4 of ImageNet, 64 px": {**IMAGENET, "image_size": 64},
    "4 of ImageNet, 64 px, general-deep-leakage": {
        **IMAGENET, "image_size": 64, "attack": "general-deep-leakage", "max_seconds": 20,
    },
    "8 of ImageNet, 64 px": {**IMAGENET, "image_size": 64, "batch_size": 8},
    "2 of ImageNet, 96 px": {**IMAGENET, "image_size": 96, "batch_size": 2},
    "1 of ImageNet, 224 px, strided": {**IMAGENET, "image_size": 224, "batch_size": 1, "model": "strided"},
    "2 of ImageNet, 224 px, strided": {**IMAGENET, "image_size": 224, "batch_size": 2, "model": "strided"},
}  # fmt: skip


def measure(name: str) -> dict[str, Any]:
    """One cell, in this process."""
    torch.set_num_threads(cpu_threads())
    outcomes.attack(Scenario(attack="exact", max_iterations=2))  # loads code
    outcome = outcomes.attack(Scenario(**CELLS[name]))
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


def main() -> None:
    """Measure every cell asked for, each in a process of its own, and write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS))
    machine = describe_machine()
    print(tables.markdown(tables.LIMITS_HEAD, []))
    cells = {cell["cell"]: cell for cell in json.loads(RESULT.read_text())["cells"]} if RESULT.exists() else {}
    for name in parser.parse_args().cells:
        with multiprocessing.get_context("spawn").Pool(1) as process:
            cells[name] = process.apply(measure, (name,))
        print(tables.line(tables.limits_row(cells[name])), flush=True)
        ordered = [cells[name] for name in CELLS if name in cells]
        result = {"command": outcomes.command("benchmarks.limits"), "machine": machine, "cells": ordered}
        RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
