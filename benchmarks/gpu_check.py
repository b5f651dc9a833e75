"""Measure everything that a GPU is for, in one run of at most 8 minutes.

    python -m benchmarks.gpu_check --recordings /tmp/recordings --breaching /tmp/breaching
    python -m benchmarks.gpu_check --device cpu --quick          tries the script itself, without a GPU

It needs PyTorch, torchvision, torchmetrics and what `deepleak_core.run` imports, but no app, no network and no files
beside the repository: the pictures are those of the package foolbox. On a machine that has only PyTorch, put a folder
made by `pip install --no-deps --target DIR pydantic pydantic-core annotated-types typing-inspection foolbox` on
PYTHONPATH.

Each cell runs in a process of its own, first unmeasured for a few seconds, which loads kernels. A cell that fails or
overruns leaves its error in the result, and the next one goes on. "No graphs" launches every kernel by itself, at the
same iterations. "Difference" is the largest one between the images of both ways, normalised. Without `--breaching`, the
folder that this library was installed into (see `benchmarks.against_breaching`), its cell is left out. With
`--recordings`, runs are recorded for the gallery.

Peak memory is what PyTorch took of the GPU; without one, that of the process.

Prints a table and writes benchmarks/results/gpu.json.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import TimeoutError as Overrun
from pathlib import Path
from typing import Any

import torch

import deepleak_core
from benchmarks import against, against_breaching, markdown, outcomes
from benchmarks.machine import describe_machine
from deepleak_core.attack import graphs
from deepleak_core.attack.attacks import settings_of
from deepleak_core.attack.matching import match_update
from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import LabelsInferred, Stage
from deepleak_core.federated.case import observe
from deepleak_core.runs.recording import Recording, recorded, save
from deepleak_core.scenario import Scenario
from deepleak_core.text import shorten

RESULT = outcomes.RESULTS / "gpu.json"
Figures = dict[str, Any]
CIFAR: Mapping[str, Any] = {"indices": (0, 1, 3, 4)}
PHOTOS: Mapping[str, Any] = {"dataset": "imagenet-samples", "batch_size": 4, "composition": "distinct"}
LARGE: Mapping[str, Any] = {**PHOTOS, "image_size": 224}
DEFAULT, EXACT = {"attack": "general-deep-leakage"}, {"attack": "exact"}
WARM_UP = 4.0  # seconds of attack time before a cell is measured
OVERHEAD = 25.0  # seconds for the start of a process, the client's round and scores
COMPARED = 100  # iterations whose images are compared with and without graphs


@dataclass(frozen=True)
class Cell:
    """One measurement: a function of a scenario, and the seconds of attack time that it may take."""

    measure: Callable[[Scenario, float], Figures]
    scenario: Mapping[str, Any]
    seconds: float = 10.0


# -------------------------------------------------------------------------------------------------- measurements


def attack(scenario: Scenario, seconds: float) -> Figures:
    """One attack to its end."""
    outcomes.attack(scenario.changed(max_seconds=min(WARM_UP, seconds)))
    outcome = outcomes.attack(scenario.changed(max_seconds=seconds))
    labels, finished, reached = outcome.last(LabelsInferred), outcome.finished, outcome.score.time_to
    rate = finished.step / (finished.seconds - labels.seconds)
    return {
        "labels": labels.seconds,
        "iterations": finished.step,
        "iterations_per_second": rate,
        "seconds_of_400": labels.seconds + 400 / rate,
        "psnr30": reached["psnr30"],
        "pixel_exact": reached["pixel_exact"],
        "seconds": finished.seconds,
        "reason": finished.reason,
        "certified": finished.certified,
        "mean_psnr": outcome.score.mean_psnr,
        "remarks": [event.sentence for event in outcome.events if isinstance(event, Stage) and event.name == NO_GRAPH],
    }


NO_GRAPH = graphs.no_graph("").name


def attack_without_graphs(scenario: Scenario, seconds: float) -> Figures:
    """The same attack, every kernel launched by itself."""
    with without_graphs():
        return attack(scenario, seconds)


def equality(scenario: Scenario, seconds: float) -> Figures:
    """The largest difference between normalised inputs with and without graphs: after 5 iterations, and at the end."""
    case, truth = observe(scenario)
    labels = truth.labels.sort().values.tolist()
    settings = settings_of(scenario)

    def points() -> tuple[dict[int, torch.Tensor], bool]:
        reached, refused = {}, False
        for item in match_update(case, labels, settings, seed=scenario.seed):
            if isinstance(item, Iterate):
                reached[item.step] = item.inputs.cpu().clone()
            refused |= isinstance(item, Stage) and item.name == NO_GRAPH
        return reached, refused

    replayed, refused = points()
    with without_graphs():
        plain, _ = points()
    differences = {step: float((replayed[step] - plain[step]).abs().max()) for step in sorted(replayed.keys() & plain)}
    first = next(step for step in differences if step)
    return {
        "captured": not refused and case.device.type in graphs.GRAPHS,
        "difference": max(differences.values()),
        "first_difference": differences[first],
        "iterations": max(differences),
    }


def beside_breaching(scenario: Scenario, seconds: float) -> Figures:
    """Iterations a second of our default attack and of breaching's "invertinggradients", in turn, twice."""
    rates: dict[str, list[float]] = {"deepleak": [], "breaching": []}
    scenario = scenario.changed(label_strategy="true")
    for budget in (WARM_UP, seconds / 4, seconds / 4):
        ours = against.run_ours("general-deep-leakage", scenario, budget)
        theirs = against.run_theirs(against_breaching.prepare, "invertinggradients", scenario, budget)
        rates["deepleak"].append(ours["iterations_per_second"])
        rates["breaching"].append(theirs["iterations_per_second"])
    best = {side: max(measured[1:]) for side, measured in rates.items()}
    return {"iterations_per_second": best["deepleak"], "breaching": best["breaching"], "rates": rates}


