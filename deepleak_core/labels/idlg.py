"""iDLG's sign rule: a class whose gradient is negative is present (Zhao et al. 2020, arXiv 2001.02610)."""

from __future__ import annotations

import torch

from deepleak_core.labels.evidence import InferredLabels, Knowledge


def idlg(knowledge: Knowledge) -> InferredLabels:
    """Classes with a negative bias gradient, or row sum without a bias, in the order of their size.

    The rule is made for one image. For more, images left over are counted to the class with the strongest evidence.
    """
    evidence = knowledge.bias if knowledge.bias is not None else knowledge.row_sums
    ranked = evidence.argsort()[: knowledge.batch_size]
    present = ranked[evidence[ranked] < 0]
    counts = torch.zeros(len(evidence), dtype=torch.long, device=evidence.device)
    counts[present] = 1
    counts[ranked[0]] += knowledge.batch_size - len(present)
    return InferredLabels(evidence=evidence, real_counts=counts.double(), counts=counts)
