"""Certify label counts: the right ones explain the last layer's gradient to rounding, no others do.

`certify_counts` needs fewer images than classes and one gradient of one batch. It searches features without assuming
labels, in stages that are tried in turn: as independent components (`features.ica`) and as vertices of a simplex
(`features.simplex`); images that are certain are subtracted to find the others. If some stay hidden, it hops: in the
best solutions so far a few images are drawn anew or taken over from another solution, or all are moved, all are solved
for again with open labels (`features.joint`), and the best are kept. `features.separate` decides: counts whose features
explain the gradient to rounding are certified, since wrong counts leave a residual orders of magnitude above it. Where
nothing is certified, the counts that came closest are returned.

What each stage contributes is measured by benchmarks/label_ablation.py. Searching images one by one, with equations of
their own, changed no result in any of its cells and is no stage any more.

LT-code peeling (Shariati and Meybodi 2026) certifies recoveries from MLPs without ground truth.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import torch
from torch import Tensor

from deepleak_core.errors import NotSeparated
from deepleak_core.features.factors import Factors, random_starts
from deepleak_core.features.ica import independent_images
from deepleak_core.features.joint import (
    LABEL_MARGIN,
    NEAR_SOLUTION,
    OPEN,
    implied_labels,
    solve_large,
    solve_together,
)
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.least_squares import never
from deepleak_core.features.separate import SeparatedFeatures, separate_features
from deepleak_core.features.simplex import largest_simplices
from deepleak_core.labels.consistency import hint
from deepleak_core.labels.evidence import round_counts

# Time, in seconds and in shares of the limit.
SECONDS, SECONDS_LARGE = 20.0, 60.0  # limit for batches of at most, and more than, MOST_IMAGES_JOINT images
FIRST_SHARE = 0.1  # of the limit, for the counts that all estimates agree on
LAST_SHARE = 1.25  # of the limit, for checking what was found in time

# Sizes up to which a search is quick.
MOST_IMAGES_JOINT = 32  # images for `solve_together`
MOST_IMAGES_HOPPING = 16  # images for hopping: a round of more would take a minute
MOST_SLOPES = 20_000_000  # numbers in the derivatives of all predictions, for `solve_large`

# Squared residuals of the joint equations, in which a label that is wrong by one counts 1; measured.
SOLVED = 1e-11  # a search ends
PROMISING = 1e-6  # the implied labels are worth a separation
EXPLAINED = 5e-5  # the labels are likely, though rounding prevents a certificate
CLOSE = 1e-2  # a separation of a large batch is worth its time
MOSTLY_EXPLAINED = 0.05  # of each image, on average: the labels are better than an estimate
UNSOLVED = 1.0  # of labels that were never solved for

# The search.
LIKELY_MISFIT = (
    1e3  # of a separation, up to which counts are returned without a certificate; wrong ones mostly exceed it
)
MOVED_INWARDS = (0.0, 0.15, 0.3, 0.45)  # shares of the way from a vertex to the centre at which images may lie
MARGINS = (LABEL_MARGIN, 2 * LABEL_MARGIN)  # of implied labels, tried in turn for independent components
CERTAIN_OUTSIDE = 1e-3  # share of a signal's length outside the gradient's span, up to which a vertex is an image
CHECKED = 3  # solutions that are separated after a stage
ITERATIONS, REFINEMENT = 60, 300  # Levenberg-Marquardt steps of a search, and of a solution before its separation
HOPS, HOP_STARTS, HOP_ITERATIONS = 100, 48, 40  # rounds of hopping, starts in each, and steps from each
BEST_KEPT = 8  # solutions with different labels from which hops start
MOST_REDRAWN = 3  # images drawn anew in a hop
MOST_DOUBTS = 6  # rounds of hopping after counts that fit but cannot be certified, since an image is lost in noise
REPEATS_FROM = 4  # images per visible class from which every other round assumes that no other class is present

# Classes whose gradient is negative somewhere are present.
VISIBLE_SHARE = 1e-6  # of the largest entry, by which it must be negative
VISIBLE_NOISE = 10.0  # likewise, in units of rounding noise


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Label counts (C,), and the features that certify them, or None.

    Counts that are `explained` have features that nearly explain the gradient, but an image is lost in rounding. `hint`
    says what seems wrong with a gradient that is not plain, or of another batch size (`consistency`).
    """

    counts: Tensor
    separated: SeparatedFeatures | None
    explained: bool = False
    hint: str | None = None

    @property
    def certified(self) -> bool:
        """Whether no other counts explain the gradient."""
        return self.separated is not None


