"""What each part of `verified` label inference contributes: the strategy without one part at a time, on equal batches.

python -m benchmarks.label_ablation --images DIR                   every cell of CELLS, at most 40 batches each
python -m benchmarks.label_ablation --images DIR --cells 2 5 --batches 10 --minutes 3 --seconds 5
    ... --first 10                 the draws from number 10 on; they are added to those measured before
    ... --without ICA ICA+simplex  only these variants; parts joined by + are switched off together
python -m benchmarks.label_ablation --table                        what was measured so far, as markdown tables

DIR is a folder of class folders, whose images no checkpoint was validated on. `--seconds` limits each search for a
certificate (`certification.SECONDS` and `SECONDS_LARGE`). This limit and all times are CPU time of the single thread
that runs, so that other processes on the machine do not change results.

A part is switched off by replacing attributes of modules or classes while a batch is measured. In the run of the full
pipeline the same attributes are wrapped, to record which parts did anything. Inference is deterministic for a seed, so
a variant of which no part did anything on a batch is not run there: it takes over the result and time of the full
pipeline. Results are written to benchmarks/results/label_ablation.json after every batch.

The file also holds results without `one-by-one`, a search for single images that changed no result and was removed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks import markdown, outcomes
from benchmarks.machine import describe_machine
from deepleak_core.data import datasets
from deepleak_core.features import separate
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import observe_model, target_model
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.labels import certification, estimates
from deepleak_core.labels.certification import _Search
from deepleak_core.labels.strategies import infer_labels
from deepleak_core.runs.checks import check
from deepleak_core.scenario import Scenario

RESULTS = outcomes.RESULTS / "label_ablation.json"
FULL = "full"
CELLS = (  # model, stage, batch size, composition, data set
    ("lenet64-elu", "untrained", 4, "random", "cifar10-samples"),
    ("lenet64-elu", "late", 8, "skewed", "cifar10-samples"),
    ("lenet64-elu", "late", 9, "random", "cifar10-samples"),
    ("lenet64-relu", "late", 9, "skewed", "cifar10-samples"),
    ("resnet20", "late", 4, "random", "cifar10-samples"),
    ("resnet20", "late", 8, "random", "cifar10-samples"),
    ("resnet20", "late", 9, "random", "cifar10-samples"),
    ("resnet20", "late", 9, "skewed", "cifar10-samples"),
    ("lenet", "untrained", 9, "random", "cifar10-samples"),
    ("lenet64-elu", "untrained", 9, "random", "cifar10-samples"),
    ("lenet64-relu", "late", 9, "same", "cifar10-samples"),
    ("lenet64-relu", "late", 4, "same", "cifar10-samples"),
    ("lenet64-elu", "late", 9, "same", "cifar10-samples"),
    ("lenet64-elu", "late", 4, "same", "cifar10-samples"),
    ("resnet20", "late", 9, "same", "cifar10-samples"),
    ("resnet20", "late", 4, "same", "cifar10-samples"),
    ("lenet64-relu", "late", 16, "random", "cifar10-samples"),
    ("lenet64-relu", "late", 16, "skewed", "cifar10-samples"),
    ("lenet64-elu", "late", 32, "random", "cifar10-samples"),
    ("resnet20", "late", 16, "random", "cifar10-samples"),
    ("lenet64-elu", "untrained", 16, "random", "cifar100-samples"),
    ("lenet64-relu", "untrained", 16, "random", "cifar100-samples"),
    ("lenet64-elu", "late", 16, "random", "cifar100"),
    ("lenet64-elu", "late", 32, "random", "cifar100"),
    ("lenet64-elu", "late", 64, "random", "cifar100"),
    ("lenet64-relu", "late", 32, "random", "cifar100"),
    ("resnet20", "late", 16, "random", "cifar100"),
    ("lenet64-elu", "late", 32, "skewed", "cifar10-samples"),
    ("lenet64-elu", "late", 128, "random", "cifar10-samples"),
    ("lenet64-elu", "early", 32, "skewed", "cifar10-samples"),
    ("lenet64-relu", "late", 32, "skewed", "cifar10-samples"),
    ("lenet64-relu", "late", 128, "skewed", "cifar10-samples"),
    ("resnet20", "late", 32, "skewed", "cifar10-samples"),
    ("resnet20", "early", 32, "random", "cifar10-samples"),
    ("resnet20", "late", 128, "skewed", "cifar10-samples"),
)
ESTIMATING = {"exclusive", "class priors"}  # parts that a certificate depends on only by way of AFTER_ESTIMATES
AFTER_ESTIMATES = {"hopping"}
TITLES = {
    "exact": "Batches right (labels right) [no longer right, newly right, batches where the part did anything of all]",
    "proven": "Certified batches, and how many of them wrongly",
    "seconds": "Mean seconds of CPU time of an inference",
}
KEY = ("dataset", "images", "model", "stage", "batch_size", "composition", "seconds_limit")

Cell = dict[str, Any]
Trial = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Replacement:
    """Attribute `name` of `owner`, what stands in its place when its part is off, and whether a result matters.

    `matters` says of a result of the original whether it differs from what the stand-in returns; None is for
    attributes that are replaced but not recorded.
    """

    owner: Any
    name: str
    off: Any
    matters: Callable[[Any], bool] | None = lambda result: result is not None


# --------------------------------------------------------------------------------------------- the parts


def nothing(*_: Any, **__: Any) -> None:
    """In place of functions and methods whose result may be None."""


def none_found(*_: Any, **__: Any) -> Iterator[Any]:
    """In place of generators."""
    return iter(())


def never(*_: Any, **__: Any) -> bool:
    """In place of questions."""
    return False


def no_counts(layer: Any, _: int) -> torch.Tensor:
    """In place of `count_exclusive`: zero for each class."""
    return torch.zeros(len(layer.weight), dtype=torch.long, device=layer.weight.device)


def always(_: Any) -> bool:
    """For functions that have effects other than their result."""
    return True


def hopping_as_it_is() -> Callable[[_Search], Any]:
    """`hopping` with the methods it needs, whatever stands in their place elsewhere."""
    originals = {name: getattr(_Search, name) for name in ("solve", "certify_promising", "by_hopping")}

    def hopping(search: _Search) -> Any:
        with ExitStack() as stack:
            for name in ("solve", "certify_promising"):
                stack.enter_context(replaced(_Search, name, originals[name]))
            return originals["by_hopping"](search)

    return hopping


def parts(model: TargetModel) -> dict[str, tuple[Replacement, ...]]:
    """What has to be replaced to switch off each part, given the target model.

    `joint` is solving for all images together and certifying the result, outside of `hopping`. `simplex` also provides
    the bounds on features that `joint` and `hopping` use, where a network has more features than `factors.FEW_BOUNDS`.
    """
    modules = (certification, separate)
    return {
        "ICA": tuple(Replacement(owner=module, name="independent_images", off=nothing) for module in modules),
        "exclusive": (
            Replacement(
                owner=estimates, name="count_exclusive", off=no_counts, matters=lambda counts: bool(counts.any())
            ),
        ),
        "joint": (
            Replacement(owner=_Search, name="by_hopping", off=hopping_as_it_is(), matters=None),
            Replacement(owner=_Search, name="solve", off=nothing, matters=always),
            Replacement(owner=_Search, name="certify_promising", off=nothing, matters=always),
            Replacement(owner=separate, name="JOINT_IMAGES", off=0, matters=None),
        ),
        "simplex": tuple(
            Replacement(owner=module, name="largest_simplices", off=none_found, matters=always) for module in modules
        ),
        "hopping": (Replacement(owner=_Search, name="by_hopping", off=nothing, matters=always),),
        "class priors": (Replacement(owner=model, name="class_statistics", off=None, matters=None),),
    }


VARIANTS = ("ICA", "exclusive", "joint", "simplex", "hopping", "class priors")
PAIRS = ("ICA+simplex", "exclusive+simplex", "exclusive+class priors")


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute for as long as the context lasts."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def switched_off(model: TargetModel, variant: str) -> Iterator[None]:
    """The pipeline without the parts of a variant: names joined by +."""
    known = parts(model)
    with ExitStack() as stack:
        for part in sorted(variant.split("+"), key="hopping".__eq__):  # last, as `joint` replaces `hopping` as well
            for replacement in known[part]:
                stack.enter_context(replaced(replacement.owner, replacement.name, replacement.off))
        yield


@contextmanager
def recorded(model: TargetModel) -> Iterator[set[str]]:
    """The full pipeline; the set comes to hold the parts that did something."""
    active: set[str] = {"class priors"} if model.class_statistics is not None else set()

    def recording(part: str, replacement: Replacement) -> Callable[..., Any]:
        original = getattr(replacement.owner, replacement.name)

        @wraps(original)
        def wrapped(*arguments: Any, **named: Any) -> Any:
            result = original(*arguments, **named)
            if replacement.matters and replacement.matters(result):
                active.add(part)
            return result

        return wrapped

    with ExitStack() as stack:
        hopping = hopping_as_it_is()  # in it, what belongs to `joint` is not recorded
        stack.enter_context(replaced(_Search, "by_hopping", hopping))
        for part, replacements in parts(model).items():
            for replacement in replacements:
                if replacement.matters:
                    wrapped = recording(part, replacement)
                    stack.enter_context(replaced(replacement.owner, replacement.name, wrapped))
        yield active


# ----------------------------------------------------------------------------------------- the measurement


def main() -> None:
    """Measure the cells asked for, write the file after each batch, print the tables."""
    options = parse(sys.argv[1:])
    if not options.table:
        checkpoints.CHECKPOINTS = options.checkpoints
        torch.set_num_threads(1)
        facts = {
            "command": " ".join(["python -m benchmarks.label_ablation", *sys.argv[1:]]),
            "machine": describe_machine()["words"],
        }
        for number in options.cells:
            scenario = scenario_of(number, options)
            with limited(options.seconds):
                measure(scenario, options, facts)
    print("\n".join(report(outcomes.read(RESULTS)["cells"])))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """The options; what is left out takes everything there is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", metavar="DIR", help="class folders for cells of CIFAR-10; samples if not given")
    parser.add_argument("--images-100", metavar="DIR", help="likewise for cells of 100 classes, by `split_classes`")
    parser.add_argument(
        "--checkpoints", metavar="DIR", type=Path, default=checkpoints.CHECKPOINTS, help="instead of ours"
    )
    parser.add_argument("--cells", nargs="+", type=int, choices=range(len(CELLS)), default=list(range(len(CELLS))))
    parser.add_argument("--without", nargs="+", default=[*VARIANTS, *PAIRS], help="parts, or several joined by +")
    parser.add_argument("--batches", type=int, default=40, help="batches of a cell, at most (default: 40)")
    parser.add_argument("--first", type=int, default=0, help="number of the first draw (default: 0)")
    parser.add_argument("--minutes", type=float, default=60.0, help="after which no batch of a cell is begun")
    parser.add_argument("--seconds", type=float, default=certification.SECONDS, help="limit of a search")
    parser.add_argument("--table", action="store_true", help="only print what was measured so far")
    options = parser.parse_args(arguments)
    if unknown := {part for variant in options.without for part in variant.split("+")} - set(VARIANTS):
        parser.error(f"no part is called {', '.join(sorted(unknown))}; known are {', '.join(VARIANTS)}")
    return options


