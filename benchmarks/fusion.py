"""Measure what an attack makes of images that share a label, from shared and from independent starting points.

python -m benchmarks.fusion                     the batches of the page Same-label fusion
python -m benchmarks.fusion --model lenet64-relu --iterations 400

Every batch has four bundled CIFAR-10 images, two to four of which share a label. For these: the PSNR of each result to
the mean of its class, to the closest private image, and of the average of the results to that mean. Prints a table and
writes benchmarks/results/fusion.json.
"""

from __future__ import annotations

import argparse
from statistics import fmean
from typing import Any

import torch

from benchmarks import markdown, outcomes
from benchmarks.machine import describe_machine
from deepleak_core.events import GroundTruthKnown, Prepared, in_private_order
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario
from deepleak_core.studies.fusion import averages_to_mean, independently, same_label

RESULTS = outcomes.RESULTS / "fusion.json"
FOUR = Scenario(indices=(0, 1, 3, 4))


def main() -> None:
    """Measure every batch from both kinds of starting points, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="lenet64-elu")
    parser.add_argument("--iterations", type=int, default=200, help="of every attack (default: 200)")
    options = parser.parse_args()
    torch.set_num_threads(cpu_threads())
    machine = describe_machine()
    print(f"{machine['words']}\n\n{markdown.table(HEAD, [])}")
    cells = []
    for share in (2, 3, 4):
        shared = same_label(FOUR.changed(model=options.model, max_iterations=options.iterations), share)
        for start, scenario in (("shared", shared), ("independent", independently(shared))):
            cells.append(measured(scenario) | {"start": start})
            print(markdown.line(row(cells[-1])), flush=True)
    command = outcomes.command("benchmarks.fusion")
    outcomes.write(RESULTS, {"command": command, "machine": machine, **vars(options), "cells": cells})


def measured(scenario: Scenario) -> dict[str, Any]:
    """The figures of one attack; those in dB are means over the images that share a label, or that do not."""
    outcome = outcomes.attack(scenario)
    truth, names, score = outcome.last(GroundTruthKnown), outcome.last(Prepared).class_names, outcome.score
    places = [place for place, label in enumerate(truth.labels) if truth.labels.count(label) > 1]
    alone = [psnr for place, psnr in enumerate(score.psnr) if place not in places]
    last = outcome.snapshots[-1]
    (average,) = averages_to_mean(in_private_order(last.pictures(), last.score), truth).values()
    return {
        "indices": scenario.indices,
        "labels": [names[label] for label in truth.labels],
        "share": len(places),
        "to_mean": fmean(score.psnr_to_mean[place] for place in places),
        "to_nearest": max(score.nearest_psnr[place] for place in places),
        "average_to_mean": average,
        "alone": fmean(alone) if alone else None,
        "blends": sum(score.fused),
    }


HEAD = (
    "batch", "start", "to the mean", "to the nearest image", "their average to the mean", "other images",
)  # fmt: skip


def table() -> str:
    """What becomes of images that share a label, from shared and from independent starting points."""
    found = outcomes.read(RESULTS)
    return markdown.source(found) + markdown.table(HEAD, map(row, found["cells"]))


def row(cell: dict[str, Any]) -> markdown.Row:
    """One attack."""
    figures = (cell[name] for name in ("to_mean", "to_nearest", "average_to_mean", "alone"))
    shown = (None if psnr is None else markdown.decibels(psnr) for psnr in figures)
    return (", ".join(cell["labels"]), cell["start"], *shown)


if __name__ == "__main__":
    main()
