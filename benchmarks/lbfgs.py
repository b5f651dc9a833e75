"""Compare this project's L-BFGS with PyTorch's on gradient matching.

    python -m benchmarks.lbfgs

Both minimise the squared distance of the attack `dlg` on four CIFAR-10 images with true labels, from the same noise.
Evaluations of the objective are counted until every image has a PSNR; they do not depend on the machine's load.
Writes benchmarks/results/lbfgs.json.
"""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks import markdown, outcomes
from benchmarks.machine import describe_machine
from deepleak_core import Scenario, observe
from deepleak_core.attack.matching import noise
from deepleak_core.attack.objectives import Matching, Value
from deepleak_core.attack.solvers import SOLVERS, Iterate
from deepleak_core.scoring import metrics

RESULTS = outcomes.RESULTS / "lbfgs.json"
LEVELS = (20, 30, 59)  # PSNR in dB of the worst image
SEEDS = (0, 1, 2)
EVALUATIONS = 450  # at most


class Counted(Matching):
    """The objective, counting its evaluations."""

    evaluations = 0

    def __call__(self, inputs: Tensor) -> Value:
        """Count the evaluation."""
        self.evaluations += 1
        return super().__call__(inputs)


def own(objective: Counted, start: Tensor) -> Iterator[Tensor]:
    """Points of the solver `lbfgs`."""
    model = objective.case.model
    for iterate in SOLVERS["lbfgs"].minimise(
        objective,
        start,
        low=model.low,
        high=model.high,
        iterations=EVALUATIONS,
        learning_rate=None,
        stop=lambda: objective.evaluations > EVALUATIONS,
    ):
        if isinstance(iterate, Iterate):
            yield iterate.inputs


def pytorch(objective: Counted, start: Tensor) -> Iterator[Tensor]:
    """Points of torch.optim.LBFGS with its strong Wolfe line search, one iteration a step so that each can be shown."""
    inputs = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [inputs],
        lr=1,
        max_iter=1,
        max_eval=30,
        history_size=100,
        line_search_fn="strong_wolfe",
        tolerance_grad=0,
        tolerance_change=0,
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = objective(inputs).loss
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    while math.isfinite(float(optimizer.step(closure).detach())):  # type: ignore[no-untyped-call]
        yield inputs.detach()


def evaluations(solver: str, seed: int) -> dict[str, int | None]:
    """Evaluations until every image has reached each level of PSNR, None where it never did."""
    case, truth = observe(Scenario(indices=(0, 1, 3, 4), seed=seed))
    objective = Counted(case=case, labels=truth.labels.sort().values, distance="squared-l2")
    reached: dict[str, int | None] = {f"{level} dB": None for level in LEVELS}
    for inputs in {"own": own, "pytorch": pytorch}[solver](objective, noise(case, 1, seed=seed)):
        images = case.model.denormalise(inputs[0]).clamp(0, 1)
        worst = float(metrics.psnr(images[metrics.match(images, truth.images)], truth.images).min())
        for level in LEVELS:
            if worst >= level and reached[f"{level} dB"] is None:
                reached[f"{level} dB"] = objective.evaluations
        if objective.evaluations > EVALUATIONS or worst >= max(LEVELS):
            break
    return reached


def main() -> None:
    """Measure, print and write."""
    results = [
        {"solver": solver, "seed": seed, "evaluations": evaluations(solver, seed)}
        for solver in ("own", "pytorch")
        for seed in SEEDS
    ]
    for row in results:
        print(row)
    machine = describe_machine()["words"]
    RESULTS.write_text(
        json.dumps({"command": "python -m benchmarks.lbfgs", "machine": machine, "results": results}, indent=1) + "\n"
    )


def table() -> str:
    """Evaluations of the objective until every image has a PSNR: median and range over the seeds."""
    found = outcomes.read(RESULTS)
    solvers = list(dict.fromkeys(cell["solver"] for cell in found["results"]))
    levels = list(found["results"][0]["evaluations"])
    rows = []
    for solver in solvers:
        counts = [cell["evaluations"] for cell in found["results"] if cell["solver"] == solver]
        rows.append((solver, *(whole([count[level] for count in counts]) for level in levels)))
    return f"`{found['command']}`, {found['machine']}:\n\n" + markdown.table(("L-BFGS", *levels), rows)


def whole(values: Sequence[int | None]) -> str:
    """Median and range of whole numbers, None where a level was not reached.

    >>> whole([18, 20, 17]), whole([3, None, 4])
    ('18 (17-20)', '2 of 3')
    """
    there = [value for value in values if value is not None]
    if len(there) < len(values):
        return f"{len(there)} of {len(values)}"
    return f"{statistics.median(there):g} ({min(there)}-{max(there)})"


if __name__ == "__main__":
    main()
