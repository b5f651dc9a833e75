"""How often label inference is right: every strategy, over networks, training stages, batch sizes, distributions.

python -m benchmarks.label_accuracy --images DIR                      the whole table, for a folder of class folders
python -m benchmarks.label_accuracy --images DIR --models lenet64-elu --stages late --sizes 4 --repeats 100
    ... --breaching DIR        also the rules of breaching 0.1.2, see against_breaching for how to install it
    ... --jobs 8 --threads 1   batches side by side in so many processes
python -m benchmarks.label_accuracy --table random      what was measured so far, a line for each cell with such labels

Each cell is a number of batches drawn from DIR (CIFAR-10's test images as class folders make the README's figures;
without it, batches come from the bundled samples). Every strategy sees the same updates. Rates come with 95 %
Wilson intervals. Prints a markdown table and writes benchmarks/results/label_accuracy.json, which the app's page on
label inference shows; cells measured before and not measured again are kept. Trained networks and more images than
classes ask for a DIR of images that no checkpoint was validated on: that is what estimates go by there.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import pickle
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import describe_machine
from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch
from deepleak_core.errors import DeepLeakError
from deepleak_core.federated import checkpoints, client, models
from deepleak_core.federated.case import target_model
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.evidence import InferredLabels
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import COMPOSITIONS, Scenario
from deepleak_core.studies import label_accuracy as evaluation

RESULTS = Path(__file__).parent / "results" / "label_accuracy.json"
BREACHING = ("iDLG", "analytic", "yin", "wainakh-simple", "bias-corrected")  # "wainakh-whitebox" raises in 0.1.2
COLUMNS = ("model", "stage", "mode", "classes", "K", "labels", "batches", "strategy", "exact", "instances", "proven")
STAGES = ("untrained", "early", "late")
KEY = ("dataset", "image_size", "model", "stage", "mode", "classes", "batch_size", "composition", "head_bias")

Cell = dict[str, Any]


def main() -> None:
    """Measure every cell asked for, print the table, write the file."""
    options = parse(sys.argv[1:])
    if options.table:
        cells = json.loads(RESULTS.read_text())["cells"]
        print("\n".join([summary(cells), "", *table(cells, options.table)]))
        return
    machine = describe_machine()["words"]
    command = " ".join(["python -m benchmarks.label_accuracy", *sys.argv[1:]])
    print(f"{machine}, {options.jobs} jobs of {options.threads} threads\n")
    print(f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}", flush=True)
    with ProcessPoolExecutor(
        options.jobs, get_context("spawn"), initializer=start, initargs=(options.threads, options.breaching)
    ) as pool:
        batches = [
            (
                scenario,
                [pool.submit(measure, scenario, draw, bool(options.breaching)) for draw in range(options.repeats)],
            )
            for scenario in scenarios(options)
        ]
        for scenario, pending in batches:
            try:
                trials = [trial for batch in pending for trial in pickle.loads(batch.result())]
            except DeepLeakError as error:
                print(f"| {scenario.model} | {scenario.stage} | {error} |", flush=True)
                continue
            cell = scored(scenario, trials, options.repeats)
            for line in rows(cell):
                print(line, flush=True)
            keep(cell | {"command": command, "machine": machine})
    print(f"\nwritten to {RESULTS}")


def start(threads: int, breaching: str | None) -> None:
    """What each process does first."""
    torch.set_num_threads(threads)
    if breaching:
        sys.path.append(breaching)  # last, so that our own packages win
        importlib.import_module("breaching")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; what is left out takes everything there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", metavar="DIR", help="folder of class folders; the bundled samples if not given")
    parser.add_argument("--dataset", choices=datasets.DATASETS, default="cifar10-samples")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--stages", nargs="+", default=list(STAGES))
    parser.add_argument("--modes", nargs="+", choices=("fedsgd", "fedavg"), default=["fedsgd"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[4, 8, 9, 32, 128])
    parser.add_argument("--compositions", nargs="+", choices=COMPOSITIONS, default=["random", "skewed", "same"])
    parser.add_argument("--no-bias", action="store_true", help="a last layer without a bias")
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=100, help="batches in a cell (default: 100)")
    parser.add_argument("--jobs", type=int, default=1, help="processes that measure side by side (default: 1)")
    parser.add_argument("--threads", type=int, default=cpu_threads(), help="CPU threads of each (default: all but one)")
    parser.add_argument("--breaching", metavar="DIR", help="folder that breaching was installed into")
    parser.add_argument("--table", nargs="+", choices=COMPOSITIONS, help="only print what was measured so far")
    return parser.parse_args(arguments)


def scenarios(options: argparse.Namespace) -> Iterator[Scenario]:
    """Every cell that there is a checkpoint for; FedAvg trains five steps over the whole batch, at rate 0.01."""
    vocabulary = datasets.DATASETS[options.dataset].vocabulary
    for mode in options.modes:
        for model in options.models:
            for stage in options.stages:
                if stage not in checkpoints.stages(model, vocabulary):
                    continue
                for size in options.sizes:
                    for composition in options.compositions:
                        local = {"local_epochs": 5, "local_batch_size": size} if mode == "fedavg" else {}
                        yield Scenario(
                            dataset=options.dataset, images=options.images, image_size=options.image_size, model=model,
                            stage=stage, mode=mode, batch_size=size, composition=composition,
                            head_bias=not options.no_bias, **local,
                        )  # fmt: skip


def measure(scenario: Scenario, draw: int, with_breaching: bool) -> bytes:
    """All strategies, and breaching's rules, on one batch: pickled trials, as torch would share tensors by file."""
    trials = list(evaluation.label_trials(scenario, first=draw))
    if with_breaching and scenario.mode == "fedsgd" and scenario.head_bias:
        trials += breaching_trials(scenario, draw)
    return pickle.dumps(trials)


