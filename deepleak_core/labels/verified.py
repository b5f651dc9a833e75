"""Label counts that are certified by the features that explain the gradient, or else the best estimate."""

from __future__ import annotations

from dataclasses import replace

import torch

from deepleak_core.errors import CannotSeparate
from deepleak_core.features.factors import factors_of
from deepleak_core.labels.certification import Verdict, certify_counts
from deepleak_core.labels.consistency import hint
from deepleak_core.labels.estimates import estimate, exclusive_counts, predicts_the_same
from deepleak_core.labels.evidence import InferredLabels, Knowledge
from deepleak_core.labels.ilrg import ilrg
from deepleak_core.labels.zero_shot import zero_shot


def verified(knowledge: Knowledge) -> InferredLabels:
    """This project's strategy: certify counts (`certification`), or return the best estimate (`estimates`).

    Nothing can be certified for as many images as classes or more, or after several local steps.
    """
    same, images = predicts_the_same(knowledge), knowledge.batch_size
    none = torch.zeros(knowledge.classes, dtype=torch.long, device=knowledge.weight.device)
    exclusive = none if same else exclusive_counts(knowledge)
    others = [rule(knowledge).real_counts for rule in (zero_shot, ilrg)]
    estimated = estimate(knowledge, others, exclusive, same_predictions=same)
    if knowledge.update.local_steps > 1:
        return estimated
    unsure = not same and int(exclusive.sum()) < images
    try:
        verdict = certify_counts(
            factors_of(knowledge.case),
            images,
            [*others, estimated.real_counts],
            thorough=unsure,
            seconds=knowledge.seconds,
            seed=knowledge.seed,
            stop=knowledge.stop,
        )
    except CannotSeparate:
        sentence = hint(knowledge.last_layer, images, others[0], seed=knowledge.seed, stop=knowledge.stop)
        return _with_hint(estimated, sentence)
    if verdict.certified:
        return replace(
            estimated,
            real_counts=verdict.counts.double(),
            counts=verdict.counts,
            certified=True,
            confidence=torch.ones_like(estimated.real_counts),
            note="Certified: features for these labels explain the gradient, for no others.",
        )
    if not same and (verdict.explained or unsure):
        estimated = _with_counts_of(estimated, verdict)
    return _with_hint(estimated, verdict.hint)


def _with_counts_of(estimated: InferredLabels, verdict: Verdict) -> InferredLabels:
    """The counts that came closest to being certified; confidence falls where the estimate was another."""
    confidence = estimated.confidence
    assert confidence is not None, "every estimate has a confidence"
    agreed = verdict.counts == estimated.counts
    return replace(
        estimated,
        counts=verdict.counts,
        confidence=torch.where(agreed, confidence, torch.minimum(confidence, 1 - confidence)),
        note="Estimated: nothing could be certified.",
    )


def _with_hint(found: InferredLabels, sentence: str | None) -> InferredLabels:
    """What seems wrong with a gradient whose counts could not be certified, added to the note."""
    return found if sentence is None else replace(found, note=f"{found.note} {sentence}")
