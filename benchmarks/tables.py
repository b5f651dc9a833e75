"""Write the tables of docs/benchmarks.md from benchmarks/results/*.json.

python -m benchmarks.tables             write them
python -m benchmarks.tables --print     print one after the other instead

In docs/benchmarks.md a line `<!-- table NAME -->` is followed by what `TABLES[NAME]` makes and a line `<!-- end -->`.
Each table begins with the command and the machine that its figures were measured with.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from deepleak_core.studies import wrong_labels as wrong_labels_of_the_app
from deepleak_core.studies.wrong_labels import WrongLabelMap
from deepleak_core.text import shorten

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
BLOCK = re.compile(r"(<!-- table (?P<name>[\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
LABEL_STRATEGIES = ("verified", "zero-shot", "ilrg", "llg", "idlg", "gradinversion")
STAGES = ("untrained", "early", "late")

Result = dict[str, Any]
Row = Sequence[object]


def main() -> None:
    """Write or print every table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--print", action="store_true", help="print the tables, leave the page as it is")
    if parser.parse_args().print:
        print("\n\n".join(f"{name}\n\n{make()}" for name, make in TABLES.items()))
    else:
        PAGE.write_text(updated(PAGE.read_text()))


def updated(page: str) -> str:
    """A page with all its tables made anew. Raises KeyError for a table that is none of `TABLES`."""
    return BLOCK.sub(lambda block: f"{block[1]}\n{TABLES[block['name']]()}\n\n{block[3]}", page)


def markdown(head: Row, rows: Iterable[Row]) -> str:
    """A markdown table.

    >>> print(markdown(("a", "b"), [(1, None)]))
    | a | b |
    | --- | --- |
    | 1 | - |
    """
    return "\n".join(map(line, [head, ["---"] * len(head), *rows]))


def line(row: Row) -> str:
    """One line of a markdown table.

    >>> line(("a", None))
    '| a | - |'
    """
    return f"| {' | '.join('-' if value is None else str(value) for value in row)} |"


def result(name: str) -> Result:
    """What a benchmark has written."""
    content: Result = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def source(found: Result, *, threads: bool = True) -> str:
    """The command and the machine of a result, as the sentence above its table.

    `threads` are those of the measuring process, which say nothing of attacks in other processes.
    """
    machine = found["machine"]
    used = f", {n} CPU thread{'s' * (n != 1)}" if threads and (n := machine.get("threads")) else ""
    return f"`{found['command']}`, {machine['date']}, {machine['words']}{used}:\n\n"


def sources(cells: Sequence[Result], name: str = "cell") -> str:
    """The commands and machines of cells that were measured one by one, each with its cells where there are several."""
    found: dict[str, list[str]] = {}
    for cell in cells:
        found.setdefault(source(cell).strip().removesuffix(":"), []).append(cell[name])
    if len(found) == 1:
        return f"{next(iter(found))}:\n\n"
    lines = [f"- {'; '.join(dict.fromkeys(names))}: {where}" for where, names in found.items()]
    return "\n".join(lines) + "\n\n"


def seconds(value: float | None, digits: int = 1) -> str | None:
    """A time.

    >>> seconds(1.25), seconds(None)
    ('1.2 s', None)
    """
    return None if value is None else f"{value:.{digits}f} s"


def decibels(value: float) -> str:
    """A PSNR.

    >>> decibels(31.24)
    '31.2 dB'
    """
    return f"{value:.1f} dB"


# ------------------------------------------------------------------------------------------- the exact attack


def solvers() -> str:
    """Seconds until every image has a PSNR, before and now: median and range over the seeds."""
    cells = result("solvers")["cells"]
    return sources(cells) + markdown(SOLVERS_HEAD, map(solver_row, cells))


def hard_networks() -> str:
    """What parts of the attacks on deep networks contribute."""
    cells = result("hard_networks")["cells"]
    return sources(cells, "network") + markdown(HARD_NETWORKS_HEAD, map(hard_networks_row, cells))


HARD_NETWORKS_HEAD = ("network", "variant", "iterations", "CPU s", "residual", "mean PSNR", "PSNR of each", "flat grey")


