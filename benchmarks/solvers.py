"""Measure the attack time until every image has a PSNR of 20, 30, 40 and 59 dB.

    python -m benchmarks.solvers [--seeds 5] [--seconds 20] [--models ...] [--attacks ...] [--batches ...]

Labels are inferred by each attack's own rule. Attacks whose rule cannot count repeats get the labels of `zero-shot`, so
that solvers are compared and not label rules. Prints a table of medians with the range over the seeds, which draw
images, weights and starting point. Writes benchmarks/results/solvers.json after each cell; cells that were measured
before are kept unless they are measured again.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import torch

from benchmarks import outcomes, tables
from benchmarks.machine import describe_machine
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

LEVELS = tables.LEVELS  # dB
RESULT = outcomes.RESULTS / "solvers.json"
ATTACKS: dict[str, dict[str, Any]] = {
    "exact": {"attack": "exact"},
    "dlg": {"attack": "dlg", "label_strategy": "zero-shot"},
    "general-deep-leakage": {"attack": "general-deep-leakage"},
    "general-deep-leakage + features": {"attack": "general-deep-leakage", "feature_term": True},
    "inverting-gradients": {"attack": "inverting-gradients", "label_strategy": "zero-shot"},
}
BATCHES: dict[str, dict[str, Any]] = {
    "1 image": {"batch_size": 1},
    "4 distinct": {"batch_size": 4},
    "two pairs": {"batch_size": 4, "composition": "half"},
    "4 of one class": {"batch_size": 4, "composition": "same"},
    "8 with repeats": {"batch_size": 8, "composition": "random"},
    "16 of CIFAR-100": {"dataset": "cifar100-samples", "batch_size": 16},
    "20 of CIFAR-100, repeats": {"dataset": "cifar100-samples", "batch_size": 20, "composition": "random"},
}


def measure(scenario: Scenario) -> dict[str, Any]:
    """Seconds to each level, None where it was not reached, and the worst image at the end."""
    outcome = outcomes.attack(scenario)
    worst = [(snapshot.seconds, min(outcomes.score_of(snapshot).psnr)) for snapshot in outcome.snapshots]
    reached = {level: next((round(when, 3) for when, psnr in worst if psnr >= int(level)), None) for level in LEVELS}
    return {"reached": reached, "worst_psnr": round(worst[-1][1], 1), "seconds": round(outcome.finished.seconds, 2)}


def main() -> None:
    """Measure every cell asked for, print the table, write the file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="budget of one attack")
    parser.add_argument("--models", nargs="*", default=["lenet64-elu", "lenet64-relu"])
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--batches", nargs="*", default=list(BATCHES), choices=list(BATCHES))
    options = parser.parse_args()
    torch.set_num_threads(cpu_threads())
    outcomes.attack(Scenario(attack="exact", max_iterations=2))  # loads code and fills caches
    machine = describe_machine()
    print(f"{machine['words']}, {cpu_threads()} thread(s); seconds of attack time, {options.seeds} seeds\n")
    print(tables.markdown(tables.SOLVERS_HEAD, []))
    cells = json.loads(RESULT.read_text())["cells"] if RESULT.exists() else []
    for model in options.models:
        for batch in options.batches:
            for attack in options.attacks:
                settings = {"model": model, "max_seconds": options.seconds, **BATCHES[batch], **ATTACKS[attack]}
                runs = [measure(Scenario(seed=seed, **settings)) for seed in range(options.seeds)]
                cell = {"model": model, "batch": batch, "attack": attack}
                cells = [other for other in cells if other | cell != other] + [cell | {"runs": runs}]
                print(tables.line(tables.solver_row(cells[-1])), flush=True)
                command = outcomes.command("benchmarks.solvers")
                result = {"command": command, "machine": machine, "seconds": options.seconds, "cells": cells}
                RESULT.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