def scored(scenario: Scenario, trials: Sequence[evaluation.LabelTrial], repeats: int) -> Cell:
    """The cell of one scenario, from all its trials."""
    scores = {name: asdict(score) for name, score in evaluation.label_scores(trials).items()}
    for score in scores.values():
        score["exact_interval"] = wilson(score["exact_rate"], repeats)
    return {
        "dataset": "images" if scenario.images else scenario.dataset,
        "image_size": scenario.image_size,
        "model": scenario.model,
        "stage": scenario.stage,
        "mode": scenario.mode,
        "classes": len(datasets.names_of_classes(scenario)),
        "batch_size": scenario.batch_size,
        "composition": scenario.composition,
        "head_bias": scenario.head_bias,
        "repeats": repeats,
        "strategies": scores,
    }


def wilson(rate: float, trials: int, z: float = 1.96) -> tuple[float, float]:
    """The 95 % confidence interval of a rate.

    >>> tuple(round(limit, 3) for limit in wilson(1.0, 100))
    (0.963, 1.0)
    """
    centre = (rate + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z * ((rate * (1 - rate) + z * z / (4 * trials)) / trials) ** 0.5 / (1 + z * z / trials)
    return max(0.0, centre - half), min(1.0, centre + half)


def rows(cell: Cell) -> Iterator[str]:
    """One line of the markdown table for each strategy."""
    for name, score in cell["strategies"].items():
        low, high = score["exact_interval"]
        yield (
            f"| {cell['model']} | {cell['stage']} | {cell['mode']} | {cell['classes']} | {cell['batch_size']} "
            f"| {cell['composition']} | {cell['repeats']} | {name} | {score['exact_rate']:.0%} ({low:.0%}-{high:.0%}) "
            f"| {score['instance_accuracy']:.1%} | {score['proven_rate']:.0%}, wrongly {score['wrongly_proven']:.0%} |"
        )


def summary(cells: Sequence[Cell]) -> str:
    """How many batches `verified` proved, and how many of them wrongly, over all that was measured."""
    scores = [(cell["repeats"], cell["strategies"]["verified"]) for cell in cells]
    batches = sum(repeats for repeats, _ in scores)
    proven, wrongly = (
        sum(round(repeats * score[rate]) for repeats, score in scores) for rate in ("proven_rate", "wrongly_proven")
    )
    return f"{len(cells)} cells, {batches:,} batches: {proven:,} proven by `verified`, {wrongly:,} of them wrongly."


def table(cells: Sequence[Cell], compositions: Sequence[str]) -> Iterator[str]:
    """Cells as markdown, a line each: whole batches right, and labels right, for every strategy and the best peer."""
    names = ("verified", "zero-shot", "ilrg", "llg", "idlg", "gradinversion")
    heads = ("model", "stage", "mode", "classes", "K", "labels", "batches", *names, "best of breaching")
    yield f"| {' | '.join(heads)} |"
    yield "|---" * len(heads) + "|"
    for cell in sorted(cells, key=place):
        if cell["composition"] in compositions:
            scores = cell["strategies"]
            peers = [score for name, score in scores.items() if name.startswith("breaching")]
            best = max(peers, key=lambda score: (score["exact_rate"], score["instance_accuracy"]), default=None)
            bias = "" if cell["head_bias"] else ", no bias"
            shown = [*(scores[name] for name in names), *([best] if best else [])]
            rates = [f"{score['exact_rate']:.0%} ({score['instance_accuracy']:.0%})" for score in shown]
            facts = [cell[name] for name in ("stage", "mode", "classes", "batch_size", "composition", "repeats")]
            line = [cell["model"] + bias, *map(str, facts), *rates, *([] if best else [""])]
            yield f"| {' | '.join(line)} |"


def place(cell: Cell) -> tuple[Any, ...]:
    """What a table is ordered by."""
    stage = STAGES.index(cell["stage"]) if cell["stage"] in STAGES else len(STAGES)
    return cell["mode"] != "fedsgd", not cell["head_bias"], cell["classes"], cell["batch_size"], stage, cell["model"]


def keep(cell: Cell) -> None:
    """Put a cell into the file, in place of the one measured before."""
    known = json.loads(RESULTS.read_text())["cells"] if RESULTS.exists() else []
    cells = [old for old in known if [old[name] for name in KEY] != [cell[name] for name in KEY]]
    RESULTS.write_text(json.dumps({"cells": [*cells, cell]}, indent=1) + "\n")


# ------------------------------------------------------------------------------------------------- breaching


def breaching_trials(scenario: Scenario, draw: int) -> Iterator[evaluation.LabelTrial]:
    """The label rules of breaching 0.1.2, on the update our client shares."""
    model, batch = target_model(scenario), load_batch(scenario, draw=draw)
    update = client.share(model, batch.images, batch.labels)
    truth = torch.bincount(batch.labels, minlength=model.head.out_features)
    for rule in BREACHING:
        began = time.perf_counter()
        counts = breaching_counts(rule, model, update, scenario.image_size)
        seconds = time.perf_counter() - began
        found = InferredLabels(evidence=counts.double(), real_counts=counts.double(), counts=counts)
        yield evaluation.LabelTrial(strategy=f"breaching {rule}", found=found, true_counts=truth, seconds=seconds)


def breaching_counts(rule: str, model: models.TargetModel, update: client.ClientUpdate, size: int) -> Tensor:
    """Counts (C,) by one of breaching's rules; labels it does not name are missing from them."""
    base = importlib.import_module("breaching.attacks.base_attack")._BaseAttacker
    attacker = base.__new__(base)
    attacker.cfg = SimpleNamespace(label_strategy=rule, impl=SimpleNamespace(mixed_precision=False))
    attacker.setup = {"device": torch.device("cpu"), "dtype": torch.float32}
    attacker.data_shape, attacker.loss_fn = (3, size, size), torch.nn.CrossEntropyLoss()
    shared = {
        "metadata": {"num_data_points": update.batch_size},
        "gradients": [t.clone() for t in update.tensors.values()],
    }
    with contextlib.redirect_stdout(io.StringIO()):
        named = attacker._recover_label_information([shared], None, [model])
    return torch.bincount(torch.as_tensor(named).flatten()[: update.batch_size], minlength=model.head.out_features)


if __name__ == "__main__":
    main()
