"""Measure how often each label strategy is right, by network, training stage, batch size and distribution.

python -m benchmarks.label_accuracy --images DIR                      the whole table, for a folder of class folders
python -m benchmarks.label_accuracy --images DIR --models lenet64-elu --stages late --sizes 4 --repeats 100
    ... --breaching DIR        also the rules of breaching 0.1.2, see against_breaching for how to install it
    ... --jobs 8 --threads 1   batches side by side in so many processes

Each cell is a number of batches drawn from DIR, CIFAR-10's test images as class folders for the figures of the docs;
without it, batches come from the bundled samples. Every strategy sees the same updates. Rates come with 95 % Wilson
intervals. Prints a table and writes benchmarks/results/label_accuracy.json, which the app's page on label inference
shows; cells that were measured before are kept unless they are measured again. For trained networks and more images
than classes, DIR must hold images that no checkpoint was validated on, since estimates rely on that validation.
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
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from benchmarks import markdown, outcomes
from benchmarks.machine import describe_machine
from deepleak_core.data import datasets
from deepleak_core.errors import DeepLeakError
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import Case, observe
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.evidence import InferredLabels
from deepleak_core.runs.threads import cpu_threads
from deepleak_core.scenario import COMPOSITIONS, Scenario
from deepleak_core.studies.label_accuracy import LabelTrial, label_scores, label_trials

RESULTS = outcomes.RESULTS / "label_accuracy.json"
BREACHING = ("iDLG", "analytic", "yin", "wainakh-simple", "bias-corrected")  # "wainakh-whitebox" raises in 0.1.2
COLUMNS = ("model", "stage", "mode", "classes", "K", "labels", "batches", "strategy", "exact", "instances", "proven")
STAGES = ("untrained", "early", "late")
STRATEGIES = ("verified", "zero-shot", "ilrg", "llg", "idlg", "gradinversion")
KEY = ("dataset", "image_size", "model", "stage", "mode", "classes", "batch_size", "composition", "head_bias")

Cell = dict[str, Any]


def main() -> None:
    """Measure every cell asked for, print the table, write the file."""
    options = parse(sys.argv[1:])
    machine = describe_machine()["words"]
    command = outcomes.command("benchmarks.label_accuracy")
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
            for line in lines(cell):
                print(line, flush=True)
            keep(cell | {"command": command, "machine": machine})
    print(f"\nwritten to {RESULTS}")


def start(threads: int, breaching: str | None) -> None:
    """Initialise a process."""
    torch.set_num_threads(threads)
    if breaching:
        sys.path.append(breaching)  # last, so that our own packages win
        importlib.import_module("breaching")


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; lists default to everything there is."""
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
    return parser.parse_args(arguments)


def scenarios(options: argparse.Namespace) -> Iterator[Scenario]:
    """Every cell with a checkpoint; FedAvg trains five steps over the whole batch at learning rate 0.01."""
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
    """Pickled trials of all strategies, and of breaching's rules, on one batch; torch would share tensors by file."""
    trials = list(label_trials(scenario, first=draw))
    if with_breaching and scenario.mode == "fedsgd" and scenario.head_bias:
        trials += breaching_trials(scenario, draw)
    return pickle.dumps(trials)


def scored(scenario: Scenario, trials: Sequence[LabelTrial], repeats: int) -> Cell:
    """The cell of one scenario."""
    scores = {name: asdict(score) for name, score in label_scores(trials).items()}
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


def lines(cell: Cell) -> Iterator[str]:
    """One printed line for each strategy."""
    for name, score in cell["strategies"].items():
        low, high = score["exact_interval"]
        yield (
            f"| {cell['model']} | {cell['stage']} | {cell['mode']} | {cell['classes']} | {cell['batch_size']} "
            f"| {cell['composition']} | {cell['repeats']} | {name} | {score['exact_rate']:.0%} ({low:.0%}-{high:.0%}) "
            f"| {score['instance_accuracy']:.1%} | {score['proven_rate']:.0%}, wrongly {score['wrongly_proven']:.0%} |"
        )


def keep(cell: Cell) -> None:
    """Put a cell into the file in place of the one measured before."""
    known = outcomes.read(RESULTS)["cells"] if RESULTS.exists() else []
    cells = [old for old in known if [old[name] for name in KEY] != [cell[name] for name in KEY]]
    RESULTS.write_text(json.dumps({"cells": [*cells, cell]}, indent=1) + "\n")


