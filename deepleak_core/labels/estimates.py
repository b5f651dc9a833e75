"""The best estimate of label counts where nothing can be certified, and how likely each count is.

While a network predicts much the same for every image, predictions on noise give mean(p). Once it is trained, mean(p)
follows from what validation says of its predictions for each class (`class_priors`), or else from its class-wise
embeddings (`balanced`). Images that have features of their own are counted exactly (`exclusive_features`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from deepleak_core.errors import CannotSeparate
from deepleak_core.labels.class_priors import posterior_counts
from deepleak_core.labels.evidence import InferredLabels, Knowledge
from deepleak_core.labels.exclusive_features import count_exclusive
from deepleak_core.labels.ilrg import class_predictions
from deepleak_core.labels.mini_batches import round_weighted_counts

SAME_PREDICTIONS = 0.1  # mean total variation distance of predictions up to which they count as the same
GRAINS, IMAGES_PER_GRAIN = (1, 2, 4, 8), 8  # edge lengths of the coarse noise images that measure it
LEAST_ERROR_SHARE = 0.3  # least share of errors in `balanced`: smaller ones would amplify the evidence too much
LEAST_DEVIATION = 0.05  # smallest standard deviation of a real-valued count, in images


def estimate(
    knowledge: Knowledge, others: Sequence[Tensor], exclusive: Tensor, *, same_predictions: bool
) -> InferredLabels:
    """The estimate, given counts (C,) of images with `exclusive` features.

    `others` are real-valued counts (C,) by other rules, those of the zero-shot rule first. `same_predictions` says that
    the network predicts the same for every image.
    """
    images, certain = knowledge.batch_size, int(exclusive.sum())
    if same_predictions:
        real, deviation = others[0], torch.stack([*others]).std(0)
        note = "Estimated: the network predicts the same for every image."
    else:
        real, deviation = trained_counts(knowledge, others, exclusive)
        known = knowledge.model.class_statistics is not None
        how = "for each class when validated" if known else "for the gradient's mean images"
        note = f"Estimated by what the network predicts {how}."
    if certain:
        rest = ", the rest estimated" if certain < images else ""
        note = f"{certain} of {images} images counted by features of their own{rest}."
    counts = exclusive + round_weighted_counts(real - exclusive, images - certain, knowledge.update.local)
    return InferredLabels(
        evidence=knowledge.bias_gradient,
        real_counts=real,
        counts=counts,
        confidence=probability_right(real, counts, deviation),
        note=note,
    )


def trained_counts(
    knowledge: Knowledge, others: Sequence[Tensor], exclusive: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Real-valued counts (C,) for a trained network, and their standard deviations (C,).

    From the network's class statistics where they are known, else from the `balanced` rule, with deviations as far as
    `others` (C,) differ from it. Never fewer than the `exclusive` counts (C,).
    """
    images, statistics = knowledge.batch_size, knowledge.model.class_statistics
    if statistics is not None:
        return posterior_counts(statistics, knowledge.bias_gradient, images, exclusive)
    estimates = torch.stack([*others, balanced(knowledge)])
    exclusive = torch.zeros_like(estimates[-1]) if exclusive is None else exclusive
    certain = float(exclusive.sum())
    rest = (estimates[-1] - exclusive).clamp_min(0)
    real = exclusive + rest * (images - certain) / rest.sum().clamp_min(1e-12)
    return real, estimates.clamp(-1, images + 1).std(0) * (1 - certain / images)


def balanced(knowledge: Knowledge) -> Tensor:
    """Real-valued counts (C,) of a trained network whose prediction errors are spread evenly over the classes.

    With mean(p) = (1 - e) counts / K + e / C, the bias gradient gives counts = K / C - K grad_b / e. The share e of
    errors is what the last layer predicts wrongly for each class's embedding, weighted by the class's evidence.
    """
    gradient, predictions = knowledge.bias_gradient, class_predictions(knowledge)
    classes = len(gradient)
    weights = (-gradient).clamp_min(0) / (-gradient).clamp_min(0).sum().clamp_min(1e-300)
    errors = float((weights * (1 - predictions.diagonal())).sum()) / (1 - 1 / classes)
    return knowledge.batch_size * (1 / classes - gradient / min(1.0, max(LEAST_ERROR_SHARE, errors)))


def exclusive_counts(knowledge: Knowledge) -> Tensor:
    """Counts (C,) of images with features of their own.

    Zero after local training, even of one step: what faint images change is lost in the rounding of the weights.
    """
    if knowledge.update.local is None:
        with suppress(CannotSeparate):
            return count_exclusive(knowledge.last_layer, knowledge.batch_size)
    return torch.zeros(knowledge.classes, dtype=torch.long, device=knowledge.weight.device)


def predicts_the_same(knowledge: Knowledge) -> bool:
    """Whether the network predicts much the same for all of a set of noise images, from flat colours to fine grain."""
    model, (channels, height, width) = knowledge.model, knowledge.case.image_shape
    generator = torch.Generator().manual_seed(knowledge.seed)
    shapes = [(cells, cells) for cells in GRAINS] + [(height, width)]
    noise = [torch.randn(IMAGES_PER_GRAIN, channels, *shape, generator=generator) for shape in shapes]
    images = torch.cat([interpolate(grain, (height, width), mode="bilinear") for grain in noise])
    with torch.no_grad():
        predictions = model(model.denormalise(images.to(model.mean))).double().softmax(1)
    return float((predictions - predictions.mean(0)).abs().sum(1).mean()) / 2 < SAME_PREDICTIONS


def probability_right(real_counts: Tensor, counts: Tensor, deviation: Tensor) -> Tensor:
    """Probability (C,) that a normal variable around the real-valued count rounds to the count."""
    width = deviation.clamp_min(LEAST_DEVIATION) * 2**0.5
    chance = torch.erf((counts + 0.5 - real_counts) / width) - torch.erf((counts - 0.5 - real_counts) / width)
    return (chance / 2).nan_to_num(0.0)  # no estimate, no confidence
