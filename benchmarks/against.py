"""What measurements against other libraries share: settings, observation of a run, figures, command line.

Both sides get the same weights, FedSGD gradient, normalisation, image shape, true labels and threads; the seed draws
weights and starting points. All attacks of a setting run in turn, in one process, each after a short run, unmeasured,
that loads and compiles code.

Time is attack time: from the call of the attack on an update that is there, everything that its user pays included.
Images are scored at most eight times a second on either side, which takes no attack time. The time to 20 and 30 dB is
when the mean over the images reaches it, that to 59 dB when every image has it. Speed is evaluations of the objective
and its gradient a second: one for each iteration of Adam, several for one of L-BFGS. `exact` has no such objective.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import statistics
import sys
import unittest.mock
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import markdown, outcomes
from deepleak_core.attack.attacks import attack_of
from deepleak_core.attack.clock import Clock
from deepleak_core.attack.matching import MatchingSettings
from deepleak_core.attack.objectives import Matching, Value
from deepleak_core.attack.run import SNAPSHOT_SECONDS
from deepleak_core.data.batches import GroundTruth
from deepleak_core.federated.case import Case, observe
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.scenario import Scenario
from deepleak_core.scoring import metrics

MEAN_LEVELS = (20, 30)  # dB, that the mean over the images reaches
PIXEL_EXACT = 59  # dB, that every image reaches
WARM_UP = 0.5  # seconds, or the time of one evaluation

Measured = dict[str, Any]
History = Sequence[tuple[float, Sequence[float]]]  # attack time in seconds, PSNR of each image in dB


@dataclass(frozen=True)
class Setting:
    """One private batch and network, the seconds of attack time of one run, and our attacks on it."""

    scenario: Mapping[str, Any]
    budget: float
    ours: tuple[str, ...]


SETTINGS: dict[str, Setting] = {
    "lenet64-elu, 4 of CIFAR-10": Setting(
        {"indices": (0, 1, 3, 4)}, 6, ("exact", "general-deep-leakage", "dlg")
    ),
    "lenet64-elu, 4 of one class": Setting({"indices": (4, 5, 7, 19)}, 6, ("exact", "general-deep-leakage")),
    "lenet64-elu, 4 of ImageNet, 64 px": Setting(
        {"dataset": "imagenet-samples", "image_size": 64}, 20, ("exact", "general-deep-leakage")
    ),
    "convnet, 4 of CIFAR-10": Setting(
        {"indices": (0, 1, 3, 4), "model": "convnet"}, 60, ("coarse-to-fine", "general-deep-leakage")
    ),
    "resnet20, 4 of CIFAR-10": Setting(
        {"indices": (0, 1, 3, 4), "model": "resnet20"}, 60, ("mean-of-searches", "general-deep-leakage")
    ),
}  # fmt: skip


class OutOfTime(Exception):
    """Ends a run of another library from within its objective."""


class Watch:
    """Observes an optimisation that knows no time limit: evaluations, and the PSNR of its best candidate over time.

    The candidate with the lowest value of the objective so far counts, as in the rule of the libraries themselves.
    """

    def __init__(self, model: TargetModel, private: Tensor, budget: float):
        self.history: list[tuple[float, list[float]]] = []
        self.evaluations = 0
        self.seconds = 0.0
        self.reason = "ended"
        self._model, self._private, self._budget = model, private, budget
        self._lowest, self._shown = math.inf, -math.inf
        self._best: Tensor | None = None
        self._clock = Clock()

    def see(self, value: float, candidate: Tensor) -> None:
        """Record one evaluation of the objective at normalised images. Raises `OutOfTime` once the budget is spent."""
        self.seconds = self._clock.seconds
        self.evaluations += 1
        with self._clock.paused():
            if self._best is None or value < self._lowest:
                self._lowest = value if math.isfinite(value) else math.inf
                self._best = candidate.detach().clone()
            if self.seconds - self._shown >= SNAPSHOT_SECONDS:
                self._score()
        if self.seconds > self._budget:
            self.reason = "seconds"
            raise OutOfTime

    def finished(self) -> Measured:
        """The figures of the run, which is over."""
        self._score()
        return figures(self.history, self.evaluations, self.seconds, self.reason)

    def _score(self) -> None:
        assert self._best is not None
        self._shown = self.seconds
        images = self._model.denormalise(self._best).clamp(0, 1).nan_to_num().to(self._private.device)
        order = metrics.match(images, self._private)
        self.history.append((self.seconds, metrics.psnr(images[order], self._private).tolist()))


Prepare = Callable[[str, Case, GroundTruth], Callable[[Watch], None]]
"""Builds an attack of another library on an update; what it returns runs the attack under a watch, which may end it."""


# ------------------------------------------------------------------------------------------------------- figures


def time_to(history: History, level: float, of: Callable[[Sequence[float]], float]) -> float | None:
    """The first time at which `of` the images' PSNR reached a level, None where it never did.

    >>> time_to([(0.1, (25.0, 31.0)), (0.3, (31.0, 60.0))], 30, min)
    0.3
    """
    return next((seconds for seconds, psnr in history if of(psnr) >= level), None)


def figures(history: History, evaluations: int | None, seconds: float, reason: str) -> Measured:
    """The figures of one run; the last entry of the history is its outcome."""
    psnr = history[-1][1]
    reached = {str(level): time_to(history, level, statistics.fmean) for level in MEAN_LEVELS}
    return {
        "evaluations_per_second": evaluations / seconds if evaluations and seconds else None,
        "reached": reached | {str(PIXEL_EXACT): time_to(history, PIXEL_EXACT, min)},
        "mean_psnr": statistics.fmean(psnr),
        "min_psnr": min(psnr),
        "seconds": seconds,
        "reason": reason,
    }


def summary(runs: Sequence[Measured]) -> Measured:
    """Medians over the seeds, and every run; a level that a run did not reach counts as infinitely late."""

    def median(values: Sequence[float | None]) -> float | None:
        middle = statistics.median(math.inf if value is None else value for value in values)
        return middle if math.isfinite(middle) else None

    names = ("evaluations_per_second", "mean_psnr", "min_psnr")
    reached = {level: median([run["reached"][level] for run in runs]) for level in runs[0]["reached"]}
    return {name: median([run[name] for run in runs]) for name in names} | {"reached": reached, "runs": list(runs)}


# ------------------------------------------------------------------------------------------------------- one run


def run_ours(name: str, scenario: Scenario, budget: float) -> Measured:
    """One run of our attack `name`."""
    with evaluations_counted() as count:
        outcome = outcomes.attack(scenario.changed(attack=name, max_seconds=budget))
    history = [(snapshot.seconds, outcomes.score_of(snapshot).psnr) for snapshot in outcome.snapshots]
    matching = isinstance(attack_of(name).settings, MatchingSettings)
    return figures(history, count() if matching else None, outcome.finished.seconds, outcome.finished.reason)


@contextlib.contextmanager
def evaluations_counted() -> Iterator[Callable[[], int]]:
    """Count the evaluations of our objective within a block."""
    evaluate, calls = Matching.__call__, 0

    def counting(objective: Matching, inputs: Tensor) -> Value:
        nonlocal calls
        calls += 1
        return evaluate(objective, inputs)

    with unittest.mock.patch.object(Matching, "__call__", counting):
        yield lambda: calls


def run_theirs(prepare: Prepare, name: str, scenario: Scenario, budget: float) -> Measured:
    """One run of the other library's attack `name` on the update that our client shares."""
    case, truth = observe(scenario)
    attack = prepare(name, case, truth)
    torch.manual_seed(scenario.seed_for("attack"))
    watch = Watch(case.model, truth.images, budget)
    with contextlib.suppress(OutOfTime):
        attack(watch)
    return watch.finished()


