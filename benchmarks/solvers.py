"""Measure the attack time until every CIFAR image has a PSNR of 30 and 59 dB, now and at an earlier revision.

    python -m benchmarks.solvers [--cells NAME ...] [--seeds 3] [--seconds 12] [--against REVISION]

A seed draws images, weights and starting point; labels are inferred. With `--against`, git extracts the package
`deepleak_core` of that revision into a temporary folder, and both versions attack each scenario in turn, each in a
process of its own, so that they meet the same machine. The revision must have `deepleak_core.run`. Prints a table of
medians with the range over the seeds, and merges the cells into benchmarks/results/solvers.json.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import markdown, outcomes
from deepleak_core.runs.threads import cpu_threads

ROOT = Path(__file__).parent.parent
LEVELS = ("30", "59")  # dB
RESULT = outcomes.RESULTS / "solvers.json"
DLG: dict[str, Any] = {"attack": "dlg", "label_strategy": "zero-shot"}  # its own rule cannot count repeats
CELLS: dict[str, dict[str, Any]] = {
    "1 image": {"batch_size": 1, "attack": "exact"},
    "4 distinct": {"attack": "exact"},
    "two pairs": {"composition": "half", "attack": "exact"},
    "4 of one class": {"composition": "same", "attack": "exact"},
    "8 with repeats": {"batch_size": 8, "composition": "random", "attack": "exact"},
    "16 of CIFAR-100": {"dataset": "cifar100-samples", "batch_size": 16, "attack": "exact"},
    "20 of CIFAR-100, repeats": {
        "dataset": "cifar100-samples", "batch_size": 20, "composition": "random", "attack": "exact",
    },
    "4 distinct, general-deep-leakage": {"attack": "general-deep-leakage"},
    "4 distinct, dlg": DLG,
}  # fmt: skip


def main() -> None:
    """Measure every cell asked for, print the table, merge them into the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", nargs="*", default=list(CELLS), choices=list(CELLS))
    parser.add_argument("--seeds", type=int, default=3, help="scenarios of each cell (default: 3)")
    parser.add_argument("--seconds", type=float, default=12.0, help="budget of one attack (default: 12)")
    parser.add_argument("--against", metavar="REVISION", help="a commit to measure beside the working tree")
    options = parser.parse_args()
    measured_with = outcomes.measured_with("benchmarks.solvers", ["--cells"])
    measured_with["machine"]["threads"] = cpu_threads()  # of the processes that attack
    print(markdown.table(HEAD, []))
    with contextlib.ExitStack() as stack:
        folders = {"now": ROOT}
        if options.against:
            folders = {"before": stack.enter_context(extracted(options.against))} | folders
        versions = {name: stack.enter_context(Version(folder)) for name, folder in folders.items()}
        for name in options.cells:
            scenario = {"max_seconds": options.seconds, **CELLS[name]}
            cell = {"cell": name, "runs": measure(versions, scenario, options.seeds)} | measured_with
            outcomes.keep(RESULT, cell, ["cell"], [(other,) for other in CELLS])
            print(markdown.line(row(cell)), flush=True)


def measure(versions: dict[str, Version], scenario: dict[str, Any], seeds: int) -> dict[str, list[dict[str, Any]]]:
    """The runs of each version, in turn for each seed, after a short one that loads code."""
    for version in versions.values():
        version.levels(scenario | {"max_iterations": 2})
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in versions}
    for seed in range(seeds):
        for name, version in versions.items():
            runs[name].append(figures(version.levels(scenario | {"seed": seed})))
    return runs


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """Seconds to each level, None where it was not reached, and the worst image at the end.

    >>> found = {"worst": [(0.1, 12.0), (0.25, 61.0)], "seconds": 0.25, "certified": False}
    >>> figures(found)
    {'reached': {'30': 0.25, '59': 0.25}, 'worst_psnr': 61.0, 'seconds': 0.25, 'certified': False}
    """
    worst = found["worst"]
    reached = {level: next((round(when, 3) for when, psnr in worst if psnr >= int(level)), None) for level in LEVELS}
    return {
        "reached": reached,
        "worst_psnr": round(worst[-1][1], 1),
        "seconds": round(found["seconds"], 3),
        "certified": found["certified"],
    }


@contextlib.contextmanager
def extracted(revision: str) -> Iterator[Path]:
    """A temporary folder with the package of a revision. Ends the program where git has no such revision."""
    command = ["git", "-C", str(ROOT), "archive", revision, "deepleak_core"]
    archive = subprocess.run(command, capture_output=True)
    if archive.returncode:
        sys.exit(f"git cannot extract {revision}: {archive.stderr.decode(errors='replace').strip()}")
    with tempfile.TemporaryDirectory() as folder:
        with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
            files.extractall(folder, filter="data")
        yield Path(folder)


class Version:
    """A process that attacks scenarios with the package `deepleak_core` of one folder."""

    def __init__(self, folder: Path):
        self.folder = folder.resolve()

    def __enter__(self) -> Version:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.levels", str(cpu_threads())],
            cwd=self.folder,  # comes first on the path of imports
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()

    def levels(self, scenario: dict[str, Any]) -> dict[str, Any]:
        """What `benchmarks.levels` answers. Raises RuntimeError where the package of the folder did not run."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(scenario) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.folder} has no package with this interface; its error is above.")
        answer: dict[str, Any] = json.loads(line)
        if not Path(answer["package"]).resolve().is_relative_to(self.folder):
            raise RuntimeError(f"deepleak_core was imported from {answer['package']}, not from {self.folder}")
        return answer


HEAD = (
    "batch", *(f"{level} dB {when}" for level in LEVELS for when in ("before", "now")), "times as fast", "worst image",
    "certified",
)  # fmt: skip


def table() -> str:
    """Seconds until every image has a PSNR, before and now: median and range over the seeds."""
    cells = outcomes.read(RESULT)["cells"]
    return markdown.sources(cells) + markdown.table(HEAD, map(row, cells))


def row(cell: dict[str, Any]) -> markdown.Row:
    """One attack on one kind of batch; `before` is missing where only the working tree was measured."""
    before, now = cell["runs"].get("before"), cell["runs"]["now"]
    times = []
    for level in LEVELS:
        times += [runs and markdown.spread([run["reached"][level] for run in runs]) for runs in (before, now)]
    worst = statistics.median(run["worst_psnr"] for run in now)
    certified = sum(run.get("certified", False) for run in now)
    return (cell["cell"], *times, speedup(before, now), f"{worst:.0f} dB", f"{certified} of {len(now)}")


def speedup(before: Sequence[dict[str, Any]] | None, now: Sequence[dict[str, Any]]) -> str | None:
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


if __name__ == "__main__":
    main()
