"""How close the attack came: the only part of a run that looks at the private batch while the attack works.

What the judge sees is shown to people and written into figures; nothing of it reaches the attack.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from deepleak_core.attack.solvers import Iterate
from deepleak_core.data.batches import GroundTruth
from deepleak_core.events import Finished, LabelsInferred, LabelsRevised, Snapshot
from deepleak_core.federated.models import TargetModel
from deepleak_core.labels import wrong_labels as mislabelling
from deepleak_core.scenario import Scenario
from deepleak_core.scoring import metrics

TRACE = 5.0  # dB above noise from which something of an image can be seen


class Judge:
    """Holds the private batch and measures how close the attack came. For display and figures alone."""

    def __init__(self, batch: GroundTruth, scenario: Scenario):
        self.batch = batch
        self.seed = scenario.seed_for("noise baseline")
        self.mode = scenario.mode
        self.last: Snapshot | None = None
        self.revision: LabelsRevised | None = None
        self._means = metrics.class_means(batch.images, batch.labels)
        self._repeats = len(set(batch.labels.tolist())) < len(batch.labels)
        self._rebuilt = torch.zeros_like(batch.images)
        self.time_to: dict[str, float | None] = {"psnr20": None, "psnr30": None, "pixel_exact": None}

    def snapshot(
        self, model: TargetModel, iterate: Iterate, believed: Sequence[int], seconds: float, progress: float
    ) -> Snapshot:
        """The best restart's images, matched to the private ones, with their quality."""
        best = int(iterate.residuals.argmin())
        rebuilt = model.denormalise(iterate.inputs[best]).clamp(0, 1).float().cpu().nan_to_num()
        places = metrics.match(rebuilt, self.batch.images)
        self._rebuilt = rebuilt[places]
        psnr = metrics.psnr(self._rebuilt, self.batch.images)
        exact = metrics.max_error_8bit(self._rebuilt, self.batch.images).eq(0).all()
        for name, reached in (
            ("psnr20", psnr.min() >= 20),
            ("psnr30", psnr.min() >= 30),
            ("pixel_exact", exact),
        ):
            if reached and self.time_to[name] is None:
                self.time_to[name] = seconds
        to_mean = metrics.psnr(self._rebuilt, self._means)
        self.last = Snapshot(
            step=iterate.step,
            seconds=seconds,
            loss=iterate.loss,
            residual=float(iterate.residuals[best]),
            labels=tuple(believed[place] for place in places),
            psnr=tuple(psnr.tolist()),
            mean_psnr=float(psnr.mean()),
            progress=progress,
            images=pixels(self._rebuilt),
            psnr_to_mean=tuple(to_mean.tolist()) if self._repeats else (),
            fusion=metrics.fusion_index(psnr, to_mean, self.batch.labels),
        )
        return self.last

    def revised(self, inferred: LabelsInferred, revision: LabelsRevised) -> LabelsInferred:
        """The labels as the attack has changed them itself, and whether they are right now."""
        self.revision = revision
        exact = sorted(revision.order) == sorted(self.batch.labels.tolist())
        return replace(inferred, order=revision.order, falsified=(), exact=exact)

    def finish(self, reason: str, sentence: str, seconds: float, inferred: LabelsInferred) -> Finished:
        """The final figures and, where no trouble has the word, a sentence about what leaked."""
        assert self.last is not None
        errors = metrics.max_error_8bit(self._rebuilt, self.batch.images)
        noise = metrics.noise_psnr(self.batch.images, self.seed)
        if not sentence:
            exact, names = errors.eq(0).tolist(), self.batch.class_names
            sentence = what_leaked(self.last.psnr, exact, noise, self.mode, inferred, names)
            if self.revision:
                sentence += f" The attack changed its labels, {'rightly' if inferred.exact else 'wrongly'}."
        return Finished(
            reason=reason,
            sentence=sentence,
            step=self.last.step,
            seconds=seconds,
            residual=self.last.residual,
            psnr=self.last.psnr,
            ssim=tuple(metrics.ssim(self._rebuilt, self.batch.images).tolist()),
            max_error_8bit=tuple(errors.tolist()),
            pixel_exact=tuple(errors.eq(0).tolist()),
            noise_psnr=noise,
            time_to=self.time_to,
            psnr_to_mean=self.last.psnr_to_mean,
            fusion=self.last.fusion,
        )


def what_leaked(
    psnr: Sequence[float],
    pixel_exact: Sequence[bool],
    noise_psnr: float,
    mode: str,
    inferred: LabelsInferred,
    class_names: Sequence[str],
) -> str:
    """The outcome in plain words, from the figures of this run."""
    total, mean = len(psnr), sum(psnr) / len(psnr)
    traces = sum(p > noise_psnr + TRACE for p in psnr)
    source = "gradient" if mode == "fedsgd" else "weights"
    clear = sum(p >= 20 for p in psnr)
    count = {0: "None", total: "All"}.get(clear, str(clear))
    if all(pixel_exact):
        images = (
            f"Every pixel of all {total} private images was recovered"
            if total > 1
            else ("Every pixel of the private image was recovered")
        )
        return f"{images} from the shared {source} alone: an exact copy."
    if total == 1:
        subject = "The private image was" if clear else "The private image was not"
    else:
        subject = f"{count} of the {total} private images were"
    if clear:
        quality = "like a photograph" if mean >= 30 else "clearly recognisable"
        verdict = f"{subject} rebuilt from the shared {source} alone, {quality} ({mean:.0f} dB on average)."
    elif traces:
        which = "" if traces == total else f" of {traces}"
        verdict = (
            f"{subject} rebuilt clearly: only a blurred trace{which} came back ({mean:.0f} dB on average, "
            f"pure noise has {noise_psnr:.0f} dB)."
        )
    else:
        verdict = (
            f"{subject} rebuilt: what came back is hardly better than noise ({mean:.0f} dB on average, "
            f"pure noise has {noise_psnr:.0f} dB)."
        )
    if inferred.falsified:
        wrong = len(inferred.falsified)
        told = mislabelling.instead_of(inferred.found, inferred.order, class_names)
        verdict += f" {wrong} of the {total} labels the attack used {'was' if wrong == 1 else 'were'} wrong: {told}."
    elif not inferred.exact:
        verdict += " Not every label was inferred correctly."
    elif clear < total and len(set(inferred.order)) < total:
        verdict += " Images that share a label fused into one another."
    return verdict


def pixels(images: Tensor) -> np.ndarray:
    """(B, 3, H, W) in [0, 1] to (B, H, W, 3) uint8 on the host."""
    return metrics.to_8bit(images).permute(0, 2, 3, 1).cpu().numpy()