def hard_networks_row(cell: Result) -> Row:
    """One variant of an attack on one deep network."""
    each = ", ".join(f"{value:.1f}" for value in cell["psnr"])
    return (
        cell["network"], cell["variant"], cell["iterations"], f"{cell['cpu_seconds']:.0f}", f"{cell['residual']:.3f}",
        f"{cell['mean_psnr']:.2f} dB", each, f"{cell['grey_psnr']:.1f} dB",
    )  # fmt: skip


def first_sight() -> str:
    """How soon something moves."""
    found, names = result("first_sight"), {"cold": "first visitor", "warm": "later visitors", "gallery": "gallery"}
    rows = [(names[name], spread(seconds)) for name, seconds in found["seconds"].items()]
    return source(found) + markdown(("from the request or click", "to moving pictures, s"), rows)


LIMITS_HEAD = ("batch", "labels, s", "30 dB, s", "pixel-exact, s", "certified", "end, s", "mean PSNR", "peak memory")


def limits() -> str:
    """What the largest batches and images cost."""
    cells = result("limits")["cells"]
    return sources(cells) + markdown(LIMITS_HEAD, map(limits_row, cells))


def limits_row(cell: Result) -> Row:
    """One scenario."""
    certified = "copies" if cell["copies_certified"] else "labels" if cell["labels_certified"] else "no"
    times = (cell["labels"], cell["psnr30"], cell["pixel_exact"])
    return (cell["cell"], *times, certified, cell["seconds"], f"{cell['mean_psnr']:.0f} dB", f"{cell['peak_mb']} MB")


SHARES_HEAD = ("attack", "convolutions", "matrix products", "factorisations", "rest")


def time_shares() -> str:
    """What attacks spend their time on."""
    cells = result("time_shares")["cells"]
    return sources(cells) + markdown(SHARES_HEAD, map(shares_row, cells))


def shares_row(cell: Result) -> Row:
    """One attack."""
    return (cell["cell"], *(f"{cell['shares'][kind]:.0%}" for kind in SHARES_HEAD[1:]))


ESTIMATES_HEAD = ("attack", "calibration, s", "estimated, s", "real, s", "estimated / real")


def estimates() -> str:
    """Estimated and real seconds of attacks on photos."""
    cells = result("estimates")["cells"]
    return sources(cells) + markdown(ESTIMATES_HEAD, map(estimates_row, cells))


def estimates_row(cell: Result) -> Row:
    """One attack."""
    return (
        *(cell[name] for name in ("cell", "calibration", "estimate", "real")),
        f"{cell['estimate'] / cell['real']:.1f}",
    )


LEVELS = ("30", "59")
SOLVERS_HEAD = (
    "batch", *(f"{level} dB {when}" for level in LEVELS for when in ("before", "now")), "times as fast", "worst image",
    "certified",
)  # fmt: skip


def solver_row(cell: Result) -> Row:
    """One attack on one kind of batch; `before` is missing where only the working tree was measured."""
    before, now = cell["runs"].get("before"), cell["runs"]["now"]
    times = []
    for level in LEVELS:
        times += [runs and spread([run["reached"][level] for run in runs]) for runs in (before, now)]
    worst = statistics.median(run["worst_psnr"] for run in now)
    certified = sum(run.get("certified", False) for run in now)
    return (cell["cell"], *times, speedup(before, now), f"{worst:.0f} dB", f"{certified} of {len(now)}")


def speedup(before: Sequence[Result] | None, now: Sequence[Result]) -> str | None:
    """Ratio of the median times to the highest level that every run reached, before and now; None without one.

    >>> speedup([{"reached": {"30": 1.0, "59": 8.0}}], [{"reached": {"30": 0.5, "59": 2.0}}])
    '4.0'
    >>> speedup([{"reached": {"30": 1.0, "59": None}}], [{"reached": {"30": 0.5, "59": 2.0}}])
    '2.0'
    """
    for level in reversed(LEVELS):
        times = [[run["reached"][level] for run in runs] for runs in (before or [], now)]
        if all(times) and None not in times[0] + times[1]:
            return f"{statistics.median(times[0]) / statistics.median(times[1]):.1f}"
    return None


