"""Label counts that prove themselves: the right ones explain the last layer's gradient, no others do.

`verify` needs fewer images than classes and one gradient of one batch. It looks for images without assuming any
labels, one by one (`separation.find_images`) and all at once (`simplex`). Where that leaves some hidden, it goes
through integer counts: classes that show in the gradient are in the batch, the rest is tried near the estimates, and
what is solved for wrong labels tells which one to exchange (`together`). `disaggregation` judges: counts whose
features explain the gradient down to rounding noise are proven, for wrong counts leave a residual orders of magnitude
above it. Where nothing is proven it says which counts came closest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from deepleak_core.disaggregation import Disaggregation, NotResolved, check_room, disaggregate
from deepleak_core.separation import (
    Factors,
    LastLayer,
    can_be_found_one_by_one,
    find_images,
    starts_for,
    summed_gradient,
)
from deepleak_core.simplex import largest_simplices
from deepleak_core.together import OPEN, read_labels, solve_together

PULLED = (0.0, 0.15, 0.3, 0.45)  # shares of the way from a corner to the middle at which images may lie
SEARCHED = 120  # candidates of which a short search says how promising they are
BEAM, BRANCHES = 8, 6  # exchanges of one label: for so many candidates, so many of each
SOLVED_RESIDUAL = 1e-9  # squared residual at which a search has found the labels
EXPLAINED = 5e-5  # likewise, up to which the labels found are likely, though rounding hides the proof
SEARCHABLE = 10  # images up to which that search is quick
TRIED = 3  # candidates that are judged at length
SECONDS = 20.0  # how long all of it may take: large batches with repeating labels would need minutes
SHOWN = 1e-6  # of the largest entry: how far below zero a class must be in the gradient to be in the batch for sure


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Counts (C,), whether they are proven, and if so by which features.

    Counts that are `explained` have features that nearly explain the gradient, but an image is lost in rounding.
    """

    counts: Tensor
    separated: Disaggregation | None
    explained: bool = False

    @property
    def proven(self) -> bool:
        return self.separated is not None