def scenario_of(number: int, options: argparse.Namespace) -> Scenario:
    """The scenario of a cell; for each number of classes there is a folder of images."""
    model, stage, size, composition, dataset = CELLS[number]
    return Scenario(
        dataset=dataset,
        images={"cifar10-samples": options.images, "cifar100": options.images_100}.get(dataset),
        model=model,
        stage=stage,
        batch_size=size,
        composition=composition,
    )


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Searches for a certificate that end after so many seconds of CPU time, for any number of images."""
    clock = SimpleNamespace(monotonic=time.process_time)
    limits = replaced(certification, "SECONDS", seconds), replaced(certification, "SECONDS_LARGE", seconds)
    with limits[0], limits[1], replaced(certification, "time", clock):
        yield


def measure(scenario: Scenario, options: argparse.Namespace, facts: Cell) -> None:
    """All variants on the batches of one cell, each batch written to the file."""
    check(scenario)
    model = target_model(scenario)
    cell = facts | {
        "dataset": scenario.dataset,
        "images": bool(scenario.images),
        "classes": len(datasets.names_of_classes(scenario)),
        "model": scenario.model,
        "stage": scenario.stage,
        "batch_size": scenario.batch_size,
        "composition": scenario.composition,
        "seconds_limit": options.seconds,
    }
    began = time.monotonic()
    for draw in range(options.first, options.first + options.batches):
        if time.monotonic() > began + 60 * options.minutes:
            break
        trial = trial_of(scenario, model, draw, options.without)
        keep(cell, trial)
        print(scenario.model, scenario.stage, scenario.batch_size, scenario.composition, in_words(trial), flush=True)


def trial_of(scenario: Scenario, model: TargetModel, draw: int, variants: Sequence[str]) -> Trial:
    """The results of the full pipeline and of each variant on one batch."""
    case, batch = observe_model(model, scenario, draw=draw)
    truth = torch.bincount(batch.labels, minlength=len(batch.class_names))

    def infer() -> dict[str, Any]:
        began = time.process_time()
        seed = scenario.seed_for("labels") + draw
        found = infer_labels(case, seed=seed)
        return {
            "exact": bool(found.counts.eq(truth).all()),
            "instances": float(found.counts.minimum(truth).sum()) / scenario.batch_size,
            "proven": found.certified,
            "seconds": round(time.process_time() - began, 3),
        }

    with recorded(model) as active:
        full = infer()
    if full["proven"] and active.isdisjoint(AFTER_ESTIMATES):
        active -= ESTIMATING
    trial: Trial = {"draw": draw, FULL: full | {"active": sorted(active)}}
    for variant in variants:
        if active.isdisjoint(variant.split("+")):
            trial[variant] = full | {"ran": False}
        else:
            with switched_off(model, variant):
                trial[variant] = infer() | {"ran": True}
    return trial


def in_words(trial: Trial) -> str:
    """The results of a batch on one line: right or not, and the seconds, of what was run."""
    results = [(name, result) for name, result in trial.items() if name != "draw" and result.get("ran", True)]
    short = [f"{name} {'right' if result['exact'] else 'wrong'} {result['seconds']:.1f} s" for name, result in results]
    return f"{trial['draw']}: {', '.join(short)}"


def keep(cell: Cell, trial: Trial) -> None:
    """Add a batch to its cell in the file; of a batch measured before, variants not measured again are kept."""
    known = outcomes.read(RESULTS)["cells"] if RESULTS.exists() else []
    old = next((old for old in known if all(old[name] == cell[name] for name in KEY)), None)
    before = {trial["draw"]: trial for trial in old["trials"]} if old else {}
    before[trial["draw"]] = before.get(trial["draw"], {}) | trial
    new = cell | {"trials": [before[draw] for draw in sorted(before)]}
    cells = [new if other is old else other for other in known] + ([] if old else [new])
    RESULTS.write_text(json.dumps({"cells": cells}, indent=1) + "\n")


# ---------------------------------------------------------------------------------------------- the report


def report(cells: Sequence[Cell]) -> Iterator[str]:
    """One markdown table for each of TITLES: a line for each cell, a column for each variant."""
    measured = {name for cell in cells for trial in cell["trials"] for name in trial} - {"draw", FULL}
    variants = sorted(measured, key=[*VARIANTS, *PAIRS, *sorted(measured)].index)
    heads = ("model", "stage", "classes", "K", "labels", "limit", "batches", FULL, *(f"no {name}" for name in variants))
    for measure, title in TITLES.items():
        yield f"\n{title}\n"
        yield f"| {' | '.join(heads)} |"
        yield "|---" * len(heads) + "|"
        for cell in cells:
            facts = [cell[name] for name in ("model", "stage", "classes", "batch_size", "composition")]
            line = [*map(str, facts), f"{cell['seconds_limit']:g} s", str(len(cell["trials"]))]
            line += [entry(cell["trials"], name, measure) for name in (FULL, *variants)]
            yield f"| {' | '.join(line)} |"


def entry(trials: Sequence[Trial], variant: str, measure: str) -> str:
    """One entry: the mean of a measure over the batches that have the variant."""
    results = [trial[variant] for trial in trials if variant in trial]
    if not results:
        return ""
    mean = sum(result[measure] for result in results) / len(results)
    if measure == "seconds":
        return f"{mean:.2f}"
    if measure == "proven":
        wrongly = sum(result["proven"] and not result["exact"] for result in results)
        return f"{mean:.0%}" + (f", {wrongly} wrongly" if wrongly else "")
    instances = sum(result["instances"] for result in results) / len(results)
    changed = [trial for trial in trials if variant in trial and trial[variant]["exact"] != trial[FULL]["exact"]]
    lost = sum(trial[FULL]["exact"] for trial in changed)
    ran = sum(result.get("ran", True) for result in results)
    differs = "" if variant == FULL else f" [-{lost} +{len(changed) - lost}, {ran} of {len(results)}]"
    return f"{mean:.0%} ({instances:.1%}){differs}"


# --------------------------------------------------------------------------------------- table of docs/benchmarks.md

SHOWN = ("ICA", "simplex", "ICA+simplex", "joint", "hopping", "exclusive", "class priors", "one-by-one")
MEASURES = ("exact", "instances", "proven")


def table() -> str:
    """Whole batches right and batches certified by `verified`, and how both change without one part of it."""
    cells = outcomes.read(RESULTS)["cells"]
    head = ("model", "stage", "classes", "K", "labels", "batches", "right / labels / certified", *SHOWN)
    commands = "\n".join(f"- `{command}`" for command in dict.fromkeys(cell["command"] for cell in cells))
    return f"{markdown.table(head, map(row, cells))}\n\nCommands, on {cells[0]['machine']}:\n\n{commands}"


def row(cell: Cell) -> markdown.Row:
    """One cell: the full pipeline, and how each part changes it."""
    trials = cell["trials"]
    facts = [cell[name] for name in ("model", "stage", "classes", "batch_size", "composition")]
    full = " / ".join(f"{percentage(trials, FULL, measure):.0f}%" for measure in MEASURES)
    return [*facts, len(trials), full, *(change(trials, part) for part in SHOWN)]


def change(trials: Sequence[Trial], part: str) -> str | None:
    """What changes without a part, in percentage points over the batches that were measured without it."""
    both = [trial for trial in trials if part in trial]
    if not both:
        return None
    changes = [percentage(both, part, measure) - percentage(both, FULL, measure) for measure in MEASURES]
    return " / ".join(f"{by:+.0f}" for by in changes) if any(abs(by) >= 0.5 for by in changes) else "0"


def percentage(trials: Sequence[Trial], variant: str, measure: str) -> float:
    """The mean of a measure over batches."""
    return 100 * float(statistics.mean(trial[variant][measure] for trial in trials))


if __name__ == "__main__":
    main()
