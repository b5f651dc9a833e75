"""Measure labels and images of General Deep Leakage and GradInversion on the same updates.

The three claims of the paper (Geng et al. 2021) are columns of the table: the label rule handles duplicates, larger
batches are reconstructed, and images are closer. Both attacks get the same weights, private images, update and
iterations. Each infers the labels by its own rule and has its own restarts, so GradInversion, with three of them, takes
longer. A third row gives GradInversion the labels of zero-shot restoration, which leaves the attacks to be compared
without their label rules. A fourth row is the exact attack.

Batches are CIFAR-10 images: `--images` names a folder of class folders; the default are the 20 bundled samples, which
have four images of a class at most. A batch of B in which n share a label has B - n further classes; n is B for "same",
B / 2 for "half" and 1 for "distinct". A cell is the median over the seeds, which draw images, weights and starting
points. The full table takes about batches x shares x attacks x seeds x 20 s on two cores.

    python -m benchmarks.against_gradinversion
    python -m benchmarks.against_gradinversion --batches 2 --iterations 20 --seeds 1

Prints a table and writes benchmarks/results/against_gradinversion.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import markdown, outcomes
from benchmarks.machine import describe_machine
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import LabelsInferred
from deepleak_core.scenario import Scenario
from deepleak_core.studies.fusion import same_label

RESULTS = outcomes.RESULTS / "against_gradinversion.json"
SHARES = {"distinct": 0.0, "half": 0.5, "same": 1.0}
ATTACKS: dict[str, dict[str, Any]] = {
    "GradInversion": {"attack": "gradinversion"},
    "GradInversion, zero-shot labels": {"attack": "gradinversion", "label_strategy": "zero-shot"},
    "General Deep Leakage": {"attack": "general-deep-leakage"},
    "Exact": {"attack": "exact", "max_iterations": None},
}

Measured = dict[str, Any]


def main() -> None:
    """Measure every cell asked for, print the table, write the file."""
    options = parse(sys.argv[1:])
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    settings = {name: getattr(options, name) for name in ("iterations", "seeds", "threads")}
    print(f"{machine['words']}; {', '.join(f'{value} {name}' for name, value in settings.items())}\n")
    print(markdown.table(HEAD, []), flush=True)
    cells = []
    for cell in measure(options):
        cells.append(cell)
        print(markdown.line(row(cell)), flush=True)
    command = outcomes.command("benchmarks.against_gradinversion")
    outcomes.write(options.out, {"command": command, "machine": machine, **settings, "cells": cells})


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; lists default to everything there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", metavar="DIR", help="folder of CIFAR-10 class folders (default: bundled samples)")
    parser.add_argument("--models", nargs="+", default=["lenet64-elu"])
    parser.add_argument("--batches", nargs="+", type=int, default=[2, 4, 8], metavar="B", help="batch sizes")
    parser.add_argument("--shares", nargs="+", choices=SHARES, default=list(SHARES))
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--iterations", type=int, default=400, help="of each search (default: 400)")
    parser.add_argument("--seeds", type=int, default=3, help="images, weights and starting points (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FILE", help=f"results (default: {RESULTS})")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> Iterator[Measured]:
    """One cell after the other; batches that the images do not suffice for are reported and left out."""
    for model in options.models:
        for batch in options.batches:
            for name in options.shares:
                share = max(1, round(SHARES[name] * batch))
                try:
                    scenarios = [scenario_of(options, model, batch, share, seed) for seed in range(options.seeds)]
                except UnsupportedScenario as reason:
                    print(f"(no batch of {batch}, {name}: {reason})", file=sys.stderr)
                    continue
                for title in options.attacks:
                    runs = [run(scenario.changed(**ATTACKS[title])) for scenario in scenarios]
                    yield {"model": model, "batch": batch, "labels": name, "attack": title} | summary(runs)


def scenario_of(options: argparse.Namespace, model: str, batch: int, share: int, seed: int) -> Scenario:
    """A batch in which `share` images have one label, drawn by the seed."""
    drawn = Scenario(
        images=options.images, composition="random", batch_size=batch, model=model, seed=seed,
        max_iterations=options.iterations, device="cpu",
    )  # fmt: skip
    return same_label(drawn, share)


def run(scenario: Scenario) -> Measured:
    """The figures of one attack."""
    outcome = outcomes.attack(scenario)
    finished, score, inferred = outcome.finished, outcome.score, outcome.last(LabelsInferred)
    assert inferred.score is not None
    return {
        "labels_right": sum(map(min, inferred.counts, inferred.score.true_counts)) / scenario.batch_size,
        "mean_psnr": score.mean_psnr,
        "min_psnr": min(score.psnr),
        "ssim": statistics.mean(score.ssim),
        "fusion": score.fusion,
        "seconds": finished.seconds,
        "reason": finished.reason,
    }


def summary(runs: Sequence[Measured]) -> Measured:
    """Medians over the seeds, and every run."""
    medians = {
        name: statistics.median(run[name] for run in runs)
        for name in ("labels_right", "mean_psnr", "min_psnr", "ssim", "seconds")
    }
    fusion = [run["fusion"] for run in runs if run["fusion"] is not None]
    return {**medians, "fusion": statistics.median(fusion) if fusion else None, "runs": list(runs)}


HEAD = (
    "model", "batch", "labels", "attack", "labels right", "mean PSNR", "lowest PSNR", "SSIM", "fusion index", "time",
)  # fmt: skip


def table() -> str:
    """Labels and images of several attacks on the same updates."""
    found = outcomes.read(RESULTS)
    return markdown.source(found) + markdown.table(HEAD, map(row, found["cells"]))


def row(cell: Measured) -> markdown.Row:
    """One attack on one kind of batch."""
    return (
        cell["model"],
        cell["batch"],
        cell["labels"],
        cell["attack"],
        f"{cell['labels_right']:.0%}",
        markdown.decibels(cell["mean_psnr"]),
        markdown.decibels(cell["min_psnr"]),
        f"{cell['ssim']:.2f}",
        None if cell["fusion"] is None else f"{cell['fusion']:.2f}",
        markdown.seconds(cell["seconds"]),
    )


if __name__ == "__main__":
    main()