def verify(
    layer: LastLayer,
    images: int,
    estimates: Sequence[Tensor],
    *,
    thorough: bool = True,
    seconds: float = SECONDS,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Verdict:
    """The label counts of a batch of `images`, given real-valued `estimates` (C,) that may be wrong.

    Where images are not found without labels, and only if `thorough`, counts near the estimates are gone through;
    where nothing is found, the last estimate is believed.
    After so many `seconds`, or once `stop` says yes, the best counts so far are given.
    Raises `CannotDisaggregate` where the layer has too few classes or features for so many images.
    """
    check_room(layer, images)
    deadline = time.monotonic() + seconds
    return _Verification(layer, images, estimates, seed, lambda: stop() or time.monotonic() >= deadline).verdict(
        thorough
    )


class _Verification:
    """One batch, and all that was found out about it on the way to a verdict."""

    def __init__(self, layer: LastLayer, images: int, estimates: Sequence[Tensor], seed: int, stop: Callable[[], bool]):
        self.layer, self.images, self.estimates, self.seed, self.stop = layer, images, estimates, seed, stop
        self.classes = len(layer.weight)
        self.plausible = _plausible(estimates, images)
        self.factors = Factors.of(layer, summed_gradient(layer, images), images)
        self.walls = self.factors.walls
        self.unclear: list[Tensor] = []  # counts whose features explain the gradient, but with an image lost in noise
        self.opinions: list[tuple[float, Tensor]] = []  # squared residuals, and the counts found with them

    def verdict(self, thorough: bool) -> Verdict:
        """The stages in turn, each only where those before it proved nothing."""
        agreed = round_counts(self.estimates[0], self.images)
        if torch.equal(agreed, round_counts(self.estimates[1], self.images)) and (found := self.proof(agreed, None, 1)):
            return found
        for stage in (self.one_by_one, self.largest_simplex, *([self.candidates] if thorough else [])):
            if not self.unclear and not self.stop() and (found := stage()):
                return found
        believed = round_counts(self.estimates[-1], self.images)
        residual, best = min(self.opinions, key=lambda opinion: opinion[0], default=(1.0, believed))
        explained = bool(self.unclear) or residual < EXPLAINED
        return Verdict(counts=(self.unclear or [best])[0], separated=None, explained=explained)

    def proof(self, counts: Tensor, start: Tensor | None, tries: int) -> Verdict | None:
        """The verdict that these counts are right, if features near `start` (K, D) or found in `tries` say so."""
        try:
            separated = disaggregate(self.layer, counts, start=start, seed=self.seed, tries=tries, stop=self.stop)
        except NotResolved:
            return None
        if separated.clear:
            return Verdict(counts=counts, separated=separated)
        self.unclear.append(counts)
        return None

    def one_by_one(self) -> Verdict | None:
        """Images that are found each for itself; where one or two stay hidden, whatever these may be."""
        if not can_be_found_one_by_one(self.layer, self.images):
            return None
        for attempt in range(TRIED):
            features, labels = find_images(
                self.layer, self.images, self.plausible, seed=self.seed + attempt, stop=self.stop
            )
            counts = torch.bincount(labels, minlength=self.classes)
            if len(labels) == self.images and (found := self.proof(counts, features[labels.argsort()], 1)):
                return found
            if self.unclear or self.stop():
                break
            if self.images > SEARCHABLE:
                continue
            completed = _completions(counts, self.images, self.plausible)
            self.opinions += [(float(self.images - len(labels)), counts) for counts in completed]
        return None

    def largest_simplex(self) -> Verdict | None:
        """Images as corners of what features can be, and the labels read off them."""
        for corners, walls in largest_simplices(self.factors, seed=self.seed, stop=self.stop):
            self.walls = walls if self.walls is None else self.walls
            middle = corners.mean(0)
            starts = torch.stack([corners + share * (middle - corners) for share in PULLED])
            if found := self.proof_of(corners):
                return found
            anyhow = torch.full(starts.shape[:2], OPEN, device=starts.device)
            ends, costs = solve_together(self.factors, starts, anyhow, walls=self.walls, enough=SOLVED_RESIDUAL)
            self.opinions += [
                (cost, self.counts_read(end)) for cost, end in zip(costs.tolist(), ends, strict=True) if cost < 1
            ]
            if costs.min() <= SOLVED_RESIDUAL and (found := self.proof_of(ends[costs.argmin()])):
                return found
            if self.unclear:
                return None
        return None

    def counts_read(self, m: Tensor) -> Tensor:
        """The label counts (C,) that coordinates m (K, K) read as."""
        return torch.bincount(read_labels(self.factors, m[None])[0].argmax(1), minlength=self.classes)

    def proof_of(self, m: Tensor) -> Verdict | None:
        """The verdict that coordinates m (K, K) are near the images, whatever labels they read as."""
        order = read_labels(self.factors, m[None])[0].argmax(1).argsort(stable=True)
        return self.proof(self.counts_read(m), m[order] @ self.factors.basis.T, 0)

    def candidates(self) -> Verdict | None:
        """Counts near the estimates and those found so far, tried one after the other."""
        likeliest = sorted(self.opinions, key=lambda opinion: opinion[0])
        shown = classes_shown(self.layer, self.images)
        hidden = [torch.where(shown > 0, real, real.clamp_max(0.5)) - shown for real in self.estimates]
        near = nearest_counts(hidden, self.images - int(shown.sum()), self.plausible, limit=SEARCHED) + shown
        if self.images > SEARCHABLE:  # each candidate would take a minute
            return self.proof(near[0], None, 2)
        search = _LabelSearch(self.factors, self.walls, self.seed, self.stop)
        for counts, m in search.solutions([counts for _, counts in likeliest[:SEARCHED]] + list(near)):
            if self.unclear:
                return None
            if found := self.proof(counts, m @ self.factors.basis.T, 0):
                return found
        self.opinions = [(search.found[labels][0], search.counts(labels)) for labels in search.best[:1]]
        return None


def classes_shown(layer: LastLayer, images: int) -> Tensor:
    """(C,): 1 for each class that is in the batch for sure, for the gradient of its row is negative somewhere.

    Row c of the gradient is sum_k a_kc f_k; of the signals only those of the class itself are negative, and what
    features have above their floor is not. Without a floor, or a bias to measure it by, nothing is sure.
    """
    if layer.floor is None or (layer.floor and layer.bias_gradient is None):
        return torch.zeros(len(layer.weight), dtype=torch.long, device=layer.weight.device)
    rows = layer.weight_gradient.double()
    if layer.bias_gradient is not None:
        rows = rows - layer.floor * layer.bias_gradient.double()[:, None]
    shown = rows.amin(1) < -SHOWN * rows.abs().max()
    return shown.long() if int(shown.sum()) <= images else torch.zeros_like(shown).long()


def _completions(found: Tensor, images: int, classes: Sequence[int]) -> Tensor:
    """Counts (n, C) of all batches that hold the images `found` (C,) and at most two others; none for more."""
    missing = images - int(found.sum())
    if missing not in (1, 2):
        return found[None][:0]
    others = torch.combinations(torch.tensor(classes, device=found.device), missing, with_replacement=True)
    return found + one_hot(others, len(found)).sum(1)


def nearest_counts(estimates: Sequence[Tensor], images: int, classes: Sequence[int], *, limit: int) -> Tensor:
    """Integer counts (n, C) that sum to `images`, n <= limit, by their distance to the closest estimate.

    Only counts of the `classes` given differ from those an estimate itself rounds to.

    >>> nearest_counts([torch.tensor([1.2, 0.7, 0.1])], 2, [0, 1, 2], limit=3).tolist()
    [[1, 1, 0], [2, 0, 0], [1, 0, 1]]
    """
    real = torch.stack([estimate.double() for estimate in estimates])
    pool = torch.unique(torch.stack([round_counts(estimate, images) for estimate in estimates]), dim=0)
    columns = torch.tensor(classes, device=real.device)  # all else is the same for all of them
    taken, given = torch.cartesian_prod(columns, columns).T
    change = one_hot(given, real.shape[1]) - one_hot(taken, real.shape[1])
    for _ in range(3):
        nearest = pool[_distance(pool[:, columns], real[:, columns]).argsort()[: max(1, limit // 2)]]
        moved = (nearest[:, None] + change).flatten(0, 1)
        pool = torch.unique(torch.cat([pool, moved[(moved >= 0).all(1)]]), dim=0)
    near: Tensor = pool[_distance(pool[:, columns], real[:, columns]).argsort(stable=True)[:limit]]
    return near


def round_counts(real_counts: Tensor, total: int) -> Tensor:
    """Integers that sum to `total`: take the largest remaining estimate `total` times (Geng et al.).

    >>> round_counts(torch.tensor([1.6, 0.7, -0.3]), 2).tolist()
    [1, 1, 0]
    """
    # The rule fills up to a common level and never below it; what it surely takes is taken at once.
    real = real_counts.double().nan_to_num()  # infinities become the largest numbers
    real = (real - real.max()).clamp_min(-float(total) - 1)
    low, high = torch.tensor(-float(total) - 1).to(real), torch.tensor(0.0).to(real)
    for _ in range(60):
        level = (low + high) / 2
        taken = (real - level).ceil().clamp_min(0).sum()
        low, high = (low, level) if taken <= total else (level, high)
    counts = (real - high).ceil().clamp_min(0).long()
    remaining = real - counts
    for _ in range(total - int(counts.sum())):
        top = remaining.argmax()
        counts[top] += 1
        remaining[top] -= 1
    return counts


def _plausible(estimates: Sequence[Tensor], images: int) -> list[int]:
    """Classes that may be in the batch: those that the estimates see most of, and many more than there can be."""
    most = torch.stack(list(estimates)).amax(0)
    wanted = max(10, images + 4)
    return most.argsort(descending=True)[:wanted].sort().values.tolist()


def _distance(counts: Tensor, real: Tensor) -> Tensor:
    """(n,): the sum of absolute differences of counts (n, C) to the closest of the real-valued ones (e, C)."""
    return (counts[:, None] - real).abs().sum(2).amin(1)


class _LabelSearch:
    """Multisets of labels, ascending, with the smallest residual and the coordinates (K, K) found for each so far.

    What is solved for wrong labels still reads as labels, which tells the exchange of one label that would fit better.
    """

    def __init__(self, factors: Factors, walls: Tensor | None, seed: int, stop: Callable[[], bool]):
        self.factors, self.walls, self.stop = factors, walls, stop
        self.generator = torch.Generator().manual_seed(seed)
        self.found: dict[tuple[int, ...], tuple[float, Tensor]] = {}
        self.told: set[tuple[int, ...]] = set()

    @property
    def best(self) -> list[tuple[int, ...]]:
        """What was looked at, the smallest residual first."""
        return sorted(self.found, key=lambda labels: self.found[labels][0])

    def counts(self, labels: tuple[int, ...]) -> Tensor:
        """Label counts (C,) of a multiset."""
        return torch.bincount(torch.tensor(labels), minlength=len(self.factors.offset)).to(self.factors.left.device)

    def solutions(self, candidates: Iterable[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Counts and coordinates (K, K) of labels that explain everything, as they are found; the best at last."""
        first = dict.fromkeys(
            tuple(torch.repeat_interleave(torch.arange(len(c)), c.cpu()).tolist()) for c in candidates
        )
        rounds: list[tuple[Callable[[], Sequence[tuple[int, ...]]], int, int]] = [
            (lambda: list(first), 4, 40),
            (lambda: self.exchanges(self.best[:BEAM]), 4, 40),
            (lambda: self.best[: SEARCHED // 4], 12, 60),
            (lambda: self.exchanges(self.best[:BEAM]), 4, 40),
            (lambda: self.best[:BEAM], 48, 80),
        ]
        for multisets, starts, iterations in rounds:
            for labels in self.look_at(multisets(), starts, iterations):
                if labels not in self.told:
                    self.told.add(labels)
                    yield self.counts(labels), self.found[labels][1]
            if self.stop():
                return
        for labels in self.best[:TRIED]:
            if labels not in self.told:
                yield self.counts(labels), self.found[labels][1]

    def look_at(self, multisets: Sequence[tuple[int, ...]], starts: int, iterations: int) -> Iterator[tuple[int, ...]]:
        """Solve for these labels from so many random starts, and from where they got last time."""
        if not multisets:  # every exchange was looked at before
            return
        labels = torch.tensor(multisets, device=self.factors.left.device).repeat_interleave(starts, 0)
        points = starts_for(self.factors, labels, self.generator)
        for place, key in enumerate(multisets):
            if key in self.found:
                points[place * starts] = self.found[key][1]
        for own, start in zip(torch.split(labels, 48), torch.split(points, 48), strict=True):
            ends, costs = solve_together(
                self.factors, start, own, walls=self.walls, iterations=iterations, enough=SOLVED_RESIDUAL / 100
            )
            for key, cost, end in zip(map(tuple, own.tolist()), costs.tolist(), ends, strict=True):
                if key not in self.found or cost < self.found[key][0]:
                    self.found[key] = cost, end
            yield from {key for key in map(tuple, own.tolist()) if self.found[key][0] < SOLVED_RESIDUAL}
            if self.stop():
                return

    def exchanges(self, multisets: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        """New multisets with one label exchanged, for each the few exchanges that fit best what is read."""
        proposed: dict[tuple[int, ...], None] = {}
        for labels in multisets:
            read = read_labels(self.factors, self.found[labels][1][None])[0]
            gains = read - read[torch.arange(len(labels)), list(labels)][:, None]
            fresh = 0
            for place in gains.flatten().argsort(descending=True).tolist():
                image, label = divmod(place, gains.shape[1])
                exchanged = tuple(sorted((*labels[:image], label, *labels[image + 1 :])))
                if exchanged not in self.found and exchanged not in proposed:
                    proposed[exchanged] = None
                    fresh += 1
                if fresh == BRANCHES:
                    break
        return list(proposed)