def spread(values: Sequence[float | None]) -> str:
    """Median and range in seconds; how many of all where half or more are missing.

    >>> spread([0.5, 0.7, 0.6]), spread([None, 1.0, None]), spread([1.0, None, 2.0])
    ('0.6 (0.5-0.7)', '1 of 3', '2.0 (1.0-)')
    """
    there = sorted(value for value in values if value is not None)
    missing = len(values) - len(there)
    if missing > len(values) / 2:
        return f"{len(there)} of {len(values)}" if there else "-"
    median = statistics.median([*there, *[float("inf")] * missing])
    return f"{median:.1f} ({there[0]:.1f}-{'' if missing else f'{there[-1]:.1f}'})"


# ---------------------------------------------------------------------------------------------- attack by attack


def attack_speed(device: str) -> str:
    """Every attack on every model."""
    cells = result(f"attack_speed_{device}")["cells"]
    return sources(cells, "model") + markdown(SPEED_HEAD, map(speed_row, cells))


SPEED_HEAD = ("model", "attack", "iterations/s", "20 dB after", "30 dB after", "PSNR at the end", "ended after")


def speed_row(cell: Result) -> Row:
    """One cell of `attack_speed`, or why it was refused."""
    attack = cell["attack"]
    if "refused" in cell:
        return (cell["model"], attack, cell["refused"], None, None, None, None)
    return (
        cell["model"],
        attack,
        f"{cell['iterations_per_second']:.1f}",
        seconds(cell["time_to"]["psnr20"]),
        seconds(cell["time_to"]["psnr30"]),
        decibels(cell["mean_psnr"]),
        f"{cell['seconds']:.1f} s, {cell['reason']}",
    )


GPU_HEAD = (
    "cell", "labels", "iterations/s", "400 iterations", "30 dB after", "pixel-exact after", "PSNR at the end",
    "difference", "peak memory",
)  # fmt: skip


def gpu() -> str:
    """Everything that a GPU is for."""
    if not (RESULTS / "gpu.json").exists():
        return "Not measured yet."
    found = result("gpu")
    return source(found) + markdown(GPU_HEAD, map(gpu_row, found["cells"]))


def gpu_row(cell: Result) -> Row:
    """One cell of `gpu_check`, or its error."""
    if "error" in cell:
        return (cell["cell"], shorten(cell["error"]), *[None] * (len(GPU_HEAD) - 2))
    rate, psnr = cell.get("iterations_per_second"), cell.get("mean_psnr")
    rates = [f"{rate:.1f}" if rate else None, f"{cell['breaching']:.1f} (breaching)" if "breaching" in cell else None]
    return (
        cell["cell"],
        seconds(cell.get("labels"), 2),
        ", ".join(filter(None, rates)) or None,
        seconds(cell.get("seconds_of_400"), 2),
        seconds(cell.get("psnr30"), 2),
        seconds(cell.get("pixel_exact"), 2),
        None if psnr is None else decibels(psnr),
        f"{cell['difference']:.0e}" if "difference" in cell else None,
        f"{cell['peak_mb']} MB",
    )


def lbfgs() -> str:
    """Evaluations of the objective until every image has a PSNR: median and range over the seeds."""
    found = result("lbfgs")
    solvers = list(dict.fromkeys(cell["solver"] for cell in found["results"]))
    levels = list(found["results"][0]["evaluations"])
    rows = []
    for solver in solvers:
        counts = [cell["evaluations"] for cell in found["results"] if cell["solver"] == solver]
        rows.append((solver, *(whole([count[level] for count in counts]) for level in levels)))
    return f"`{found['command']}`, {found['machine']}:\n\n" + markdown(("L-BFGS", *levels), rows)


def whole(values: Sequence[int | None]) -> str:
    """Median and range of whole numbers, None where a level was not reached.

    >>> whole([18, 20, 17]), whole([3, None, 4])
    ('18 (17-20)', '2 of 3')
    """
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return f"{len(there)} of {len(values)}"
    return f"{statistics.median(there):g} ({min(there)}-{max(there)})"