# ------------------------------------------------------------------------------------------------- breaching


def breaching_trials(scenario: Scenario, draw: int) -> Iterator[LabelTrial]:
    """The label rules of breaching 0.1.2 on the update that our client shares."""
    case, batch = observe(scenario, draw=draw)
    truth = torch.bincount(batch.labels, minlength=len(case.class_names))
    for rule in BREACHING:
        began = time.perf_counter()
        counts = breaching_counts(rule, case)
        seconds = time.perf_counter() - began
        found = InferredLabels(evidence=counts.double(), real_counts=counts.double(), counts=counts)
        yield LabelTrial(strategy=f"breaching {rule}", found=found, true_counts=truth, seconds=seconds)


def breaching_counts(rule: str, case: Case) -> Tensor:
    """Counts (C,) by one of breaching's rules; labels that it does not name are missing from them."""
    base = importlib.import_module("breaching.attacks.base_attack")._BaseAttacker
    attacker = base.__new__(base)
    attacker.cfg = SimpleNamespace(label_strategy=rule, impl=SimpleNamespace(mixed_precision=False))
    attacker.setup = {"device": torch.device("cpu"), "dtype": torch.float32}
    attacker.data_shape, attacker.loss_fn = case.image_shape, torch.nn.CrossEntropyLoss()
    images = case.update.batch_size
    gradients = [tensor.clone() for tensor in case.update.tensors.values()]
    shared = {"metadata": {"num_data_points": images}, "gradients": gradients}
    with contextlib.redirect_stdout(io.StringIO()):
        named = attacker._recover_label_information([shared], None, [case.model])
    return torch.bincount(torch.as_tensor(named).flatten()[:images], minlength=len(case.class_names))


# --------------------------------------------------------------------------------------- tables of docs/benchmarks.md


def summary() -> str:
    """How many batches `verified` certified, and how many of them wrongly, over all cells."""
    cells = outcomes.read(RESULTS)["cells"]
    scores = [(cell["repeats"], cell["strategies"]["verified"]) for cell in cells]
    batches = sum(repeats for repeats, _ in scores)
    certified, wrongly = (
        sum(round(repeats * score[rate]) for repeats, score in scores) for rate in ("proven_rate", "wrongly_proven")
    )
    found = f"{certified:,} certified by `verified`, {wrongly:,} of them wrongly"
    return f"{len(cells)} cells, {batches:,} batches: {found}."


def table(composition: str) -> str:
    """Share of batches whose whole multiset of labels was found and, in brackets, of labels found."""
    cells = [cell for cell in outcomes.read(RESULTS)["cells"] if cell["composition"] == composition]
    head = ("model", "stage", "mode", "classes", "images", "batches", *STRATEGIES, "best of breaching")
    return markdown.table(head, map(row, sorted(cells, key=place)))


def row(cell: Cell) -> markdown.Row:
    """One cell: a rate for each strategy, and that of the best rule of breaching where there is one."""
    scores = cell["strategies"]
    peers = [score for name, score in scores.items() if name.startswith("breaching")]
    best = max(peers, key=lambda score: (score["exact_rate"], score["instance_accuracy"]), default=None)
    facts = [cell[name] for name in ("stage", "mode", "classes", "batch_size", "repeats")]
    shown = [*(scores.get(name) for name in STRATEGIES), best]
    rates = [score and f"{score['exact_rate']:.0%} ({score['instance_accuracy']:.0%})" for score in shown]
    return [cell["model"] + ("" if cell["head_bias"] else ", no bias"), *facts, *rates]


def place(cell: Cell) -> tuple[Any, ...]:
    """What a table is ordered by."""
    stage = STAGES.index(cell["stage"]) if cell["stage"] in STAGES else len(STAGES)
    return cell["mode"] != "fedsgd", not cell["head_bias"], cell["classes"], cell["batch_size"], stage, cell["model"]


def commands() -> str:
    """Every command that cells come from, with its machine."""
    found = {(cell["command"], cell["machine"]) for cell in outcomes.read(RESULTS)["cells"]}
    return "\n".join(f"- `{command}` ({machine})" for command, machine in sorted(found))


if __name__ == "__main__":
    main()
