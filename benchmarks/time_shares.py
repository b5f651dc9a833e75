"""Measure what an attack spends its time on: `python -m benchmarks.time_shares [--cells NAME ...]`.

Each cell is one run under PyTorch's profiler, which slows it down: shares are of the time inside PyTorch's operations,
not of the run, and say nothing about its speed. On a GPU they are shares of the time of kernels, which are launched one
by one here, since a profiler does not see into a CUDA graph. Writes benchmarks/results/time_shares.json.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks import markdown, outcomes
from benchmarks.gpu_check import without_graphs
from deepleak_core.scenario import Scenario

RESULT = outcomes.RESULTS / "time_shares.json"
IMAGENET: dict[str, Any] = {"dataset": "imagenet-samples"}
CELLS: dict[str, dict[str, Any]] = {
    "general-deep-leakage, 4 of CIFAR-10": {"indices": (0, 1, 3, 4), "max_seconds": 4},
    "general-deep-leakage, 4 of CIFAR-10, resnet20": {"indices": (0, 1, 3, 4), "model": "resnet20", "max_seconds": 4},
    "general-deep-leakage, 4 of ImageNet, 64 px": {**IMAGENET, "image_size": 64, "max_seconds": 10},
    "exact, 4 of CIFAR-10": {"indices": (0, 1, 3, 4), "attack": "exact"},
    "exact, 8 of CIFAR-10, repeats": {"indices": (4, 5, 7, 19, 0, 1, 2, 3), "attack": "exact"},
    "exact, 4 of ImageNet, 64 px": {**IMAGENET, "image_size": 64, "attack": "exact"},
    "exact, 1 of ImageNet, 224 px, strided": {
        **IMAGENET, "image_size": 224, "batch_size": 1, "model": "strided", "attack": "exact",
    },
}  # fmt: skip
KINDS: dict[str, tuple[str, ...]] = {
    "convolutions": ("conv",),
    "matrix products": ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "aten::mv", "aten::dot"),
    "factorisations": ("linalg", "geqrf", "orgqr", "cholesky", "lu_", "svd", "triangular_solve"),
}
"""Parts of the names of operations; what has none of them counts as the rest."""


def kind_of(operation: str) -> str:
    """The kind of an operation.

    >>> kind_of("aten::mkldnn_convolution"), kind_of("aten::_linalg_svd"), kind_of("aten::mul")
    ('convolutions', 'factorisations', 'rest')
    """
    return next((kind for kind, parts in KINDS.items() if any(part in operation for part in parts)), "rest")


def measure(scenario: Scenario) -> dict[str, float]:
    """The share of each kind of operation in one run."""
    outcomes.attack(scenario.changed(max_seconds=0.5))  # loads code
    on_gpu = scenario.device.startswith("cuda")
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with without_graphs(), profile(activities=activities) as profiled:
        outcomes.attack(scenario)
    times = dict.fromkeys([*KINDS, "rest"], 0.0)
    for entry in profiled.key_averages():
        if entry.device_type.name == "CPU" and entry.key.startswith("aten::"):
            times[kind_of(entry.key)] += entry.self_device_time_total if on_gpu else entry.self_cpu_time_total
    whole = sum(times.values())
    return {kind: spent / whole for kind, spent in times.items()}


HEAD = ("attack", "convolutions", "matrix products", "factorisations", "rest")


def table() -> str:
    """What attacks spend their time on."""
    cells = outcomes.read(RESULT)["cells"]
    return markdown.sources(cells) + markdown.table(HEAD, map(row, cells))


def row(cell: dict[str, Any]) -> markdown.Row:
    """One attack."""
    return (cell["cell"], *(f"{cell['shares'][kind]:.0%}" for kind in HEAD[1:]))


def main() -> None:
    """Measure every cell asked for and merge it into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(1)
    measured_with = outcomes.measured_with("benchmarks.time_shares", ["--cells"])
    print(markdown.table(HEAD, []))
    for name in options.cells:
        cell = {"cell": name, "shares": measure(Scenario(**CELLS[name], device=options.device))} | measured_with
        outcomes.keep(RESULT, cell, ["cell"], [(other,) for other in CELLS])
        print(markdown.line(row(cell)), flush=True)


if __name__ == "__main__":
    main()