def time_limit(images: int) -> float:
    """Seconds after which a search for a certificate ends.

    >>> time_limit(32), time_limit(33)
    (20.0, 60.0)
    """
    return SECONDS if images <= MOST_IMAGES_JOINT else SECONDS_LARGE


def certify_counts(
    layer: LastLayer | Factors,
    images: int,
    estimates: Sequence[Tensor],
    *,
    thorough: bool = True,
    seconds: float | None = None,
    seed: int = 0,
    stop: Callable[[], bool] = never,
) -> Verdict:
    """The label counts of a batch of `images`, given real-valued `estimates` (C,) that may be wrong.

    The estimate of the zero-shot rule comes first. Where images are not found right away, the search continues only if
    `thorough`; where nothing comes close, the last estimate is returned. The search ends after `seconds`, at most
    `time_limit`, or once `stop` returns true, with the best counts so far. Raises `CannotSeparate` where the layer has
    too few classes or features for so many images.
    """
    limit = min(time_limit(images), float("inf") if seconds is None else seconds)
    began = time.monotonic()
    factors = layer if isinstance(layer, Factors) else Factors.of(layer, images)
    return _Search(factors, estimates, began=began, limit=limit, seed=seed, stop=stop).verdict(thorough)


class _Search:
    """The search for one batch: its stages, and everything found so far."""

    def __init__(
        self,
        factors: Factors,
        estimates: Sequence[Tensor],
        *,
        began: float,
        limit: float,
        seed: int,
        stop: Callable[[], bool],
    ):
        def until(share: float) -> Callable[[], bool]:
            return lambda: stop() or time.monotonic() >= began + share * limit

        self.stop, self.stop_first, self.stop_last = until(1.0), until(FIRST_SHARE), until(LAST_SHARE)
        self.factors, self.images, self.classes = factors, factors.images, len(factors.offset)
        self.estimates, self.seed = estimates, seed
        self.plausible = _plausible_classes(estimates, factors.images)
        self.bounds = factors.bounds
        self.visible = visible_classes(factors.layer, factors.images, factors.noise)
        self.generator = torch.Generator().manual_seed(seed)
        self.solutions: dict[tuple[int, ...], tuple[float, Tensor]] = {}  # by labels: squared residual, m (K, K)
        self.checked: dict[tuple[int, ...], float] = {}  # by labels: that residual, when they were last separated
        self.misfits: dict[tuple[int, ...], float] = {}  # by labels: misfit of a separation without a certificate
        self.unclear = False  # whether some of them fit, but with an image lost in noise

    def verdict(self, thorough: bool) -> Verdict:
        """The stages in turn, until one certifies counts."""
        agreed, *others = (round_counts(estimate, self.images) for estimate in self.estimates[:2])
        agree = all(torch.equal(agreed, other) for other in others)
        if agree and (found := self.certify(agreed, None, 1, stop=self.stop_first)):
            return found
        for stage in (self.by_independent_components, self.by_largest_simplex):
            if not self.stop() and (found := stage()):
                return found
        sentence = hint(self.factors.layer, self.images, self.estimates[0], seed=self.seed, stop=self.stop)
        if thorough and sentence is None and not self.stop() and (found := self.by_hopping()):
            return found
        return replace(self.closest(), hint=sentence)

    # ------------------------------------------------------------------------------------------------ stages

    def by_independent_components(self) -> Verdict | None:
        """Independent components of smooth features, moved jointly to where labels are one-hot."""
        if self.images**2 * self.classes > MOST_SLOPES:
            return None
        components = independent_images(self.factors, seed=self.seed, stop=self.stop)
        if components is None:
            return None
        cost, m = torch.inf, components
        for margin in MARGINS:
            end, residual = solve_large(self.factors, components, margin=margin, stop=self.stop)
            self.remember(end[None], torch.tensor([residual]))
            if residual < cost:
                cost, m = residual, end
            if cost < NEAR_SOLUTION or self.stop():
                break
        if cost < CLOSE:
            if found := self.certify_points(m):
                return found
            certain, labels = self.certain_images(m)
            if certain.any() and (found := self.complete(m[certain], labels[certain])):
                return found
        if self.unclear or self.stop():
            return None
        self.solve(m[None], ITERATIONS)
        return self.certify_promising()

    def by_largest_simplex(self) -> Verdict | None:
        """Vertices of the largest simplex within the activation bounds, and the labels that they imply."""
        for vertices, bounds in largest_simplices(self.factors, seed=self.seed, stop=self.stop):
            self.bounds = bounds if self.bounds is None else self.bounds
            certain, labels = self.certain_images(vertices)
            partly = bool(certain.any() and not certain.all())  # of a large batch, the others are sooner found alone
            if not (partly and self.images > MOST_IMAGES_JOINT) and (found := self.certify_points(vertices)):
                return found
            if certain.any() and (found := self.complete(vertices[certain], labels[certain])):
                return found
            centre = vertices.mean(0)
            self.solve(torch.stack([vertices + share * (centre - vertices) for share in MOVED_INWARDS]), ITERATIONS)
            if found := self.certify_promising():
                return found
            if self.unclear:
                return None
        return None

    def by_hopping(self) -> Verdict | None:
        """Solve from beside the best solutions, again and again.

        Where few classes are visible, labels repeat, and open labels tend to settle on classes that are not present.
        """
        if self.images > MOST_IMAGES_HOPPING:
            return self.certify(round_counts(self.estimates[-1], self.images), None, 2)
        doubts, repeating = 0, 0 < REPEATS_FROM * int(self.visible.sum()) <= self.images
        for hop in range(HOPS):
            if self.stop() or doubts > MOST_DOUBTS:
                return None
            among = self.visible > 0 if repeating and hop % 2 == 0 else None
            self.solve(self.hops() if self.solutions else self.random_starts(), HOP_ITERATIONS, among)
            if found := self.certify_promising():
                return found
            doubts += bool(self.unclear)
        return None

    def closest(self) -> Verdict:
        """A late certificate, or the counts that explain the gradient best; the last estimate where none come close."""
        for labels in self.possible(BEST_KEPT if self.images <= MOST_IMAGES_HOPPING else 0):
            if found := self.certify_points(self.solutions[labels][1]):
                return found
        likely = [labels for labels, misfit in self.misfits.items() if misfit < LIKELY_MISFIT]
        if likely:
            labels = min(likely, key=lambda labels: self.misfits[labels] * self.residual(labels))
        elif (first := self.possible(1)) and self.residual(first[0]) < MOSTLY_EXPLAINED * self.images:
            labels = first[0]
        else:
            return Verdict(counts=round_counts(self.estimates[-1], self.images), separated=None)
        explained = bool(likely) or self.residual(labels) < EXPLAINED
        return Verdict(counts=self.counts(labels), separated=None, explained=explained)

    # ------------------------------------------------------------------------------------------- certificates

    def certify(
        self, counts: Tensor, start: Tensor | None, tries: int, *, stop: Callable[[], bool] | None = None
    ) -> Verdict | None:
        """The verdict that these counts are right, if features near `start` (K, D) or found in `tries` say so."""
        stop = stop or (self.stop if tries else self.stop_last)
        try:
            separated = separate_features(self.factors, counts, start=start, seed=self.seed, tries=tries, stop=stop)
            if separated.clear:
                return Verdict(counts=counts, separated=separated)
            misfit, self.unclear = separated.misfit, True
            self.solve(self.factors.coordinates(separated.features.double())[None], ITERATIONS)
        except NotSeparated as refusal:
            misfit = refusal.misfit
        labels = tuple(torch.repeat_interleave(torch.arange(self.classes), counts.cpu()).tolist())
        self.misfits[labels] = min(misfit, self.misfits.get(labels, misfit))
        return None

    def certify_features(self, features: Tensor, labels: Tensor, tries: int) -> Verdict | None:
        """The verdict that images have about these features (K, D) and these labels (K,)."""
        counts = torch.bincount(labels, minlength=self.classes)
        return self.certify(counts, features[labels.argsort(stable=True)], tries)

    def certify_points(self, m: Tensor) -> Verdict | None:
        """The verdict that images are near coordinates m (K, K), under the labels that these imply."""
        return self.certify_features(self.factors.features(m), implied_labels(self.factors, m[None])[0].argmax(1), 0)

    def certify_promising(self) -> Verdict | None:
        """A certificate from one of the best solutions that are new, or far better than when last checked."""
        if self.images > MOST_IMAGES_JOINT:
            return None
        promising = [
            labels
            for labels in self.possible(CHECKED)
            if self.solutions[labels][0] < min(PROMISING, self.checked.get(labels, 1.0) / 10)
        ]
        if not promising:
            return None
        starts = torch.stack([self.solutions[labels][1] for labels in promising])
        implied = implied_labels(self.factors, starts).argmax(-1)
        ends, costs = solve_together(
            self.factors, starts, implied, bounds=self.bounds, iterations=REFINEMENT, stop=self.stop_last
        )
        for labels, cost, end in zip(promising, costs.tolist(), ends, strict=True):
            self.solutions[labels] = cost, end
            self.checked[labels] = cost
            if found := self.certify_points(end):
                return found
        return None

    def certain_images(self, m: Tensor) -> tuple[Tensor, Tensor]:
        """Which of the points m (n, K) are images whatever the others are, (n,), and their labels (n,) if so.

        The signal p - e_y of an image lies in the span of the signals, U, under the right label only.
        """
        left, p = self.factors.left, self.factors.probabilities(m)
        outside = p - p @ left @ left.T
        labels = (1 - left.square().sum(1) - 2 * outside).argmin(1)
        _, signals = self.factors.signals(m, labels)
        distance = signals - signals @ left @ left.T
        return distance.norm(dim=1) < CERTAIN_OUTSIDE * signals.norm(dim=1), labels

    def complete(self, known: Tensor, labels: Tensor) -> Verdict | None:
        """A certificate from images at m (n, K), n < K, with `labels`, and those found in the gradient without them."""
        if len(known) == self.images:
            return None
        others = self.factors.without(known, labels)
        for vertices, _ in largest_simplices(others, seed=self.seed, stop=self.stop):
            features = torch.cat([self.factors.features(known), others.features(vertices)])
            implied = implied_labels(others, vertices[None])[0].argmax(1)
            if found := self.certify_features(features, torch.cat([labels, implied]), 0):
                return found
        return None

    # ---------------------------------------------------------------------------------------------- solutions

    def solve(self, starts: Tensor, iterations: int, among: Tensor | None = None) -> None:
        """Solve jointly from coordinates (T, K, K) under open labels, or labels `among` (C,) classes.

        More than `MOST_IMAGES_JOINT` images would take minutes and are left as they are.
        """
        if self.images > MOST_IMAGES_JOINT:
            return
        labels = torch.full(starts.shape[:2], OPEN, device=starts.device)
        ends, costs = solve_together(
            self.factors,
            starts,
            labels,
            bounds=self.bounds,
            among=among,
            iterations=iterations,
            enough=SOLVED,
            stop=self.stop_last,
        )
        self.remember(ends, costs)

    def remember(self, ends: Tensor, costs: Tensor) -> None:
        """Keep the best coordinates of (T, K, K) with squared residuals (T,) for each set of labels."""
        implied = implied_labels(self.factors, ends).argmax(-1).sort(1).values.tolist()
        for labels, cost, end in zip(map(tuple, implied), costs.tolist(), ends, strict=True):
            if cost < self.residual(labels):
                self.solutions[labels] = cost, end

    def residual(self, labels: tuple[int, ...]) -> float:
        """Squared residual of the best solution with these labels."""
        return self.solutions[labels][0] if labels in self.solutions else UNSOLVED

    def possible(self, most: int) -> list[tuple[int, ...]]:
        """The best labels that contain every visible class; others may be near the truth, but are not the truth."""
        best = sorted(self.solutions, key=self.residual)
        return list(islice((labels for labels in best if bool((self.counts(labels) >= self.visible).all())), most))

    def counts(self, labels: tuple[int, ...]) -> Tensor:
        """Label counts (C,)."""
        return torch.bincount(torch.tensor(labels), minlength=self.classes).to(self.factors.left.device)

    # ------------------------------------------------------------------------------------------------ starts

    def random_starts(self) -> Tensor:
        """Coordinates (HOP_STARTS, K, K) of images of any plausible class."""
        places = torch.randint(len(self.plausible), (HOP_STARTS, self.images), generator=self.generator)
        labels = torch.tensor(self.plausible)[places].to(self.factors.left.device)
        return random_starts(self.factors, labels, self.generator)

    def hops(self) -> Tensor:
        """Coordinates (HOP_STARTS, K, K) beside the best solutions, in three ways by turns.

        Some images are drawn anew; or are taken from another solution, those furthest from all that stay; or every
        image is moved, by about as much as images differ.
        """
        best = sorted(self.solutions, key=self.residual)[:BEST_KEPT]
        kept = torch.stack([self.solutions[labels][1] for labels in best])
        parents, others = kept[torch.randint(len(kept), (2, HOP_STARTS), generator=self.generator)]
        places = torch.rand(HOP_STARTS, self.images, generator=self.generator).argsort(1)
        most = torch.randint(1, MOST_REDRAWN + 1, (HOP_STARTS, 1), generator=self.generator)
        redrawn = (places < most).to(kept.device)
        distances = torch.cdist(others, parents).masked_fill(redrawn[:, None], torch.inf).amin(2)
        furthest = distances.argsort(1, descending=True).gather(1, (redrawn.cumsum(1) - 1).clamp_min(0))
        taken_over = others.gather(1, furthest[..., None].expand_as(others))
        directions = torch.randn(HOP_STARTS, self.images, self.images, generator=self.generator, dtype=torch.float64)
        sizes = torch.rand(HOP_STARTS, 1, 1, generator=self.generator, dtype=torch.float64) / self.images**0.5
        moved = parents + (sizes * directions).to(kept) @ (parents - parents.mean(1, keepdim=True))
        drawn_anew = torch.where(redrawn[..., None], self.random_starts(), parents)
        mixed = torch.where(redrawn[..., None], taken_over, parents)
        ways = torch.stack([drawn_anew, mixed, moved])
        return ways[torch.arange(HOP_STARTS) % len(ways), torch.arange(HOP_STARTS)]


