"""Measure what each part of the attacks on deep networks contributes, on four CIFAR-10 photos with known labels.

    python -m benchmarks.hard_networks [--networks resnet20 convnet] [--variants ...]

Every variant gets the iterations that one thread of an idle CPU made in about 60 s, so that the outcome does not depend
on what else the machine does; the CPU seconds that they took are given beside. Writes
benchmarks/results/hard_networks.json after each cell; cells that were measured before are kept unless they are measured
again. For the presets of breaching on the same networks see `benchmarks.against_breaching`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import outcomes, tables
from benchmarks.machine import describe_machine
from deepleak_core.scenario import Scenario

RESULTS = outcomes.RESULTS / "hard_networks.json"
ITERATIONS = {"resnet20": 1000, "convnet": 45, "resnet18": 110}  # in about 60 s on one thread of an AMD EPYC
VARIANTS: dict[str, dict[str, Any]] = {
    "general-deep-leakage": {"attack": "general-deep-leakage"},
    "inverting-gradients": {"attack": "inverting-gradients"},
    "mean-of-searches": {"attack": "mean-of-searches"},
    "mean-of-searches, 50 each": {"attack": "mean-of-searches", "setting": ("each=50",)},
    "mean-of-searches, squared distance": {"attack": "mean-of-searches", "setting": ("distance=squared-l2",)},
    "coarse-to-fine": {"attack": "coarse-to-fine"},
    "coarse-to-fine, rate 0.1": {"attack": "coarse-to-fine", "learning_rate": 0.1},
    "coarse-to-fine in pixels": {"attack": "coarse-to-fine", "learning_rate": 0.1, "setting": ("solver=signed-adam",)},
}


def main() -> None:
    """Measure every cell asked for, and keep it."""
    options = parse(sys.argv[1:])
    torch.set_num_threads(1)
    machine, command = describe_machine(), outcomes.command("benchmarks.hard_networks")
    cells = json.loads(RESULTS.read_text())["cells"] if RESULTS.exists() else []
    print(tables.markdown(tables.HARD_NETWORKS_HEAD, []), flush=True)
    for network in options.networks:
        for variant in options.variants:
            cell = measure(network, variant, ITERATIONS[network]) | {"machine": machine, "command": command}
            print(tables.line(tables.hard_networks_row(cell)), flush=True)
            kept = [old for old in cells if (old["network"], old["variant"]) != (network, variant)]
            cells = [*kept, cell]
            outcomes.write(RESULTS, {"cells": cells})


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; lists default to everything there is, ResNet-18 aside."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=ITERATIONS, default=["resnet20", "convnet"])
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    return parser.parse_args(arguments)


def measure(network: str, variant: str, iterations: int) -> dict[str, Any]:
    """One attack with so many iterations."""
    scenario = Scenario(indices=(0, 1, 3, 4), model=network, label_strategy="true", device="cpu")
    began = time.process_time()
    outcome = outcomes.attack(scenario.changed(max_iterations=iterations, **VARIANTS[variant]))
    return {
        "network": network,
        "variant": variant,
        "iterations": outcome.finished.step,
        "cpu_seconds": time.process_time() - began,
        "residual": outcome.finished.residual,
        "psnr": list(outcome.score.psnr),
        "mean_psnr": statistics.mean(outcome.score.psnr),
        "grey_psnr": outcome.score.grey_psnr,
    }


if __name__ == "__main__":
    main()
