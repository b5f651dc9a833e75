"""Label counts that prove themselves: the right ones explain the last layer's gradient, no others do.

`verify` needs fewer images than classes and one gradient of one batch. It looks for images without assuming any labels,
as independent components (`independence`), all at once (`simplex`) and one by one (`separation.find_images`); what is
an image for sure is taken off to find the others. Where that leaves some hidden, it hops: in what nearly explains the
gradient a few images are drawn anew or taken over from another solution, or all are moved, all are solved for again
with labels left open (`together`), and the best is kept. `disaggregation` judges: counts whose features explain the
gradient down to rounding noise are proven, for wrong counts leave a residual orders of magnitude above it. Where
nothing is proven it says which counts came closest.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor

from deepleak_core.errors import NotSeparated
from deepleak_core.features.ica import independent_images
from deepleak_core.features.joint import MARGIN, NEAR, OPEN, read_labels, solve_for_many, solve_together
from deepleak_core.features.last_layer import LastLayer, summed_gradient
from deepleak_core.features.one_by_one import Factors, can_be_found_one_by_one, find_images, starts_for
from deepleak_core.features.separate import Disaggregation, check_room, disaggregate
from deepleak_core.features.simplex import largest_simplices

PULLED = (0.0, 0.15, 0.3, 0.45)  # shares of the way from a corner to the middle at which images may lie
HOPS, STARTS = 100, 48  # rounds of hopping, and how many start in each
BEAM = 8  # solutions of different labels that hops start from, the best ones
MARGINS = (MARGIN, 2 * MARGIN)  # by which labels are read before they count: where one misleads, another may not
REDRAWN = 3  # images drawn anew in a hop, at most
SOLVED = 1e-11  # squared residual at which a search is over
PROMISING = 1e-6  # likewise, up to which the labels found are judged at length
EXPLAINED = 5e-5  # likewise, up to which they are likely, though rounding hides the proof
CLOSE = 1e-2  # likewise, up to which a proof of many images is worth its time
MOSTLY = 0.05  # likewise of each image, on average, up to which labels are more than an estimate
LIKELY = 1e3  # misfit up to which counts are believed without a proof: wrong ones are mostly far above it
POLISH = 300  # iterations that a solution is given before it is judged
DOUBTS = 6  # rounds of hopping after counts that cannot be proven, as an image is lost in noise, for better ones
SEARCHABLE = 16  # images up to which hopping is quick
SOLVABLE = 32  # images up to which solving for all together is
ROOM = 20_000_000  # numbers in the derivatives of all predictions, up to which images move together
TRIED = 3  # times and candidates that are looked at
SECONDS = 20.0  # how long all of it may take: large batches with repeating labels would need minutes
MANY_SECONDS = 60.0  # likewise, for more images than SOLVABLE
EARLY = 0.1  # share of that which is given to the counts that all estimates agree on
LATE = 1.25  # likewise, until what was found in time is judged
ALONE = 1e-3  # of a signal's length that may lie outside the gradient's signals, for a corner that is an image
REPEATED = 4  # images per class that shows, from which every other round believes that no other class is there
SHOWN = 1e-6  # of the largest entry: how far below zero a class must be in the gradient to be in the batch for sure
BEYOND_NOISE = 10.0  # likewise, in units of rounding noise


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


def patience(images: int) -> float:
    """Seconds after which a search for a proof ends.

    >>> patience(32), patience(33)
    (20.0, 60.0)
    """
    return SECONDS if images <= SOLVABLE else MANY_SECONDS


def verify(
    layer: LastLayer,
    images: int,
    estimates: Sequence[Tensor],
    *,
    thorough: bool = True,
    seconds: float | None = None,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> Verdict:
    """The label counts of a batch of `images`, given real-valued `estimates` (C,) that may be wrong.

    Where images are not found right away, the search goes on only if `thorough`; where nothing comes close, the last
    estimate is believed.
    After so many `seconds`, as a rule `patience`, or once `stop` says yes, the best counts so far are given.
    Raises `CannotSeparate` where the layer has too few classes or features for so many images.
    """
    check_room(layer, images)
    return _Verification(layer, images, estimates, seed=seed, seconds=seconds, stop=stop).verdict(thorough)


class _Verification:
    """One batch, and all that was found out about it on the way to a verdict."""

    def __init__(
        self,
        layer: LastLayer,
        images: int,
        estimates: Sequence[Tensor],
        *,
        seed: int = 0,
        seconds: float | None = None,
        stop: Callable[[], bool] = lambda: False,
    ):
        began, limit = time.monotonic(), patience(images) if seconds is None else seconds

        def until(share: float) -> Callable[[], bool]:
            return lambda: stop() or time.monotonic() >= began + share * limit

        self.stop, self.stop_early, self.stop_late = until(1.0), until(EARLY), until(LATE)
        self.layer, self.images, self.estimates, self.seed = layer, images, estimates, seed
        self.classes = len(layer.weight)
        self.plausible = _plausible(estimates, images)
        self.gradient = summed_gradient(layer, images)
        self.factors = Factors.of(layer, self.gradient, images)
        self.walls = self.factors.walls
        self.shown = classes_shown(layer, images, self.factors.noise)
        self.generator = torch.Generator().manual_seed(seed)
        self.solutions: dict[tuple[int, ...], tuple[float, Tensor]] = {}  # by labels: squared residual, m (K, K)
        self.judged: dict[tuple[int, ...], float] = {}  # that residual, when a solution was last judged at length
        self.misfits: dict[tuple[int, ...], float] = {}  # of labels that were judged, but not proven
        self.unclear = False  # whether some of them fit, but with an image lost in noise

    def verdict(self, thorough: bool) -> Verdict:
        """The stages in turn, each only where those before it proved nothing."""
        agreed, *others = (round_counts(estimate, self.images) for estimate in self.estimates[:2])
        agree = all(torch.equal(agreed, other) for other in others)
        if agree and (found := self.proof(agreed, None, 1, stop=self.stop_early)):
            return found
        for stage in (self.independent, self.largest_simplex, self.one_by_one, *([self.hopping] if thorough else [])):
            if not self.stop() and (found := stage()):
                return found
        return self.closest()

    def proof(
        self, counts: Tensor, start: Tensor | None, tries: int, *, stop: Callable[[], bool] | None = None
    ) -> Verdict | None:
        """The verdict that these counts are right, if features near `start` (K, D) or found in `tries` say so."""
        stop = stop or (self.stop if tries else self.stop_late)
        try:
            separated = disaggregate(self.layer, counts, start=start, seed=self.seed, tries=tries, stop=stop)
            if separated.clear:
                return Verdict(counts=counts, separated=separated)
            misfit, self.unclear = separated.misfit, True
            self.solve(self.factors.coordinates(separated.features.double())[None], 60)
        except NotSeparated as refusal:
            misfit = refusal.misfit
        labels = tuple(torch.repeat_interleave(torch.arange(self.classes), counts.cpu()).tolist())
        self.misfits[labels] = min(misfit, self.misfits.get(labels, misfit))
        return None

    def one_by_one(self) -> Verdict | None:
        """Images that are found each for itself; where some stay hidden, hops may start from the others."""
        if not can_be_found_one_by_one(self.layer, self.images):
            return None
        for attempt in range(TRIED):
            among = self.plausible if attempt == 0 else range(self.classes)
            features, labels = find_images(self.layer, self.images, among, seed=self.seed + attempt, stop=self.stop)
            if len(labels) == self.images:
                if found := self.proof_with(features, labels, 1):
                    return found
            elif self.images <= SEARCHABLE and not self.stop():
                starts = self.random_starts()
                starts[:, : len(labels)] = self.factors.coordinates(features)
                self.solve(starts, 60)
                if found := self.judge():
                    return found
            if self.unclear or self.stop():
                return None
        return None

    def independent(self) -> Verdict | None:
        """Images as independent components of smooth features, moved together to where labels are read."""
        if self.images**2 * self.classes > ROOM:
            return None
        voices = independent_images(self.factors, seed=self.seed, stop=self.stop)
        if voices is None:
            return None
        cost, m = torch.inf, voices
        for margin in MARGINS:
            end, left = solve_for_many(self.factors, voices, margin=margin, stop=self.stop)
            self.remember(end[None], torch.tensor([left]))
            if left < cost:
                cost, m = left, end
            if cost < NEAR or self.stop():
                break
        if cost < CLOSE:
            if found := self.proof_of(m):
                return found
            alone, labels = self.images_alone(m)
            if alone.any() and (found := self.completed(m[alone], labels[alone])):
                return found
        if self.unclear or self.stop():
            return None
        self.solve(m[None], 60)
        return self.judge()

    def largest_simplex(self) -> Verdict | None:
        """Images as corners of what features can be, and the labels read off them."""
        for corners, walls in largest_simplices(self.factors, seed=self.seed, stop=self.stop):
            self.walls = walls if self.walls is None else self.walls
            alone, labels = self.images_alone(corners)
            partly = bool(alone.any() and not alone.all())  # of many images, the others are sooner found without these
            if not (partly and self.images > SOLVABLE) and (found := self.proof_of(corners)):
                return found
            if alone.any() and (found := self.completed(corners[alone], labels[alone])):
                return found
            middle = corners.mean(0)
            self.solve(torch.stack([corners + share * (middle - corners) for share in PULLED]), 60)
            if found := self.judge():
                return found
            if self.unclear:
                return None
        return None

    def images_alone(self, corners: Tensor) -> tuple[Tensor, Tensor]:
        """Which corners m (n, K) are images whatever the others are, (n,), and the labels (n,) they have if so.

        The signal p - e_y of an image lies in the span U of all signals, under the label it has.
        """
        left = self.factors.left
        p = torch.softmax(corners @ self.factors.logit_map.T + self.factors.offset, -1)
        outside = p - p @ left @ left.T
        labels = (1 - left.square().sum(1) - 2 * outside).argmin(1)
        _, signals = self.factors.signals(corners, labels)
        off = signals - signals @ left @ left.T
        return off.norm(dim=1) < ALONE * signals.norm(dim=1), labels

    def completed(self, known: Tensor, labels: Tensor) -> Verdict | None:
        """A proof of images at m (n, K), n < K, with these labels, and those found in the gradient without them."""
        if len(known) == self.images:
            return None
        rest = self.gradient - self.factors.gradient_of(known, labels)
        others = Factors.of(self.layer, rest, self.images - len(known), taken_off=True)
        for corners, _ in largest_simplices(others, seed=self.seed, stop=self.stop):
            features = torch.cat([known @ self.factors.basis.T, corners @ others.basis.T])
            read = read_labels(others, corners[None])[0].argmax(1)
            if found := self.proof_with(features, torch.cat([labels, read]), 0):
                return found
        return None

    def hopping(self) -> Verdict | None:
        """Solve from beside the best solutions, again and again.

        Where few classes show, labels repeat, and an open label is apt to settle on a class that is not there.
        """
        if self.images > SEARCHABLE:  # a round would take a minute
            return self.proof(round_counts(self.estimates[-1], self.images), None, 2)
        doubts, repeating = 0, 0 < REPEATED * int(self.shown.sum()) <= self.images
        for hop in range(HOPS):
            if self.stop() or doubts > DOUBTS:
                return None
            among = self.shown > 0 if repeating and hop % 2 == 0 else None
            self.solve(self.hops() if self.solutions else self.random_starts(), 40, among)
            if found := self.judge():
                return found
            doubts += bool(self.unclear)
        return None

    def hops(self) -> Tensor:
        """Coordinates (STARTS, K, K) beside the best solutions, in three ways by turns.

        Some images are drawn anew; or come from another solution, those furthest from all that stay; or every image
        is moved, by about as much as images differ.
        """
        best = torch.stack([self.solutions[labels][1] for labels in self.best[:BEAM]])
        some = torch.randint(len(best), (2, STARTS), generator=self.generator)
        parents, others = best[some]
        places = torch.rand(STARTS, self.images, generator=self.generator).argsort(1)
        redrawn = (places < torch.randint(1, REDRAWN + 1, (STARTS, 1), generator=self.generator)).to(best.device)
        apart = torch.cdist(others, parents).masked_fill(redrawn[:, None], torch.inf).amin(2)
        furthest = apart.argsort(1, descending=True).gather(1, (redrawn.cumsum(1) - 1).clamp_min(0))
        taken_over = others.gather(1, furthest[..., None].expand_as(others))
        directions = torch.randn(STARTS, self.images, self.images, generator=self.generator, dtype=torch.float64)
        sizes = torch.rand(STARTS, 1, 1, generator=self.generator, dtype=torch.float64) / self.images**0.5
        moved = parents + (sizes * directions).to(best) @ (parents - parents.mean(1, keepdim=True))
        drawn_anew = torch.where(redrawn[..., None], self.random_starts(), parents)
        mixed = torch.where(redrawn[..., None], taken_over, parents)
        ways = torch.stack([drawn_anew, mixed, moved])
        return ways[torch.arange(STARTS) % len(ways), torch.arange(STARTS)]

    def random_starts(self) -> Tensor:
        """Coordinates (STARTS, K, K) of images of any plausible class."""
        places = torch.randint(len(self.plausible), (STARTS, self.images), generator=self.generator)
        labels = torch.tensor(self.plausible)[places].to(self.factors.left.device)
        return starts_for(self.factors, labels, self.generator)

    def solve(self, starts: Tensor, iterations: int, among: Tensor | None = None) -> None:
        """Solve from coordinates (T, K, K) for whatever labels, or those `among` (C,) classes.

        More than SOLVABLE images would take minutes, and are left as they are.
        """
        if self.images > SOLVABLE:
            return
        anyhow = torch.full(starts.shape[:2], OPEN, device=starts.device)
        ends, costs = solve_together(
            self.factors, starts, anyhow, walls=self.walls, among=among, iterations=iterations, enough=SOLVED
        )
        self.remember(ends, costs)

    def remember(self, ends: Tensor, costs: Tensor) -> None:
        """Keep of coordinates (T, K, K) with squared residuals (T,) the best for each labels."""
        for labels, cost, end in zip(map(tuple, self.labels_read(ends).tolist()), costs.tolist(), ends, strict=True):
            if cost < self.residual(labels):
                self.solutions[labels] = cost, end

    def judge(self) -> Verdict | None:
        """A proof of one of the best solutions that were not judged yet, or are far better by now.

        As in `solve`, of no more than SOLVABLE images.
        """
        if self.images > SOLVABLE:
            return None
        promising = [
            labels
            for labels in self.possible(TRIED)
            if self.solutions[labels][0] < min(PROMISING, self.judged.get(labels, 1.0) / 10)
        ]
        if not promising:
            return None
        starts = torch.stack([self.solutions[labels][1] for labels in promising])
        read = read_labels(self.factors, starts).argmax(-1)
        ends, costs = solve_together(self.factors, starts, read, walls=self.walls, iterations=POLISH)
        for labels, cost, end in zip(promising, costs.tolist(), ends, strict=True):
            self.solutions[labels] = cost, end
            self.judged[labels] = cost
            if found := self.proof_of(end):
                return found
        return None

    def closest(self) -> Verdict:
        """A proof after all, or the counts that explain the gradient best; the last estimate where none come close."""
        for labels in self.possible(BEAM if self.images <= SEARCHABLE else 0):
            if found := self.proof_of(self.solutions[labels][1]):
                return found
        likely = [labels for labels, misfit in self.misfits.items() if misfit < LIKELY]
        if likely:
            labels = min(likely, key=lambda labels: self.misfits[labels] * self.residual(labels))
        elif (first := self.possible(1)) and self.residual(first[0]) < MOSTLY * self.images:
            labels = first[0]
        else:
            return Verdict(counts=round_counts(self.estimates[-1], self.images), separated=None)
        explained = bool(likely) or self.residual(labels) < EXPLAINED
        return Verdict(counts=self.counts(labels), separated=None, explained=explained)

    def residual(self, labels: tuple[int, ...]) -> float:
        """Squared residual of the best solution with these labels."""
        return self.solutions[labels][0] if labels in self.solutions else 1.0

    @property
    def best(self) -> list[tuple[int, ...]]:
        """The labels found so far, ascending within and by residual."""
        return sorted(self.solutions, key=lambda labels: self.solutions[labels][0])

    def possible(self, most: int) -> list[tuple[int, ...]]:
        """The best that lack no class which shows: others may be beside the truth, but are not the truth."""
        possible = (labels for labels in self.best if bool((self.counts(labels) >= self.shown).all()))
        return list(islice(possible, most))

    def counts(self, labels: tuple[int, ...]) -> Tensor:
        """Label counts (C,)."""
        return torch.bincount(torch.tensor(labels), minlength=self.classes).to(self.factors.left.device)

    def labels_read(self, m: Tensor) -> Tensor:
        """What coordinates m (T, K, K) read as, (T, K), ascending."""
        return read_labels(self.factors, m).argmax(-1).sort(1).values

    def proof_with(self, features: Tensor, labels: Tensor, tries: int) -> Verdict | None:
        """The verdict that images have about these features (K, D) and these labels (K,)."""
        counts = torch.bincount(labels, minlength=self.classes)
        return self.proof(counts, features[labels.argsort(stable=True)], tries)

    def proof_of(self, m: Tensor) -> Verdict | None:
        """The verdict that coordinates m (K, K) are near the images, whatever labels they read as."""
        return self.proof_with(m @ self.factors.basis.T, read_labels(self.factors, m[None])[0].argmax(1), 0)


def classes_shown(layer: LastLayer, images: int, noise: float = 0.0) -> Tensor:
    """(C,): 1 for each class that is in the batch for sure, for the gradient of its row is negative somewhere.

    Row c of the gradient is sum_k a_kc f_k; of the signals only those of the class itself are negative, and what
    features have above their floor is not. Without a floor, or a bias to measure it by, nothing is sure. `noise` is
    what rounding adds to an entry of the summed gradient (`Factors`).
    """
    if layer.floor is None or (layer.floor and layer.bias_gradient is None):
        return torch.zeros(len(layer.weight), dtype=torch.long, device=layer.weight.device)
    rows = layer.weight_gradient.double()
    if layer.bias_gradient is not None:
        rows = rows - layer.floor * layer.bias_gradient.double()[:, None]
    shown = rows.amin(1) < -max(SHOWN * float(rows.abs().max()), BEYOND_NOISE * noise / images)
    return shown.long() if int(shown.sum()) <= images else torch.zeros_like(shown).long()


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
