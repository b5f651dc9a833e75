"""Label Leakage from Gradients (LLG), white-box form with random data (Wainakh et al. 2021, arXiv 2105.09369)."""

from __future__ import annotations

import torch

from deepleak_core.labels.evidence import InferredLabels, Knowledge, round_counts

LEAST_IMPACT = 1e-12  # change of a row sum by one image; keeps a network without features from dividing by zero


def llg(knowledge: Knowledge) -> InferredLabels:
    """Labels one after the other, by the impact of one image on the row sums of the weight gradient.

    One image lowers the row sum of its class by an `impact`, and all others raise it by an offset; both are estimated
    from noise. Every class with a negative sum is present once; then, offsets subtracted, the class with the lowest sum
    is counted again until all images have a label.
    """
    probabilities, features = knowledge.noise_response
    classes, images = len(probabilities), knowledge.batch_size
    total = features.sum()
    impact = ((probabilities - 1) * total).mean() * (1 + 1 / classes) / images
    impact = -impact.abs().clamp_min(LEAST_IMPACT)
    evidence = knowledge.row_sums * (1 if total >= 0 else -1)
    present = evidence.argsort()[:images]
    present = present[evidence[present] < 0]
    counts = torch.zeros(classes, dtype=torch.long, device=evidence.device)
    counts[present] = 1
    remaining = evidence - impact * counts - (probabilities * total).abs()
    real = counts + remaining / impact
    real = real + (images - real.sum()) / classes
    added = round_counts((remaining / impact).double(), images - len(present))
    return InferredLabels(evidence=evidence, real_counts=real, counts=counts + added)