# ------------------------------------------------------------------------------------------------- comparisons


def against_gradinversion() -> str:
    """Labels and images of several attacks on the same updates."""
    found = result("against_gradinversion")
    return source(found) + markdown(GRADINVERSION_HEAD, map(gradinversion_row, found["cells"]))


GRADINVERSION_HEAD = (
    "model", "batch", "labels", "attack", "labels right", "mean PSNR", "lowest PSNR", "SSIM", "fusion index", "time",
)  # fmt: skip


def gradinversion_row(cell: Result) -> Row:
    """One attack on one kind of batch."""
    return (
        cell["model"],
        cell["batch"],
        cell["labels"],
        cell["attack"],
        f"{cell['labels_right']:.0%}",
        decibels(cell["mean_psnr"]),
        decibels(cell["min_psnr"]),
        f"{cell['ssim']:.2f}",
        None if cell["fusion"] is None else f"{cell['fusion']:.2f}",
        seconds(cell["seconds"]),
    )


def against(library: str) -> str:
    """Attacks of this project and of another library, beside each other."""
    cells = result(f"against_{library}")["cells"]
    return sources(cells) + markdown(AGAINST_HEAD, map(against_row, cells))


AGAINST_HEAD = (
    "network and batch", "attack", "evaluations/s", "mean 20 dB after", "mean 30 dB after", "every image 59 dB after",
    "mean PSNR", "lowest PSNR", "budget",
)  # fmt: skip


def against_row(cell: Result) -> Row:
    """One attack of one cell."""
    speed = cell["evaluations_per_second"]
    return (
        cell["cell"],
        f"{cell['side']} {cell['attack']}",
        None if speed is None else f"{speed:.1f}",
        *(seconds(when, 2) for when in cell["reached"].values()),
        decibels(cell["mean_psnr"]),
        decibels(cell["min_psnr"]),
        f"{cell['budget']:g} s",
    )


def wrong_labels() -> str:
    """Mean PSNR by the number of wrong labels, with a chart that GitHub draws."""
    found = result("wrong_labels")
    wrong = range(found["batch_size"] + 1)
    rows = [(f"seed {seed}", *map(decibels, values)) for seed, values in enumerate(found["psnr"])]
    rows.append(("mean", *map(decibels, found["mean"])))
    steps, values = ", ".join(map(str, wrong)), ", ".join(f"{value:.1f}" for value in found["mean"])
    chart = (
        f'```mermaid\nxychart-beta\n    x-axis "wrong labels" [{steps}]\n'
        f'    y-axis "mean PSNR in dB" 0 --> 50\n    line [{values}]\n```\n\n'
    )
    return source(found) + chart + markdown(("batch", *(f"{n} wrong" for n in wrong)), rows)


def wrong_label_map() -> str:
    """What each possible wrong label costs, one table for each recorded map."""
    found: Result = json.loads(wrong_labels_of_the_app.RECORDED.read_text())
    return source(found) + "\n\n".join(map(one_map, map(wrong_labels_of_the_app.from_values, found["maps"])))


def one_map(found: WrongLabelMap) -> str:
    """Loss of mean PSNR in dB, and the images that stay recognisable."""
    head = ("label \\ labelled as", *found.class_names)
    rows = [
        (found.class_names[label], *(map_cell(found, found.swap(label, other)) for other in range(len(head) - 1)))
        for label in found.labels
    ]
    return markdown(head, rows)


def map_cell(found: WrongLabelMap, swap: str) -> str | None:
    """One wrong label in the map; none for the true class."""
    loss = found.loss(swap)
    return f"{loss:.1f} dB, {found.tried[swap].recognisable} left" if swap and loss is not None else None


# -------------------------------------------------------------------------------------------- same-label fusion

FUSION_HEAD = (
    "batch", "start", "to the mean", "to the nearest image", "their average to the mean", "other images",
)  # fmt: skip


def fusion() -> str:
    """What becomes of images that share a label, from shared and from independent starting points."""
    found = result("fusion")
    return source(found) + markdown(FUSION_HEAD, map(fusion_row, found["cells"]))