def record(scenario: Scenario, seconds: float, *, folder: str, name: str, title: str) -> Figures:
    """A run as an archive of the gallery."""
    scenario = scenario.changed(max_seconds=seconds)
    run = recorded(scenario, deepleak_core.run(scenario))
    sentence = f"{title}: recorded on {run.device}."
    data = save(Recording(name=name, title=title, sentence=sentence, page="live", runs=(run,)))
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, f"{name}.zip").write_bytes(data)
    return {"seconds": run.finished.seconds, "bytes": len(data), "sentence": run.finished.sentence}


class Plain:
    """A graph that is never captured."""

    def __init__(self, device: torch.device) -> None:
        """Needs no device."""

    def warm_up(self, step: graphs.Step) -> None:
        """Run the step."""
        step()

    def capture(self, step: graphs.Step) -> None:
        """Refuse."""
        raise RuntimeError("graphs are switched off")

    def replay(self) -> None:
        """Nothing was captured."""


@contextmanager
def without_graphs() -> Iterator[None]:
    """Switch graphs off for a block."""
    there = dict(graphs.GRAPHS)
    graphs.GRAPHS.update(dict.fromkeys(there, Plain))
    try:
        yield
    finally:
        graphs.GRAPHS.update(there)


# ------------------------------------------------------------------------------------------------------- cells

RESNET = {**LARGE, **DEFAULT, "model": "resnet18"}
STRIDED = {**LARGE, **EXACT, "model": "strided"}
CELLS: dict[str, Cell] = {
    "general-deep-leakage, 4 of CIFAR-10": Cell(attack, {**CIFAR, **DEFAULT}),
    "general-deep-leakage, 4 of CIFAR-10, no graphs": Cell(attack_without_graphs, {**CIFAR, **DEFAULT}),
    "exact, 4 of CIFAR-10": Cell(attack, {**CIFAR, **EXACT}),
    "exact, 4 of ImageNet, 224 px, strided": Cell(attack, STRIDED, 30),
    "general-deep-leakage, 4 of ImageNet, 224 px, resnet18": Cell(attack, RESNET, 12),
    "general-deep-leakage, 4 of ImageNet, 224 px, resnet18, no graphs": Cell(attack_without_graphs, RESNET, 12),
    "general-deep-leakage, 4 of ImageNet, 64 px": Cell(attack, {**PHOTOS, **DEFAULT, "image_size": 64}),
    "equal: general-deep-leakage, 4 of CIFAR-10": Cell(equality, {**CIFAR, **DEFAULT}),
    "equal: general-deep-leakage, 4 of ImageNet, 64 px": Cell(equality, {**PHOTOS, **DEFAULT, "image_size": 64}),
    "equal: gradinversion, 4 of CIFAR-10, resnet20": Cell(
        equality, {**CIFAR, "attack": "gradinversion", "model": "resnet20", "stage": "late"}
    ),
}
BREACHING = "breaching beside general-deep-leakage, 4 of ImageNet, 224 px, resnet18"
RECORDINGS: dict[str, tuple[str, Mapping[str, Any], float]] = {
    "gpu-default": ("Four images on a GPU", {**CIFAR, **DEFAULT}, 10),
    "gpu-large-photos": ("Four full-size photos on a GPU", STRIDED, 30),
    "gpu-resnet18": ("A residual network on a GPU", RESNET, 20),
}
QUICK: dict[str, Cell] = {
    name: Cell(CELLS[name].measure, {**CELLS[name].scenario, "model": "lenet", "max_iterations": 8}, 3)
    for name in list(CELLS)[:3] + [name for name in CELLS if "equal: general" in name][:1]
}


