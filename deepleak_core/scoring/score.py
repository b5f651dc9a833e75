"""Attach scores to the events of an attack, from the ground truth. This is the only part of a run that sees it.

>>> from deepleak_core.attack.run import reconstruct
>>> from deepleak_core.federated.case import observe
>>> from deepleak_core.scenario import Scenario
>>> case, truth = observe(Scenario(indices=(0, 4)))
>>> *_, finished = scored(reconstruct(case, max_iterations=3), truth, mode="fedsgd")
>>> finished.score.pixel_exact
(False, False)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import torch
from torch import Tensor

from deepleak_core.data.batches import GroundTruth
from deepleak_core.events import (
    ASSUMPTION,
    TROUBLE,
    Event,
    FinalScore,
    Finished,
    LabelScore,
    LabelsInferred,
    LabelsRevised,
    Score,
    Snapshot,
    Stage,
)
from deepleak_core.scoring import metrics
from deepleak_core.scoring.sentences import is_blend, outcome, what_leaked

ORDER_ASSUMED = " The attack had to assume which labels belong to which mini-batch."
MILESTONES_DB = {"psnr20": 20.0, "psnr30": 30.0}  # PSNR in dB of every image whose time is recorded


def scored(events: Iterator[Event], truth: GroundTruth, *, mode: str, seed: int = 0) -> Iterator[Event]:
    """The same events with scores. `seed` draws the noise that scores are compared with."""
    scorer = _Scorer(truth, mode, seed)
    for event in events:
        if isinstance(event, LabelsInferred):
            yield scorer.inferred(event)
        elif isinstance(event, LabelsRevised):
            yield scorer.revised(event)
        elif isinstance(event, Snapshot):
            yield scorer.snapshot(event)
        elif isinstance(event, Finished):
            yield scorer.finished(event)
        else:
            scorer.assumed |= isinstance(event, Stage) and event.name == ASSUMPTION
            yield event


class _Scorer:
    """The ground truth, and what of a run's events its final score depends on."""

    def __init__(self, truth: GroundTruth, mode: str, seed: int):
        self._truth, self._mode = truth, mode
        self._images = truth.images.float().cpu()
        self._means = metrics.class_means(self._images, truth.labels)
        self._repeats = len(set(truth.labels.tolist())) < len(truth.labels)
        self._noise = metrics.noise_psnr(self._images, seed)
        self._time_to: dict[str, float | None] = dict.fromkeys((*MILESTONES_DB, "pixel_exact"))
        self.assumed = False
        self._inferred: LabelsInferred | None = None
        self._revised: LabelsRevised | None = None
        self._last: tuple[Tensor, Tensor, Score] | None = None

    def inferred(self, event: LabelsInferred) -> LabelsInferred:
        self._inferred = replace(event, score=self._labels(event.found))
        return self._inferred

    def revised(self, event: LabelsRevised) -> LabelsRevised:
        self._revised = replace(event, score=self._labels(event.order))
        return self._revised

    def _labels(self, labels: tuple[int, ...]) -> LabelScore:
        true = self._truth.labels
        counts = torch.bincount(true, minlength=len(self._truth.class_names))
        return LabelScore(true_counts=tuple(counts.tolist()), exact=sorted(labels) == sorted(true.tolist()))

    def snapshot(self, event: Snapshot) -> Snapshot:
        images = torch.from_numpy(event.images)
        places = metrics.match(images, self._images)
        images = images[places]
        psnr, to_mean = metrics.psnr(images, self._images), metrics.psnr(images, self._means)
        nearest = metrics.nearest_psnr(images, self._images) if self._repeats else psnr
        score = Score(
            places=tuple(places.tolist()),
            psnr=tuple(psnr.tolist()),
            psnr_to_mean=tuple(to_mean.tolist()) if self._repeats else (),
            fusion=metrics.fusion_index(nearest, to_mean, self._truth.labels),
        )
        exact = bool(metrics.max_error_8bit(images, self._images).eq(0).all())
        reached = {name: min(score.psnr) >= least for name, least in MILESTONES_DB.items()} | {"pixel_exact": exact}
        for name in (name for name, there in reached.items() if there and self._time_to[name] is None):
            self._time_to[name] = event.seconds
        self._last = images, nearest, score
        return replace(event, score=score)

    def finished(self, event: Finished) -> Finished:
        if self._last is None or self._inferred is None:
            return event
        images, nearest, score = self._last
        errors = metrics.max_error_8bit(images, self._images)
        ssim, flat = metrics.ssim(images, self._images), metrics.flat_psnr(self._images)
        fused = self._fused(images, nearest, score) if self._repeats else (False,) * len(images)
        final = FinalScore(
            **{field.name: getattr(score, field.name) for field in fields(score)},
            ssim=tuple(ssim.tolist()),
            max_error_8bit=tuple(errors.tolist()),
            pixel_exact=tuple(errors.eq(0).tolist()),
            noise_psnr=self._noise,
            grey_psnr=metrics.grey_psnr(self._images),
            outcomes=tuple(map(outcome, score.psnr, ssim.tolist(), flat.tolist(), errors.eq(0).tolist(), fused)),
            nearest_psnr=tuple(nearest.tolist()) if self._repeats else (),
            fused=fused if self._repeats else (),
            time_to=self._time_to,
        )
        if event.reason in TROUBLE:
            return replace(event, score=final)
        labels, names = self._truth.labels.tolist(), self._truth.class_names
        sentence = what_leaked(event, final, self._inferred, self._revised, self._mode, labels, names)
        if self.assumed and "recovered" not in final.outcomes:
            sentence += ORDER_ASSUMED
        return replace(event, score=final, sentence=sentence)

    def _fused(self, images: Tensor, nearest: Tensor, score: Score) -> tuple[bool, ...]:
        ssim, flat = metrics.ssim(images, self._means), metrics.flat_psnr(self._means)
        return tuple(map(is_blend, score.psnr_to_mean, ssim.tolist(), flat.tolist(), nearest.tolist()))
