"""How fast the attacks are: iterations a second and time to a PSNR, for each model and preset.

python -m benchmarks.attack_speed                     every model and preset, CPU and GPU where there is one
python -m benchmarks.attack_speed --models lenet64-elu --presets dlg --seconds 20

Each cell is one run on four CIFAR-10 images of different classes, ended by its preset or after `--seconds` of attack
time, whatever comes first. Time counts from the update on and includes label inference; a time to a PSNR is reached
when every image is there. A short run before each cell pays for loading and caches. The attack gets as many threads
as in the app. Prints a markdown table and writes benchmarks/results/attack_speed_cpu.json, or _cuda. Needs no
streamlit.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_machine
from deepleak_core.attack.presets import PRESETS
from deepleak_core.errors import DeepLeakError
from deepleak_core.events import Finished, LabelsInferred
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.run import run
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

RESULTS = Path(__file__).parent / "results"
IMAGES = (0, 1, 3, 4)
COLUMNS = ("model", "preset", "iterations/s", "20 dB after", "30 dB after", "PSNR at the end", "ended after")


def main() -> None:
    """Measure every cell asked for, print the tables, write the files."""
    options = parse(sys.argv[1:])
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    for device in options.devices:
        cells = []
        print(f"\n{device}: {machine['words']}, {options.threads} CPU threads\n")
        print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}")
        for cell in measure(options.models, options.presets, device, options.seconds):
            cells.append(cell)
            print(row(cell), flush=True)
        path = RESULTS / f"attack_speed_{device}.json"
        command = "python -m benchmarks.attack_speed " + " ".join(sys.argv[1:])
        path.write_text(json.dumps({"command": command.strip(), "machine": machine, "cells": cells}, indent=1) + "\n")
        print(f"\nwritten to {path}")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; lists default to everything there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--presets", nargs="+", choices=PRESETS, default=list(PRESETS))
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), default=there())
    parser.add_argument("--seconds", type=float, default=10.0, help="attack time of one cell (default: 10)")
    parser.add_argument("--threads", type=int, default=cpu_threads(), help="CPU threads (default: all cores but one)")
    return parser.parse_args(arguments)


def there() -> list[str]:
    """The kinds of devices this machine has."""
    return ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


def measure(names: Sequence[str], presets: Sequence[str], device: str, seconds: float) -> Iterator[dict[str, Any]]:
    """One cell after the other, as it is done."""
    for model in names:
        for preset in presets:
            scenario = Scenario(indices=IMAGES, model=model, attack=preset, device=device)
            yield {"model": model, "preset": preset, "device": device} | run(scenario, seconds)


def run(scenario: Scenario, seconds: float) -> dict[str, Any]:
    """The figures of one run; a scenario that cannot run says why instead."""
    try:
        for _ in run(scenario.changed(max_iterations=2, max_seconds=seconds)):
            pass
        events = list(run(scenario.changed(max_seconds=seconds)))
    except DeepLeakError as error:
        return {"refused": str(error)}
    finished = events[-1]
    assert isinstance(finished, Finished)
    return {
        "iterations": finished.step,
        "seconds": finished.seconds,
        "iterations_per_second": finished.step / finished.seconds,
        "time_to": finished.time_to,
        "mean_psnr": sum(finished.psnr) / len(finished.psnr),
        "min_psnr": min(finished.psnr),
        "labels_exact": next(event.exact for event in events if isinstance(event, LabelsInferred)),
        "reason": finished.reason,
    }


def row(cell: dict[str, Any]) -> str:
    """One line of the markdown table."""
    if "refused" in cell:
        return f"| {cell['model']} | {cell['preset']} | {cell['refused']} |" + " |" * (len(COLUMNS) - 3)
    times = [f"{t:.1f} s" if (t := cell["time_to"][name]) is not None else "-" for name in ("psnr20", "psnr30")]
    return (
        f"| {cell['model']} | {cell['preset']} | {cell['iterations_per_second']:.1f} | {times[0]} | {times[1]} "
        f"| {cell['mean_psnr']:.1f} dB | {cell['seconds']:.1f} s, {cell['reason']} |"
    )


if __name__ == "__main__":
    main()
