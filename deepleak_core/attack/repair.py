"""An attack that notices a wrong label: the residual stays high, so labels are doubted, changed and tried.

With the right labels the simulated update comes ever closer to the shared one; one wrong label leaves a part that no
pixels explain. `search_and_repair` runs a search, looks at its residual after a while, and where that is stuck asks
the last layer which labels its gradient proves (`verification`). Where nothing can be proven - as many images as
classes, or local steps in between - it tries the likeliest exchanges of one label, each for a few iterations.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor

from deepleak_core.attack.solvers import Iterate
from deepleak_core.errors import CannotSeparate
from deepleak_core.events import LABELS_CHANGED, FeaturesSeparated, LabelsInferred, LabelsRevised, Stage
from deepleak_core.labels import strategies as labels
from deepleak_core.labels.certification import Verdict, verify
from deepleak_core.labels.strategies import Knowledge
from deepleak_core.text import percent

PATIENCE = 50  # iterations a search is given before its residual is judged
STUCK = 0.05  # squared relative residual after them above which a label is doubted
EXCHANGES = 6  # exchanges of one label tried where nothing can be proven
BETTER = 0.7  # share of the residual an exchange must leave at most to be believed
LONGEST = PATIENCE * (1 + EXCHANGES)  # iterations that doubt and trials take beside the search itself
UNCERTAIN = 0.2  # distance of a real-valued count to its integer from which on labels are no longer certain

Told = Iterate | Stage | FeaturesSeparated
Search = Callable[[Sequence[int]], Iterator[Told]]


def is_uncertain(inferred: LabelsInferred) -> bool:
    """Whether inferred counts leave room for doubt: not proven, and some class far from an integer."""
    pairs = zip(inferred.real_counts, inferred.counts, strict=True)
    return not inferred.proven and any(abs(real - count) > UNCERTAIN for real, count in pairs)


def search_and_repair(
    search: Search, knowledge: Knowledge, believed: Sequence[int], class_names: Sequence[str]
) -> Iterator[Told | LabelsRevised]:
    """`search` from the `believed` labels; when it is stuck, the story of its labels' repair and a new search."""
    going = search(believed)
    last: Iterate | None = None
    for told in _until(going, PATIENCE):
        if isinstance(told, Iterate):
            last = told
        yield told
    if last is None or knowledge.stop():
        return
    residual = float(last.residuals.min())
    if residual < STUCK or last.progress >= 1:
        yield from going
        return
    yield Stage(
        name="The residual is stuck",
        sentence=f"After {PATIENCE} iterations {percent(residual)} of the update is unexplained: a wrong label?",
    )
    zero_shot = labels.zero_shot(knowledge).real_counts
    estimates = [zero_shot, labels.trained_counts(knowledge, [zero_shot])[0]]
    proof = prove(knowledge, believed, estimates)
    if proof and labels.order(proof.counts) == sorted(believed):
        yield Stage(
            name="The labels are right", sentence="The last layer proves them: it is the pixels that are hard to find."
        )
        yield from going
        return
    if proof:
        revised: list[int] | None = labels.order(proof.counts)
    else:
        revised = yield from _try_exchanges(search, knowledge, believed, estimates, residual, class_names)
    if revised is None:
        if not knowledge.stop():  # else time was up before all were tried
            yield Stage(
                name="No better labels", sentence="No exchange of one label explains more: the labels stay as they are."
            )
        yield from going
        return
    why = "proven by the last layer." if proof else "the residual falls."
    yield Stage(name=LABELS_CHANGED, sentence=f"{_told_apart(believed, revised, class_names)}: {why}")
    yield LabelsRevised(order=tuple(revised), proven=proof is not None)
    yield from search(revised)


def prove(knowledge: Knowledge, believed: Sequence[int], estimates: Sequence[Tensor]) -> Verdict | None:
    """The verdict on the labels that the last layer's gradient proves, be they the believed ones or others."""
    if knowledge.update.local_steps > 1:
        return None
    counts = _counts(believed, estimates)
    try:
        verdict = verify(
            knowledge.last_layer,
            knowledge.batch_size,
            [*estimates, counts.double()],
            seed=knowledge.seed,
            stop=knowledge.stop,
        )
    except CannotSeparate:
        return None
    return verdict if verdict.proven else None


def _try_exchanges(
    search: Search,
    knowledge: Knowledge,
    believed: Sequence[int],
    estimates: Sequence[Tensor],
    residual: float,
    class_names: Sequence[str],
) -> Generator[Told, None, list[int] | None]:
    """Short searches with one label exchanged; returns the labels whose residual falls clearly, or None."""
    best: list[int] | None = None
    for order in _exchanges(believed, estimates):
        if knowledge.stop():
            break
        last = None
        for told in _until(search(order), PATIENCE):
            if isinstance(told, Iterate):
                last = told
                yield told
        if last is None:
            continue
        reached = float(last.residuals.min())
        falls = reached < BETTER * residual
        changed = _told_apart(believed, order, class_names)
        verdict = "it falls" if falls else "no better"
        yield Stage(name="Another label tried", sentence=f"{changed}: {percent(reached)} unexplained, {verdict}.")
        if falls:
            best, residual = order, reached
        if residual < STUCK:
            break
    return best


def _exchanges(believed: Sequence[int], estimates: Sequence[Tensor]) -> list[list[int]]:
    """Labels with one image given another class, those first that come closest to one of the estimates (C,)."""
    counts = _counts(believed, estimates)
    missing = torch.stack([estimate.double() for estimate in estimates]).nan_to_num() - counts
    taken, given = ((missing + change).abs() - missing.abs() for change in (1, -1))  # what one image less or more costs
    costs = (missing.abs().sum(1)[:, None, None] + taken[:, :, None] + given[:, None, :]).amin(0)  # (C, C)
    costs[counts == 0] = torch.inf
    costs.fill_diagonal_(torch.inf)
    orders = []
    for place in costs.flatten().argsort(stable=True)[: min(EXCHANGES, int(costs.isfinite().sum()))].tolist():
        exchanged = counts.clone()
        exchanged[place // len(counts)] -= 1
        exchanged[place % len(counts)] += 1
        orders.append(labels.order(exchanged))
    return orders


def _counts(believed: Sequence[int], estimates: Sequence[Tensor]) -> Tensor:
    """Believed labels as counts (C,), beside the estimates."""
    return torch.bincount(torch.tensor(believed), minlength=len(estimates[0])).to(estimates[0].device)


def _until(going: Iterator[Told], iterations: int) -> Iterator[Told]:
    """What a search tells, up to so many iterations; it can be gone on with afterwards."""
    left = iterations
    while left and (some := list(islice(going, 1))):
        left -= isinstance(some[0], Iterate)
        yield some[0]


def _told_apart(before: Sequence[int], after: Sequence[int], class_names: Sequence[str]) -> str:
    """The classes whose counts differ: "frog 2, ship 1 instead of frog 1, ship 2"."""
    differing = [c for c in sorted({*before, *after}) if before.count(c) != after.count(c)]
    told = [", ".join(f"{class_names[c]} {list(order).count(c)}" for c in differing) for order in (after, before)]
    return f"{told[0]} instead of {told[1]}"
