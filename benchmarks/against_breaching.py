"""Measure attacks of this project and of the library breaching 0.1.2 (Geiping et al.) on the same gradients.

breaching is no dependency of this project. Install it and what it imports into a folder of its own, without the old
torch that it requires, and name the folder here (or put it on PYTHONPATH):

    pip install --no-deps --target /tmp/breaching breaching==0.1.2 hydra-core==1.3.* omegaconf==2.* \
        antlr4-python3-runtime==4.9.3
    python -m benchmarks.against_breaching --breaching /tmp/breaching
    python -m benchmarks.against_breaching --breaching /tmp/breaching --models lenet64-elu --batches distinct --seeds 1

Both sides get the same weights, FedSGD gradient, normalisation, true labels and threads; a seed draws the weights and
the starting point. A cell is the median over the seeds of the PSNR after `--budget` seconds of attack time, or at the
end of the attack if that is earlier, and of the time until every image had 59 dB; that is missing where half of the
seeds or more did not reach it. Each attack first runs for half a second unmeasured, which loads and compiles code.

breaching 0.1.2 runs unpatched on PyTorch 2.14. Two things differ from its defaults. `deepleakage` optimises images only
(attack_type=optimization), since otherwise it guesses labels and refuses given ones. The library has no time limit, so
it is observed at each evaluation of its objective, where the candidate with the lowest value so far counts, as in
its own rule. This is finer than our snapshots, eight a second. Metrics take no attack time on either side.

Prints a table and writes benchmarks/results/against_breaching.json. The full table takes up to
models x batches x attacks x (seeds x budget + 0.5 s): 2 x 3 x 7 x (3 x 10 + 0.5) s, 22 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import math
import statistics
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import outcomes, tables
from benchmarks.machine import describe_machine
from deepleak_core.attack.clock import Clock
from deepleak_core.data import datasets
from deepleak_core.events import Finished
from deepleak_core.federated import client
from deepleak_core.federated.case import observe
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.scenario import Scenario
from deepleak_core.scoring import metrics

RESULTS = outcomes.RESULTS / "against_breaching.json"
MODELS = ("lenet64-elu", "lenet64-relu")
BATCHES = {"distinct": (0, 1, 3, 4), "one class": (4, 5, 7, 19), "two pairs": (4, 5, 1, 2)}
OURS = ("exact", "dlg")
BREACHING: dict[str, tuple[str, tuple[str, ...]]] = {
    "deepleakage": ("deepleakage", ("attack_type=optimization",)),
    "invertinggradients": ("invertinggradients", ()),
    "invertinggradients, TV 0.001": ("invertinggradients", ("regularization.total_variation.scale=0.001",)),
    "seethroughgradients": ("seethroughgradients", ()),
    "modern": ("modern", ()),
}
PIXEL_EXACT = 59.0  # dB
WARM_UP = 0.5  # seconds

Measured = dict[str, Any]


def main() -> None:
    """Measure every cell asked for, print the table, write the file."""
    options = parse(sys.argv[1:])
    sys.path += filter(None, [options.breaching])  # last, so that our own packages win
    try:
        importlib.import_module("breaching")
    except ImportError as error:
        sys.exit(f"breaching cannot be imported ({error}); the first lines of {__file__} say how to install it.")
    torch.set_num_threads(options.threads)
    machine = describe_machine()
    print(f"{machine['words']}; {options.threads} CPU threads, {options.budget:g} s, {options.seeds} seeds\n")
    print(tables.markdown(tables.BREACHING_HEAD, []), flush=True)
    cells = []
    for cell in measure(options):
        cells.append(cell)
        print(tables.line(tables.breaching_row(cell)), flush=True)
    settings = {name: getattr(options, name) for name in ("budget", "seeds", "threads")}
    command = outcomes.command("benchmarks.against_breaching")
    outcomes.write(RESULTS, {"command": command, "machine": machine, **settings, "cells": cells})


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; lists default to everything there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--breaching", metavar="DIR", help="folder that breaching was installed into")
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--batches", nargs="+", choices=BATCHES, default=list(BATCHES))
    parser.add_argument("--attacks", nargs="+", choices=[*OURS, *BREACHING], default=[*OURS, *BREACHING])
    parser.add_argument("--budget", type=float, default=10.0, help="seconds of attack time of one run (default: 10)")
    parser.add_argument("--seeds", type=int, default=3, help="weights and starting points to try (default: 3)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads (default: 1)")
    return parser.parse_args(arguments)


def measure(options: argparse.Namespace) -> Iterator[Measured]:
    """One cell after the other."""
    for model in options.models:
        for batch in options.batches:
            for name in options.attacks:
                run = run_breaching if name in BREACHING else run_ours
                scenario = Scenario(indices=BATCHES[batch], model=model, label_strategy="true", device="cpu")
                run(name, scenario, WARM_UP)
                runs = [run(name, scenario.changed(seed=seed), options.budget) for seed in range(options.seeds)]
                side = "breaching" if name in BREACHING else "deepleak"
                yield {"model": model, "batch": batch, "side": side, "attack": name} | summary(runs)


def summary(runs: Sequence[Measured]) -> Measured:
    """Medians over the seeds, and every run; a run that did not reach 59 dB counts as infinitely long."""
    reached = statistics.median(math.inf if r["pixel_exact_after"] is None else r["pixel_exact_after"] for r in runs)
    return {
        "mean_psnr": statistics.median(r["mean_psnr"] for r in runs),
        "min_psnr": statistics.median(r["min_psnr"] for r in runs),
        "pixel_exact_after": reached if math.isfinite(reached) else None,
        "runs": list(runs),
    }


def run_ours(name: str, scenario: Scenario, budget: float) -> Measured:
    """One run of our attack `name`."""
    outcome = outcomes.attack(scenario.changed(attack=name, max_seconds=budget))
    exact = (s.seconds for s in outcome.snapshots if min(outcomes.score_of(s).psnr) >= PIXEL_EXACT)
    return figures(outcome.score.psnr, next(exact, None), outcome.finished)


def figures(psnr: Sequence[float], exact_after: float | None, end: Finished | Watch) -> Measured:
    """The figures of one run."""
    return {
        "mean_psnr": statistics.mean(psnr),
        "min_psnr": min(psnr),
        "pixel_exact_after": exact_after,
        "seconds": end.seconds,
        "reason": end.reason,
    }


# ------------------------------------------------------------------------------------------------- breaching


class _OutOfTime(Exception):
    """Ends a run of breaching from within its objective."""


class Watch:
    """Observes breaching's optimisation: quality of the best candidate, attack time, reason of the end."""

    def __init__(self, model: TargetModel, private: Tensor, budget: float):
        self.model, self.private, self.budget = model, private, budget
        self.psnr: list[float] = []
        self.exact_after: float | None = None
        self.seconds = 0.0
        self.reason = "ended"
        self._lowest = math.inf
        self._clock = Clock()

    def see(self, value: float, candidate: Tensor) -> None:
        """Record one evaluation of the objective. Raises `_OutOfTime` when the budget is spent."""
        self.seconds = self._clock.seconds
        if self.psnr and self.seconds > self.budget:
            self.reason = "seconds"
            raise _OutOfTime
        if self.psnr and not value < self._lowest:
            return
        self._lowest = value
        with self._clock.paused():
            images = self.model.denormalise(candidate).clamp(0, 1).nan_to_num()
            self.psnr = metrics.psnr(images[metrics.match(images, self.private)], self.private).tolist()
            if self.exact_after is None and min(self.psnr) >= PIXEL_EXACT:
                self.exact_after = self.seconds

    def around(self, compute: Callable[..., Callable[[], Tensor]]) -> Callable[..., Callable[[], Tensor]]:
        """The `_compute_objective` of breaching, which makes a closure for the optimiser, with each call recorded."""

        def watched(candidate: Tensor, *rest: Any) -> Callable[[], Tensor]:
            closure = compute(candidate, *rest)

            def evaluate() -> Tensor:
                value = closure()
                self.see(float(value.detach()), candidate.detach())
                return value

            return evaluate

        return watched


