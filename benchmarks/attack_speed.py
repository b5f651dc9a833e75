"""Measure iterations a second and the time to a PSNR of every model and attack.

python -m benchmarks.attack_speed                     every model and attack, CPU and GPU where there is one
python -m benchmarks.attack_speed --models lenet64-elu --attacks dlg --seconds 20

Each cell is one run on four CIFAR-10 images of different classes, which ends by itself or after `--seconds` of attack
time, whichever comes first. Time counts from the arrival of the update and includes label inference; a PSNR is reached
when every image has it. A short run before each cell loads code and fills caches. The attack uses as many threads as in
the app. Prints a table and merges the cells into benchmarks/results/attack_speed_cpu.json, or _cuda.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import markdown, outcomes
from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.errors import DeepLeakError
from deepleak_core.events import LabelsInferred
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

IMAGES = (0, 1, 3, 4)


def main() -> None:
    """Measure every cell asked for, print the tables, write the files."""
    options = parse(sys.argv[1:])
    torch.set_num_threads(options.threads)
    measured_with = outcomes.measured_with("benchmarks.attack_speed", ["--models", "--attacks"])
    order = [(model, attack) for model in MODELS for attack in ATTACKS]
    for device in options.devices:
        print(f"\n{device}: {measured_with['machine']['words']}, {options.threads} CPU threads\n")
        print(markdown.table(HEAD, []))
        for cell in measure(options.models, options.attacks, device, options.seconds):
            outcomes.keep(result_of(device), cell | measured_with, ["model", "attack"], order)
            print(markdown.line(row(cell)), flush=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; lists default to everything there is."""
    there = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--devices", nargs="+", choices=("cpu", "cuda"), default=there)
    parser.add_argument("--seconds", type=float, default=10.0, help="attack time of one cell (default: 10)")
    parser.add_argument("--threads", type=int, default=cpu_threads(), help="CPU threads (default: all cores but one)")
    return parser.parse_args(arguments)


def measure(models: Sequence[str], attacks: Sequence[str], device: str, seconds: float) -> Iterator[dict[str, Any]]:
    """One cell after the other."""
    for model in models:
        for attack in attacks:
            scenario = Scenario(indices=IMAGES, model=model, attack=attack, device=device, max_seconds=seconds)
            yield {"model": model, "attack": attack, "device": device} | run(scenario)


def run(scenario: Scenario) -> dict[str, Any]:
    """The figures of one run; why it was refused for a scenario that cannot run."""
    try:
        outcomes.attack(scenario.changed(max_iterations=2))
        outcome = outcomes.attack(scenario)
    except DeepLeakError as error:
        return {"refused": str(error)}
    finished, score, labels = outcome.finished, outcome.score, outcome.last(LabelsInferred).score
    return {
        "iterations": finished.step,
        "seconds": finished.seconds,
        "iterations_per_second": finished.step / finished.seconds,
        "time_to": score.time_to,
        "mean_psnr": score.mean_psnr,
        "min_psnr": min(score.psnr),
        "labels_exact": labels is not None and labels.exact,
        "reason": finished.reason,
    }


def result_of(device: str) -> Path:
    """The file of the cells of a device."""
    return outcomes.RESULTS / f"attack_speed_{device}.json"


HEAD = ("model", "attack", "iterations/s", "20 dB after", "30 dB after", "PSNR at the end", "ended after")


def table(device: str) -> str:
    """Every attack on every model."""
    cells = outcomes.read(result_of(device))["cells"]
    return markdown.sources(cells, "model") + markdown.table(HEAD, map(row, cells))


def row(cell: dict[str, Any]) -> markdown.Row:
    """One cell, or why it was refused."""
    attack = cell["attack"]
    if "refused" in cell:
        return (cell["model"], attack, cell["refused"], None, None, None, None)
    return (
        cell["model"],
        attack,
        f"{cell['iterations_per_second']:.1f}",
        markdown.seconds(cell["time_to"]["psnr20"]),
        markdown.seconds(cell["time_to"]["psnr30"]),
        markdown.decibels(cell["mean_psnr"]),
        f"{cell['seconds']:.1f} s, {cell['reason']}",
    )


if __name__ == "__main__":
    main()
