"""Label repair: replace wrong labels that keep the residual high.

With the right labels the simulated update converges to the shared one; one wrong label leaves a part that no pixels
match. `search_and_repair` runs a search, looks at its residual after a while, and where it is stuck asks the last layer
which labels its gradient certifies (`labels.certification`). Where nothing can be certified - as many images as
classes, or several local steps - it tries the most likely exchanges of one label, each for a few iterations.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import replace
from itertools import islice

import torch
from torch import Tensor

from deepleak_core.attack.exact import Progress
from deepleak_core.attack.solvers import Iterate
from deepleak_core.errors import CannotSeparate
from deepleak_core.events import LABELS_CHANGED, LabelsInferred, LabelsRevised, Stage
from deepleak_core.labels.certification import Verdict, certify_counts
from deepleak_core.labels.estimates import trained_counts
from deepleak_core.labels.evidence import Knowledge, labels_of
from deepleak_core.labels.zero_shot import zero_shot
from deepleak_core.text import percent

PATIENCE = 50  # iterations of a search before its residual is looked at
STUCK = 0.05  # squared relative residual after them above which labels are doubted
EXCHANGES = 6  # exchanges of one label that are tried where nothing can be certified
BETTER = 0.7  # share of the residual that may remain for an exchange to be adopted
LONGEST = PATIENCE * (1 + EXCHANGES)  # iterations that all trials take, in addition to the search itself
UNCERTAIN = 0.2  # distance of a real-valued count from its integer above which labels are uncertain

Search = Callable[[Sequence[int]], Iterator[Progress]]


def is_uncertain(inferred: LabelsInferred) -> bool:
    """Whether inferred counts are uncertain: not certified, and some real-valued count far from its integer."""
    pairs = zip(inferred.real_counts, inferred.counts, strict=True)
    return not inferred.certified and any(abs(real - count) > UNCERTAIN for real, count in pairs)


def search_and_repair(
    search: Search, knowledge: Knowledge, believed: Sequence[int], class_names: Sequence[str]
) -> Iterator[Progress | LabelsRevised]:
    """`search` from the `believed` labels; where it is stuck, revise the labels and search again.

    Iterates carry the labels that they were searched under.
    """
    going = _labelled(search, believed)
    last: Iterate | None = None
    for progress in _until(going, PATIENCE):
        if isinstance(progress, Iterate):
            last = progress
        yield progress
    if last is None or knowledge.stop():
        return
    if last.residual < STUCK or last.progress >= 1:
        yield from going
        return
    yield Stage(
        name="The residual is stuck",
        sentence=f"After {PATIENCE} iterations {percent(last.residual)} of the update is not matched: a wrong label?",
    )
    untrained = zero_shot(knowledge).real_counts
    estimates = [untrained, trained_counts(knowledge, [untrained])[0]]
    verdict = certify(knowledge, believed, estimates)
    if verdict and labels_of(verdict.counts) == sorted(believed):
        yield Stage(
            name="The labels are right", sentence="The last layer certifies them; only the pixels are hard to find."
        )
        yield from going
        return
    if verdict:
        revised: list[int] | None = labels_of(verdict.counts)
    else:
        revised = yield from _try_exchanges(search, knowledge, believed, estimates, last.residual, class_names)
    if revised is None:
        if not knowledge.stop():  # otherwise time ended before all were tried
            yield Stage(
                name="No better labels", sentence="No exchange of one label lowers the residual: the labels are kept."
            )
        yield from going
        return
    why = "certified by the last layer" if verdict else "the residual falls"
    yield Stage(name=LABELS_CHANGED, sentence=f"{in_words(believed, revised, class_names)}: {why}.", remark=True)
    yield LabelsRevised(order=tuple(revised), certified=verdict is not None)
    yield from _labelled(search, revised)


def _labelled(search: Search, labels: Sequence[int]) -> Iterator[Progress]:
    """A search whose iterates carry its labels."""
    for progress in search(labels):
        yield replace(progress, labels=tuple(labels)) if isinstance(progress, Iterate) else progress


def certify(knowledge: Knowledge, believed: Sequence[int], estimates: Sequence[Tensor]) -> Verdict | None:
    """The counts that the last layer's gradient certifies, believed or not; None where it certifies none."""
    if knowledge.update.local_steps > 1:
        return None
    counts = _counts(believed, estimates)
    try:
        verdict = certify_counts(
            knowledge.last_layer,
            knowledge.batch_size,
            [*estimates, counts.double()],
            seed=knowledge.seed,
            stop=knowledge.stop,
        )
    except CannotSeparate:
        return None
    return verdict if verdict.certified else None


def _try_exchanges(
    search: Search,
    knowledge: Knowledge,
    believed: Sequence[int],
    estimates: Sequence[Tensor],
    residual: float,
    class_names: Sequence[str],
) -> Generator[Progress, None, list[int] | None]:
    """Short searches with one label exchanged; returns the labels whose residual falls clearly, or None."""
    best: list[int] | None = None
    for order in exchanges(believed, estimates):
        if knowledge.stop():
            break
        last = None
        for progress in _until(_labelled(search, order), PATIENCE):
            if isinstance(progress, Iterate):
                last = progress
                yield progress
        if last is None:
            continue
        falls = last.residual < BETTER * residual
        verdict = "the residual falls" if falls else "no better"
        yield Stage(
            name="Another label tried",
            sentence=f"{in_words(believed, order, class_names)}: {percent(last.residual)} not matched, {verdict}.",
        )
        if falls:
            best, residual = order, last.residual
        if residual < STUCK:
            break
    return best


def exchanges(believed: Sequence[int], estimates: Sequence[Tensor]) -> list[list[int]]:
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
        orders.append(labels_of(exchanged))
    return orders


def _counts(believed: Sequence[int], estimates: Sequence[Tensor]) -> Tensor:
    """Believed labels as counts (C,), on the device of the estimates."""
    return torch.bincount(torch.tensor(believed), minlength=len(estimates[0])).to(estimates[0].device)


def _until(going: Iterator[Progress], iterations: int) -> Iterator[Progress]:
    """The first iterations of a search, which can be continued afterwards."""
    left = iterations
    while left > 0 and (some := list(islice(going, 1))):
        left -= some[0].since if isinstance(some[0], Iterate) else 0
        yield some[0]


def in_words(before: Sequence[int], after: Sequence[int], class_names: Sequence[str]) -> str:
    """What changed between two lists of labels.

    >>> in_words([0, 1, 1], [1, 1, 2], ("deer", "frog", "ship"))
    'deer changed to ship'
    """
    lost, gained = Counter(before) - Counter(after), Counter(after) - Counter(before)
    old, new = (", ".join(class_names[label] for label in sorted(some.elements())) for some in (lost, gained))
    return f"{old} changed to {new}"
