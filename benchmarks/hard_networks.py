"""Measure what each part of the attacks on deep networks contributes, on CIFAR-10 photos with known labels.

    python -m benchmarks.hard_networks [--networks resnet20 convnet resnet18] [--variants ...]

Every variant of a network gets the iterations that one thread of an idle CPU makes in about 30 s, so that the outcome
does not depend on what else the machine does; the CPU seconds that they took are given beside. A variant is the attack
that suits the network, but for what its name says. All cells take about six minutes. Each is merged into
benchmarks/results/hard_networks.json once it is measured. For the presets of breaching on the same networks see
`benchmarks.against_breaching`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks import markdown, outcomes
from deepleak_core.scenario import Scenario

RESULTS = outcomes.RESULTS / "hard_networks.json"
ITERATIONS = {"resnet20": 400, "convnet": 22, "resnet18": 55}  # in about 30 s on one thread of an AMD EPYC
BATCH: dict[str, Any] = {"indices": (0, 1, 3, 4)}
OTHER: dict[str, Any] = {"indices": (2, 5, 6, 7), "seed": 1}  # photos, weights and noise that nothing was tuned on
MEAN, COARSE, PLAIN = ({"attack": name} for name in ("mean-of-searches", "coarse-to-fine", "general-deep-leakage"))
VARIANTS: dict[tuple[str, str], dict[str, Any]] = {
    ("resnet20", "mean-of-searches"): MEAN,
    ("resnet20", "no blur"): MEAN | {"setting": ("blur=0",)},
    ("resnet20", "no blur, rate in steps"): MEAN | {"setting": ("blur=0", "schedule=steps")},
    ("resnet20", "squared distance"): MEAN | {"setting": ("distance=squared-l2",)},
    ("resnet20", "general-deep-leakage"): PLAIN,
    ("resnet20", "other photos: mean-of-searches"): MEAN | OTHER,
    ("resnet20", "other photos: general-deep-leakage"): PLAIN | OTHER,
    ("convnet", "coarse-to-fine"): COARSE,
    ("convnet", "rate 0.25"): COARSE | {"learning_rate": 0.25},
    ("convnet", "blurred"): MEAN | {
        "learning_rate": 0.5, "total_variation": 0.01, "setting": ("solver=spectral-adam",)
    },
    ("convnet", "other photos: coarse-to-fine"): COARSE | OTHER,
    ("convnet", "other photos: rate 0.25"): COARSE | OTHER | {"learning_rate": 0.25},
    ("resnet18", "mean-of-searches"): MEAN,
}  # fmt: skip


def main() -> None:
    """Measure every cell asked for, and keep it."""
    options = parse(sys.argv[1:])
    torch.set_num_threads(1)
    measured_with = outcomes.measured_with("benchmarks.hard_networks", ["--networks", "--variants"])
    print(markdown.table(HEAD, []), flush=True)
    for network, variant in VARIANTS:
        if network in options.networks and variant in options.variants:
            cell = measure(network, variant) | measured_with
            outcomes.keep(RESULTS, cell, ("network", "variant"), list(VARIANTS))
            print(markdown.line(row(cell)), flush=True)


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; all cells are measured unless some are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", choices=ITERATIONS, default=list(ITERATIONS))
    variants = list(dict.fromkeys(variant for _, variant in VARIANTS))
    parser.add_argument("--variants", nargs="+", choices=variants, default=variants)
    return parser.parse_args(arguments)


def measure(network: str, variant: str) -> dict[str, Any]:
    """One attack with the iterations of its network."""
    scenario = Scenario(**BATCH, model=network, label_strategy="true", device="cpu", max_iterations=ITERATIONS[network])
    began = time.process_time()
    outcome = outcomes.attack(scenario.changed(**VARIANTS[network, variant]))
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


HEAD = ("network", "variant", "iterations", "CPU s", "residual", "mean PSNR", "PSNR of each", "flat grey")


def table() -> str:
    """What parts of the attacks on deep networks contribute."""
    cells = outcomes.read(RESULTS)["cells"]
    return markdown.sources(cells, "network") + markdown.table(HEAD, map(row, cells))


def row(cell: dict[str, Any]) -> markdown.Row:
    """One variant of an attack on one deep network."""
    each = ", ".join(f"{value:.1f}" for value in cell["psnr"])
    return (
        cell["network"], cell["variant"], cell["iterations"], f"{cell['cpu_seconds']:.0f}", f"{cell['residual']:.3f}",
        f"{cell['mean_psnr']:.2f} dB", each, f"{cell['grey_psnr']:.1f} dB",
    )  # fmt: skip


if __name__ == "__main__":
    main()
