"""Compare estimated with real times of attacks on photos: `python -m benchmarks.estimates [--cells NAME ...]`.

Each cell calibrates the network, estimates the seconds of an attack (`deepleak_core.runs.estimates`) and runs it, in
one process. Both sides are processor time of one thread, so that what else the machine does changes neither much. The
time of label inference is left out; a network is calibrated once. Writes benchmarks/results/estimates.json.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import torch

import deepleak_core
from benchmarks import markdown, outcomes
from deepleak_core.events import Finished, LabelsInferred
from deepleak_core.runs.estimates import calibrate, estimate
from deepleak_core.scenario import Scenario

RESULT = outcomes.RESULTS / "estimates.json"
CHANNELS = 3
SEARCH: dict[str, Any] = {"batch_size": 2, "max_iterations": 6}
EXACT: dict[str, Any] = {"attack": "exact"}
CELLS: dict[str, dict[str, Any]] = {
    "lenet64-elu, 64 px, search": {**SEARCH, "model": "lenet64-elu", "image_size": 64, "max_iterations": 40},
    "strided, 224 px, search": {**SEARCH, "model": "strided", "image_size": 224},
    "resnet18, 64 px, search": {**SEARCH, "model": "resnet18", "image_size": 64},
    "resnet18, 224 px, search": {**SEARCH, "model": "resnet18", "image_size": 224},
    "mobilenet-v2, 224 px, search": {**SEARCH, "model": "mobilenet-v2", "image_size": 224},
    "lenet64-elu, 64 px, exact": {**EXACT, "model": "lenet64-elu", "image_size": 64},
    "strided, 96 px, exact": {**EXACT, "model": "strided", "image_size": 96},
    "strided, 224 px, exact": {**EXACT, "model": "strided", "image_size": 224, "batch_size": 2},
}


def measure(name: str) -> dict[str, Any]:
    """One cell: seconds of the calibration, of the estimate and of the run."""
    scenario = Scenario(dataset="imagenet-samples", device="cpu", **CELLS[name])
    began = time.process_time()
    cost = calibrate(scenario.model, CHANNELS)
    torch.set_num_threads(1)
    estimated, calibrated = estimate(scenario, cost), time.process_time() - began
    inferred = real = 0.0
    for event in deepleak_core.run(scenario):
        if isinstance(event, LabelsInferred):
            inferred = time.process_time()
        elif isinstance(event, Finished):
            real = time.process_time() - inferred
    return {
        "cell": name,
        "calibration": round(calibrated, 2),
        "estimate": round(estimated.seconds, 2),
        "real": round(real, 2),
    }


HEAD = ("attack", "calibration, s", "estimated, s", "real, s", "estimated / real")


def table() -> str:
    """Estimated and real seconds of attacks on photos."""
    cells = outcomes.read(RESULT)["cells"]
    return markdown.sources(cells) + markdown.table(HEAD, map(row, cells))


def row(cell: dict[str, Any]) -> markdown.Row:
    """One attack."""
    return (
        *(cell[name] for name in ("cell", "calibration", "estimate", "real")),
        f"{cell['estimate'] / cell['real']:.1f}",
    )


def main() -> None:
    """Measure every cell asked for and keep it in the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS))
    measured_with = outcomes.measured_with("benchmarks.estimates", ["--cells"])
    print(markdown.table(HEAD, []))
    for name in parser.parse_args().cells:
        cell = measure(name) | measured_with
        outcomes.keep(RESULT, cell, ["cell"], [(other,) for other in CELLS])
        print(markdown.line(row(cell)), flush=True)


if __name__ == "__main__":
    main()
