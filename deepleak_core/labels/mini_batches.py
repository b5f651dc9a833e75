"""Label counts where local steps of FedAvg see mini-batches of different sizes.

With mini-batches of b images and a last one of s < b, each epoch takes T = ceil(K / b) steps, and steps have equal
weight in the weight change, not images. In the estimate K (mean(p) - grad_b), an image of a whole mini-batch therefore
counts K / (T b) and one of the short mini-batch K / (T s). Which images those are is unknown: the counts of both groups
are the integers that come closest to the estimate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepleak_core.federated.client import LocalTraining
from deepleak_core.labels.evidence import round_counts


def short_batch(images: int, local: LocalTraining | None) -> int:
    """Number of images in a last mini-batch that is shorter than the others, 0 where there is none.

    >>> short_batch(9, LocalTraining(epochs=1, batch_size=4, lr=0.1)), short_batch(8, None)
    (1, 0)
    """
    return 0 if local is None or local.batch_size >= images else images % local.batch_size


def round_weighted_counts(real_counts: Tensor, images: int, local: LocalTraining | None) -> Tensor:
    """Integers (C,) that sum to the number of images, from real-valued counts (C,) that weigh images as steps do.

    The images of the short mini-batch are chosen one by one, each such that the rest is closest to integers.

    >>> local = LocalTraining(epochs=1, batch_size=4, lr=0.1)  # 4, 4 and 1 images: the last one weighs 3, others 3/4
    >>> round_weighted_counts(torch.tensor([3.0, 4.5, 1.5]), 9, local).tolist()
    [1, 6, 2]
    """
    short = short_batch(images, local)
    if not short or local is None or not bool(real_counts.isfinite().all()):
        return round_counts(real_counts, images)
    steps = math.ceil(images / local.batch_size)
    whole_weight, short_weight = images / (steps * local.batch_size), images / (steps * short)
    rest = real_counts.double().clone()
    chosen = torch.zeros_like(rest, dtype=torch.long)
    for left in range(short - 1, -1, -1):
        missing = images - short + left * short_weight / whole_weight  # what remains, counted in whole images
        errors = []
        for label in range(len(rest)):
            trial = rest.clone()
            trial[label] -= short_weight
            errors.append(_distance(trial / whole_weight, round(missing)))
        label = int(torch.stack(errors).argmin())
        rest[label] -= short_weight
        chosen[label] += 1
    return chosen + round_counts(rest / whole_weight, images - short)


def _distance(real_counts: Tensor, images: int) -> Tensor:
    """Squared distance of real-valued counts from the nearest integer counts, which are not negative."""
    return (real_counts - round_counts(real_counts, images)).square().sum()