def run_breaching(name: str, scenario: Scenario, budget: float) -> Measured:
    """One run of a breaching preset on the update that our client shares."""
    case, batch = observe(scenario)
    model, update = case.model, case.update
    mean, std = datasets.dataset_of(scenario).statistics
    data = SimpleNamespace(modality="vision", shape=tuple(batch.images.shape[1:]), mean=mean, std=std)
    weights = {"parameters": list(client.weights_of(model).values()), "buffers": [], "metadata": data}
    known = {"labels": batch.labels.sort().values, "num_data_points": len(batch.labels), "local_hyperparams": None}
    shared = {"gradients": list(update.tensors.values()), "buffers": None, "metadata": known}
    # Its candidates are normalised already, so it gets the network without the normalisation of ours.
    network = nn.Sequential(model.body, model.head)
    attacker = importlib.import_module("breaching.attacks").prepare_attack(
        network, nn.CrossEntropyLoss(), configuration(*BREACHING[name])
    )
    torch.manual_seed(scenario.seed_for("attack"))
    watch = Watch(model, batch.images, budget)
    attacker._compute_objective = watch.around(attacker._compute_objective)
    with contextlib.suppress(_OutOfTime):
        attacker.reconstruct([weights], [shared], server_secrets={})
    return figures(watch.psnr, watch.exact_after, watch)


def configuration(preset: str, overrides: Sequence[str]) -> Any:
    """A preset that breaching ships, with some settings replaced."""
    hydra = importlib.import_module("hydra")
    with hydra.initialize_config_module("breaching.config.attack", version_base="1.3"):
        return hydra.compose(config_name=preset, overrides=list(overrides))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module=r"hydra|torch\.jit")  # deprecations that breaching and hydra run into
    main()
