"""How fast each attack gets how far: seconds of attack time until every image has 20, 30, 40, 59 dB.

    python -m benchmarks.solvers [--seeds 5] [--seconds 20] [--models ...] [--attacks ...] [--batches ...]

Labels are inferred by each preset's own rule, except where a preset's rule cannot see repeating labels: then
they are restored by `zero-shot`, so that solvers are compared and not label rules. Prints a table of medians with the
range over the seeds (of images, weights and starting point), and writes benchmarks/results/solvers.json as it goes;
cells that are there already and not measured again are kept.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.machine import describe_machine
from deepleak_core.events import Finished, Snapshot
from deepleak_core.runs.run import run
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

LEVELS = (20, 30, 40, 59)  # dB
RESULT = Path(__file__).parent / "results" / "solvers.json"
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
    reached: dict[str, float | None] = dict.fromkeys(map(str, LEVELS))
    worst, seconds = 0.0, 0.0
    for event in run(scenario):
        if isinstance(event, Snapshot):
            worst = min(event.psnr)
            for level in LEVELS:
                if worst >= level and reached[str(level)] is None:
                    reached[str(level)] = round(event.seconds, 3)
        if isinstance(event, Finished):
            seconds = event.seconds
    return {"reached": reached, "worst_psnr": round(worst, 1), "seconds": round(seconds, 2)}


def words(values: Sequence[float | None]) -> str:
    """Median and range in seconds; a level that most seeds miss has none.

    >>> words([0.5, 0.7, 0.6]), words([None, 1.0, None]), words([1.0, None, 2.0])
    ('0.6 (0.5-0.7)', '1 of 3', '2.0 (1.0-)')
    """
    there = sorted(value for value in values if value is not None)
    missing = len(values) - len(there)
    if missing > len(values) / 2:
        return f"{len(there)} of {len(values)}" if there else "-"
    median = statistics.median([*there, *[float("inf")] * missing])
    return f"{median:.1f} ({there[0]:.1f}-{'' if missing else f'{there[-1]:.1f}'})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="budget of one attack")
    parser.add_argument("--models", nargs="*", default=["lenet64-elu", "lenet64-relu"])
    parser.add_argument("--attacks", nargs="*", default=list(ATTACKS), choices=list(ATTACKS))
    parser.add_argument("--batches", nargs="*", default=list(BATCHES), choices=list(BATCHES))
    options = parser.parse_args()
    torch.set_num_threads(cpu_threads())
    for _ in run(Scenario(attack="exact", max_iterations=2)):
        pass  # what a process does for the first time is not the attack's doing
    machine = describe_machine()
    print(f"{machine['words']}, {cpu_threads()} thread(s); seconds of attack time, {options.seeds} seeds\n")
    print(f"| network | batch | attack | {' | '.join(f'{level} dB' for level in LEVELS)} | worst image |")
    print(f"| --- | --- | --- | {' | '.join('---' for _ in LEVELS)} | --- |")
    cells = json.loads(RESULT.read_text())["cells"] if RESULT.exists() else []
    for model in options.models:
        for batch in options.batches:
            for attack in options.attacks:
                runs = [
                    measure(
                        Scenario(
                            model=model, seed=seed, max_seconds=options.seconds, **BATCHES[batch], **ATTACKS[attack]
                        )
                    )
                    for seed in range(options.seeds)
                ]
                cell = {"model": model, "batch": batch, "attack": attack}
                cells = [other for other in cells if other | cell != other] + [cell | {"runs": runs}]
                levels = [words([run["reached"][str(level)] for run in runs]) for level in LEVELS]
                worst = statistics.median(run["worst_psnr"] for run in runs)
                print(f"| {model} | {batch} | {attack} | {' | '.join(levels)} | {worst:.0f} dB |", flush=True)
                RESULT.parent.mkdir(parents=True, exist_ok=True)
                RESULT.write_text(
                    json.dumps({"machine": machine, "seconds": options.seconds, "cells": cells}, indent=1)
                )


if __name__ == "__main__":
    main()
