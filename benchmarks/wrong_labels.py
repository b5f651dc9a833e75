"""Measure the mean PSNR after the same attack with 0, 1, 2 ... of the batch's labels wrong.

python -m benchmarks.wrong_labels                     four CIFAR-10 images, five batches
python -m benchmarks.wrong_labels --batch-size 8 --seeds 3 --model lenet64-relu

Each row is a batch with weights, images, wrong labels and start of its own; every attack of a row gets the same update
and the same iterations, and does not repair its labels. Prints a table and writes benchmarks/results/wrong_labels.json.
"""

from __future__ import annotations

import argparse
from statistics import mean

import torch

from benchmarks import markdown, outcomes
from benchmarks.machine import describe_machine
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

RESULTS = outcomes.RESULTS / "wrong_labels.json"


def main() -> None:
    """Measure every batch, print the table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=MODELS, default="lenet64-elu")
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5, help="batches (default: 5)")
    parser.add_argument("--iterations", type=int, default=200, help="of every attack (default: 200)")
    options = parser.parse_args()
    torch.set_num_threads(cpu_threads())
    machine = describe_machine()
    wrong = range(options.batch_size + 1)
    print(f"{machine['words']}\n\n{markdown.table(('batch', *(f'{n} wrong' for n in wrong)), [])}")
    psnr = []
    for seed in range(options.seeds):
        scenario = Scenario(
            batch_size=options.batch_size,
            model=options.model,
            seed=seed,
            max_iterations=options.iterations,
            repair_labels=False,
        )
        psnr.append([outcomes.attack(scenario.changed(wrong_labels=n)).score.mean_psnr for n in wrong])
        print(markdown.line((f"seed {seed}", *map(markdown.decibels, psnr[-1]))), flush=True)
    means = [mean(column) for column in zip(*psnr, strict=True)]
    command = outcomes.command("benchmarks.wrong_labels")
    outcomes.write(RESULTS, {"command": command, "machine": machine, **vars(options), "psnr": psnr, "mean": means})


def table() -> str:
    """Mean PSNR by the number of wrong labels, with a chart that GitHub draws."""
    found = outcomes.read(RESULTS)
    wrong = range(found["batch_size"] + 1)
    rows = [(f"seed {seed}", *map(markdown.decibels, values)) for seed, values in enumerate(found["psnr"])]
    rows.append(("mean", *map(markdown.decibels, found["mean"])))
    steps, values = ", ".join(map(str, wrong)), ", ".join(f"{value:.1f}" for value in found["mean"])
    chart = (
        f'```mermaid\nxychart-beta\n    x-axis "wrong labels" [{steps}]\n'
        f'    y-axis "mean PSNR in dB" 0 --> 50\n    line [{values}]\n```\n\n'
    )
    return markdown.source(found) + chart + markdown.table(("batch", *(f"{n} wrong" for n in wrong)), rows)


if __name__ == "__main__":
    main()