def fusion_row(cell: Result) -> Row:
    """One attack as a row of the table."""
    figures = (cell[name] for name in ("to_mean", "to_nearest", "average_to_mean", "alone"))
    return (", ".join(cell["labels"]), cell["start"], *(None if psnr is None else decibels(psnr) for psnr in figures))


# ----------------------------------------------------------------------------------------------- label inference


def label_summary() -> str:
    """How many batches `verified` certified, and how many of them wrongly, over all cells."""
    cells = result("label_accuracy")["cells"]
    scores = [(cell["repeats"], cell["strategies"]["verified"]) for cell in cells]
    batches = sum(repeats for repeats, _ in scores)
    certified, wrongly = (
        sum(round(repeats * score[rate]) for repeats, score in scores) for rate in ("proven_rate", "wrongly_proven")
    )
    found = f"{certified:,} certified by `verified`, {wrongly:,} of them wrongly"
    return f"{len(cells)} cells, {batches:,} batches: {found}."


def label_accuracy(composition: str) -> str:
    """Share of batches whose whole multiset of labels was found and, in brackets, of labels found."""
    cells = [cell for cell in result("label_accuracy")["cells"] if cell["composition"] == composition]
    head = ("model", "stage", "mode", "classes", "images", "batches", *LABEL_STRATEGIES, "best of breaching")
    return markdown(head, map(label_row, sorted(cells, key=place)))


def label_row(cell: Result) -> Row:
    """One cell: a rate for each strategy, and that of the best rule of breaching where there is one."""
    scores = cell["strategies"]
    peers = [score for name, score in scores.items() if name.startswith("breaching")]
    best = max(peers, key=lambda score: (score["exact_rate"], score["instance_accuracy"]), default=None)
    facts = [cell[name] for name in ("stage", "mode", "classes", "batch_size", "repeats")]
    shown = [*(scores.get(name) for name in LABEL_STRATEGIES), best]
    rates = [score and f"{score['exact_rate']:.0%} ({score['instance_accuracy']:.0%})" for score in shown]
    return [cell["model"] + ("" if cell["head_bias"] else ", no bias"), *facts, *rates]


def place(cell: Result) -> tuple[Any, ...]:
    """What a table of label inference is ordered by."""
    stage = STAGES.index(cell["stage"]) if cell["stage"] in STAGES else len(STAGES)
    return cell["mode"] != "fedsgd", not cell["head_bias"], cell["classes"], cell["batch_size"], stage, cell["model"]


def label_commands() -> str:
    """Every command that cells of label inference come from, with its machine."""
    commands = {(cell["command"], cell["machine"]) for cell in result("label_accuracy")["cells"]}
    return "\n".join(f"- `{command}` ({machine})" for command, machine in sorted(commands))


# ----------------------------------------------------------------------------------------------------- the app


def app_overhead() -> str:
    """What the app costs an attack: median and range of the rounds beside the budget."""
    found = result("app_overhead")
    return source(found, threads=False) + markdown(OVERHEAD_HEAD, overhead_rows(found))


OVERHEAD_HEAD = ("figure", "median", "min", "max", "budget")


def overhead_rows(found: Result) -> Iterator[Row]:
    """One row a figure."""
    for name, figure in found["figures"].items():
        values = figure["values"]
        yield name, *(f"{number(values):.3g}" for number in (statistics.median, min, max)), figure["budget"] or None


FAULTS_HEAD = (
    "fault", "finished runs intact", "run under way then", "its pictures complete", "under way for ever",
    "a run afterwards", "settled after, s", "the page said",
)  # fmt: skip
INPUTS_HEAD = ("hostile", "tried", "refused in a sentence", "accepted", "other errors", "slowest, s")


def faults() -> str:
    """What each fault has led to."""
    found = result("faults")
    rows = [row for row in found["rows"].values() if "fault" in row]
    return source(found, threads=False) + markdown(FAULTS_HEAD, map(fault_row, rows))


def fault_row(row: Result) -> Row:
    """One row a fault; of what the page said, the first sentence."""
    yes = {True: "yes", False: "**no**"}
    words = [shorten(sentence, 160).replace("|", "/") for sentence in (*row["tracebacks"], *row["sentences"])]
    return (
        row["fault"], yes[row["intact"]], row["ended"], yes[row["complete"]], row["under_way"], row["afterwards"],
        seconds(row["settled_s"]), words[0] if words else "nothing: it went on",
    )  # fmt: skip