def visible_classes(layer: LastLayer, images: int, noise: float = 0.0) -> Tensor:
    """(C,): 1 for each class that is certainly in the batch, because its row of the gradient is negative somewhere.

    Row c of the gradient is sum_k a_kc f_k. Only signals of the class itself are negative, and heights of features
    above their floor are not. Zero without a floor, or without a bias where the floor is not zero. `noise` is the
    rounding error of an entry of the summed gradient (`Factors`).
    """
    if layer.floor is None or (layer.floor and layer.bias_gradient is None):
        return torch.zeros(len(layer.weight), dtype=torch.long, device=layer.weight.device)
    low, high = layer.weight_gradient.amin(1).double(), layer.weight_gradient.amax(1).double()
    if layer.bias_gradient is not None:
        shift = layer.floor * layer.bias_gradient.double()
        low, high = low - shift, high - shift
    largest = float(torch.maximum(-low, high).max())
    visible = low < -max(VISIBLE_SHARE * largest, VISIBLE_NOISE * noise / images)
    return visible.long() if int(visible.sum()) <= images else torch.zeros_like(visible).long()


def _plausible_classes(estimates: Sequence[Tensor], images: int) -> list[int]:
    """Classes that may be in the batch: those with the largest estimates, many more than there can be."""
    most = torch.stack(list(estimates)).amax(0)
    wanted = max(10, images + 4)
    return most.argsort(descending=True)[:wanted].sort().values.tolist()