def cells_of(options: argparse.Namespace) -> dict[str, Cell]:
    """The cells that the options ask for."""
    if options.quick:
        return QUICK
    cells = dict(CELLS)
    if options.breaching:
        cells[BREACHING] = Cell(beside_breaching, RESNET, 40)
    if options.recordings:
        for name, (title, scenario, seconds) in RECORDINGS.items():
            keep = partial(record, folder=str(options.recordings), name=name, title=title)
            cells[f"recording: {title}"] = Cell(keep, scenario, seconds)
    return cells


# ------------------------------------------------------------------------------------------------ command line


def main(arguments: list[str] | None = None) -> None:
    """Measure every cell, print the table, write the file."""
    options = parse(arguments)
    machine = describe_machine()
    device = "cuda" if options.device == "auto" and torch.cuda.is_available() else options.device
    print(f"{machine['words']}\n\n{markdown.table(HEAD, [])}", flush=True)
    deadline = time.monotonic() + 60 * options.minutes
    cells = []
    for name, cell in cells_of(options).items():
        scenario = Scenario(**cell.scenario, device="cpu" if device == "auto" else device)
        if "equal" in name:
            scenario = scenario.changed(max_iterations=cell.scenario.get("max_iterations", COMPARED))
        left = min(deadline - time.monotonic(), 2 * cell.seconds + OVERHEAD)
        run = measured if options.quick else partial(apart, left)
        found = run(cell.measure, scenario, cell.seconds, options.breaching)
        cells.append({"cell": name, "device": device} | found)
        print(markdown.line(row(cells[-1])), flush=True)
    command = outcomes.command("benchmarks.gpu_check", arguments or ())
    outcomes.write(options.result, {"command": command, "machine": machine, "cells": cells})


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="auto", help="such as cuda:1 (default: the GPU where there is one)")
    parser.add_argument("--minutes", type=float, default=8, help="after which no cell is started (default: 8)")
    parser.add_argument("--breaching", metavar="DIR", help="folder that breaching was installed into")
    parser.add_argument("--recordings", metavar="DIR", type=Path, help="folder for recordings of the runs")
    parser.add_argument("--result", metavar="FILE", type=Path, default=RESULT)
    parser.add_argument("--quick", action="store_true", help="few iterations on a small network, in this process")
    return parser.parse_args(arguments)


def apart(limit: float, *arguments: Any) -> Figures:
    """The figures of a cell from a process of its own, which is ended after `limit` seconds; or its error."""
    if limit <= 0:
        return {"error": "no time was left"}
    with multiprocessing.get_context("spawn").Pool(1) as process:
        try:
            return process.apply_async(measured, arguments).get(limit)
        except Overrun:
            return {"error": f"not finished after {limit:.0f} s"}


def measured(
    measure: Callable[[Scenario, float], Figures], scenario: Scenario, seconds: float, folder: str | None
) -> Figures:
    """The figures of a cell and its peak memory, or its error."""
    sys.path += [folder] if folder else []  # last, so that our own packages win
    try:
        figures = measure(scenario, seconds)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    if scenario.device.startswith("cuda"):
        kept, used = torch.cuda.max_memory_reserved(scenario.device), torch.cuda.max_memory_allocated(scenario.device)
        return figures | {"peak_mb": round(kept / 2**20), "allocated_mb": round(used / 2**20)}
    return figures | {"peak_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)}


# --------------------------------------------------------------------------------------------------- the table

HEAD = (
    "cell", "labels", "iterations/s", "400 iterations", "30 dB after", "pixel-exact after", "PSNR at the end",
    "difference", "peak memory",
)  # fmt: skip


def table() -> str:
    """Everything that a GPU is for."""
    if not RESULT.exists():
        return "Not measured yet."
    found = outcomes.read(RESULT)
    return markdown.source(found) + markdown.table(HEAD, map(row, found["cells"]))


def row(cell: Figures) -> markdown.Row:
    """One cell, or its error."""
    if "error" in cell:
        return (cell["cell"], shorten(cell["error"]), *[None] * (len(HEAD) - 2))
    rate, psnr = cell.get("iterations_per_second"), cell.get("mean_psnr")
    rates = [f"{rate:.1f}" if rate else None, f"{cell['breaching']:.1f} (breaching)" if "breaching" in cell else None]
    return (
        cell["cell"],
        markdown.seconds(cell.get("labels"), 2),
        ", ".join(filter(None, rates)) or None,
        markdown.seconds(cell.get("seconds_of_400"), 2),
        markdown.seconds(cell.get("psnr30"), 2),
        markdown.seconds(cell.get("pixel_exact"), 2),
        None if psnr is None else markdown.decibels(psnr),
        f"{cell['difference']:.0e}" if "difference" in cell else None,
        f"{cell['peak_mb']} MB",
    )


if __name__ == "__main__":
    main()
