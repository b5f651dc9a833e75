"""What wrong labels cost: mean PSNR after the same attack with 0, 1, 2 ... of the batch's labels wrong.

python -m benchmarks.wrong_labels                     four CIFAR-10 images, five batches
python -m benchmarks.wrong_labels --batch-size 8 --seeds 3 --model lenet64-relu

Each row is a batch with weights, images, wrong labels and start of its own; every attack of a row gets the same update
and the same iterations. The last row is the mean. Prints a markdown table and writes
benchmarks/results/wrong_labels.json. Needs no streamlit.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import mean

import torch

from benchmarks.machine import describe_machine
from deepleak_core.events import Finished
from deepleak_core.federated.models import MODELS
from deepleak_core.runs.run import run
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import Scenario

RESULTS = Path(__file__).parent / "results" / "wrong_labels.json"


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
    print(f"{machine['words']}\n\n| batch | {' | '.join(f'{n} wrong' for n in wrong)} |\n|{'---|' * (len(wrong) + 1)}")
    table = []
    for seed in range(options.seeds):
        scenario = Scenario(
            batch_size=options.batch_size, model=options.model, seed=seed, max_iterations=options.iterations
        )
        table.append([mean_psnr(scenario.changed(wrong_labels=n)) for n in wrong])
        print(row(f"seed {seed}", table[-1]), flush=True)
    means = [mean(column) for column in zip(*table, strict=True)]
    print(row("mean", means))
    print(chart(means))
    command = " ".join(["python -m benchmarks.wrong_labels", *sys.argv[1:]])
    values = {"command": command, "machine": machine, **vars(options), "psnr": table, "mean": means}
    RESULTS.write_text(json.dumps(values, indent=1) + "\n")
    print(f"\nwritten to {RESULTS}")


def mean_psnr(scenario: Scenario) -> float:
    """Mean PSNR in dB at the end of an attack."""
    finished = list(run(scenario))[-1]
    assert isinstance(finished, Finished)
    return mean(finished.psnr)


def row(name: str, values: list[float]) -> str:
    """One line of the markdown table."""
    return f"| {name} | {' | '.join(f'{value:.1f} dB' for value in values)} |"


def chart(means: list[float]) -> str:
    """The means as a chart that GitHub draws."""
    steps, values = ", ".join(map(str, range(len(means)))), ", ".join(f"{value:.1f}" for value in means)
    return (
        f'\n```mermaid\nxychart-beta\n    x-axis "wrong labels" [{steps}]\n'
        f'    y-axis "mean PSNR in dB" 0 --> 50\n    line [{values}]\n```'
    )


if __name__ == "__main__":
    main()