def inputs() -> str:
    """What became of hostile files and links."""
    rows = [row for row in result("faults")["rows"].values() if "tried" in row]
    return markdown(
        INPUTS_HEAD,
        [
            (row["what"], row["tried"], row["refused"], row["accepted"], len(row["errors"]), seconds(row["slowest_s"]))
            for row in rows
        ],
    )


def load() -> str:
    """Followers, starters, tabs and growth: median and range beside the budget."""
    found = result("load")
    rows = [row for part in found["parts"].values() for row in overhead_rows({"figures": part})]
    return source(found, threads=False) + markdown(OVERHEAD_HEAD, rows)


def training_stages() -> str:
    """Every checkpoint of the package: how far the network was trained, and its accuracy on test images."""
    from deepleak_core.federated import checkpoints

    rows = []
    for path in sorted(checkpoints.CHECKPOINTS.glob("*.safetensors")):
        model, classes, stage = path.stem.split("--")
        rows.append((model, classes, stage, *checkpoints.describe(path).removesuffix(" accuracy").split(", ")))
    return markdown(("model", "classes", "stage", "trained for", "accuracy"), rows)


def label_ablation() -> str:
    """Whole batches right and batches certified by `verified`, and how both change without one part of it."""
    cells = result("label_ablation")["cells"]
    parts = ("ICA", "simplex", "ICA+simplex", "joint", "hopping", "exclusive", "class priors", "one-by-one")

    def share(trials: Sequence[Result], variant: str, measure: str) -> float:
        return 100 * float(statistics.mean(trial[variant][measure] for trial in trials))

    def change(trials: Sequence[Result], part: str) -> str | None:
        both = [trial for trial in trials if part in trial]
        if not both:
            return None
        measures = ("exact", "instances", "proven")
        changes = [share(both, part, measure) - share(both, "full", measure) for measure in measures]
        return " / ".join(f"{by:+.0f}" for by in changes) if any(abs(by) >= 0.5 for by in changes) else "0"

    head = ("model", "stage", "classes", "K", "labels", "batches", "right / labels / certified", *parts)
    rows = []
    for cell in cells:
        trials = cell["trials"]
        full = " / ".join(f"{share(trials, 'full', measure):.0f}%" for measure in ("exact", "instances", "proven"))
        facts = [cell[name] for name in ("model", "stage", "classes", "batch_size", "composition")]
        rows.append([*facts, len(trials), full, *(change(trials, part) for part in parts)])
    commands = "\n".join(f"- `{command}`" for command in dict.fromkeys(cell["command"] for cell in cells))
    return f"{markdown(head, rows)}\n\nCommands, on {cells[0]['machine']}:\n\n{commands}"


TABLES: dict[str, Callable[[], str]] = {
    "training-stages": training_stages,
    "solvers": solvers,
    "hard-networks": hard_networks,
    "limits": limits,
    "time-shares": time_shares,
    "estimates": estimates,
    "first-sight": first_sight,
    "attack-speed-cpu": lambda: attack_speed("cpu"),
    "attack-speed-gpu": lambda: attack_speed("cuda"),
    "gpu": gpu,
    "lbfgs": lbfgs,
    "against-gradinversion": against_gradinversion,
    "against-breaching": lambda: against("breaching"),
    "against-leakpro": lambda: against("leakpro"),
    "wrong-labels": wrong_labels,
    "wrong-label-map": wrong_label_map,
    "fusion": fusion,
    "label-summary": label_summary,
    "labels-random": lambda: label_accuracy("random"),
    "labels-skewed": lambda: label_accuracy("skewed"),
    "labels-one-class": lambda: label_accuracy("same"),
    "label-commands": label_commands,
    "label-ablation": label_ablation,
    "app-overhead": app_overhead,
    "faults": faults,
    "hostile-inputs": inputs,
    "load": load,
}

if __name__ == "__main__":
    main()