# -------------------------------------------------------------------------------------------------- command line


def main(library: str, prepare: Prepare, attacks: Mapping[str, Sequence[str]], documentation: str) -> None:
    """Measure the cells asked for and merge them into benchmarks/results/against_<library>.json.

    `attacks` maps settings to the other library's attacks on them.
    """
    options = parse(library, attacks, documentation)
    sys.path += options.folders  # last, so that our own packages win
    try:
        importlib.import_module(library)
    except ImportError as error:
        sys.exit(f"{library} cannot be imported ({error}); `--help` says how to install it.")
    torch.set_num_threads(options.threads)
    measured_with = outcomes.measured_with(f"benchmarks.against_{library}", ["--cells", "--attacks"])
    order = [(cell, side, name) for cell in attacks for side, name in contenders(library, cell, attacks[cell])]
    print(markdown.table(HEAD, []), flush=True)
    for cell in options.cells:
        sides = [(side, name) for side, name in contenders(library, cell, attacks[cell]) if name in options.attacks]
        for found in measure(cell, sides, prepare, options.seeds):
            outcomes.keep(result_of(library), found | measured_with, ("cell", "side", "attack"), order)
            print(markdown.line(row(found)), flush=True)


def parse(library: str, cells: Mapping[str, Sequence[str]], documentation: str) -> argparse.Namespace:
    """The options; cells and attacks are all there are unless some are named."""
    known = dict.fromkeys(name for cell in cells for _, name in contenders(library, cell, cells[cell]))
    parser = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        f"--{library}", dest="folders", nargs="+", default=[], metavar="DIR", help="folders it was installed into"
    )
    parser.add_argument("--cells", nargs="+", choices=list(cells), default=list(cells))
    parser.add_argument("--attacks", nargs="+", choices=list(known), default=list(known))
    parser.add_argument("--seeds", type=int, default=1, help="weights and starting points to try (default: 1)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser.parse_args()


def contenders(library: str, cell: str, theirs: Sequence[str]) -> list[tuple[str, str]]:
    """(side, attack) of a cell, ours first."""
    return [("deepleak", name) for name in SETTINGS[cell].ours] + [(library, name) for name in theirs]


def measure(cell: str, sides: Sequence[tuple[str, str]], prepare: Prepare, seeds: int) -> Iterator[Measured]:
    """Every attack of one cell, in turn for each seed: the figures so far after each run."""
    setting = SETTINGS[cell]
    scenario = Scenario(**setting.scenario, label_strategy="true", device="cpu")

    def run(side: str, name: str, scenario: Scenario, budget: float) -> Measured:
        if side == "deepleak":
            return run_ours(name, scenario, budget)
        return run_theirs(prepare, name, scenario, budget)

    runs: dict[tuple[str, str], list[Measured]] = {contender: [] for contender in sides}
    for side, name in sides:
        if side == "deepleak":  # which refuses less time than an iteration takes
            run(side, name, scenario.changed(max_iterations=2), setting.budget)
        else:
            run(side, name, scenario, WARM_UP)
    for seed in range(seeds):
        for side, name in sides:
            runs[side, name].append(run(side, name, scenario.changed(seed=seed), setting.budget))
            yield {"cell": cell, "side": side, "attack": name, "budget": setting.budget} | summary(runs[side, name])


# --------------------------------------------------------------------------------------------------- the table


def result_of(library: str) -> Path:
    """The file of the cells of a library."""
    return outcomes.RESULTS / f"against_{library}.json"


HEAD = (
    "network and batch", "attack", "evaluations/s", "mean 20 dB after", "mean 30 dB after", "every image 59 dB after",
    "mean PSNR", "lowest PSNR", "budget",
)  # fmt: skip


def table(library: str) -> str:
    """Attacks of this project and of another library, beside each other."""
    cells = outcomes.read(result_of(library))["cells"]
    return markdown.sources(cells) + markdown.table(HEAD, map(row, cells))


def row(cell: Measured) -> markdown.Row:
    """One attack of one cell."""
    speed = cell["evaluations_per_second"]
    return (
        cell["cell"],
        f"{cell['side']} {cell['attack']}",
        None if speed is None else f"{speed:.1f}",
        *(markdown.seconds(when, 2) for when in cell["reached"].values()),
        markdown.decibels(cell["mean_psnr"]),
        markdown.decibels(cell["min_psnr"]),
        f"{cell['budget']:g} s",
    )
