"""Instance-wise label restoration (iLRG): a linear system over class-wise embeddings (Ma et al. 2023, ICLR)."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import Tensor

from deepleak_core.errors import CannotSeparate
from deepleak_core.features.factors import factors_of
from deepleak_core.features.last_layer import rows_times
from deepleak_core.federated.client import weights_of
from deepleak_core.labels.evidence import InferredLabels, Knowledge
from deepleak_core.labels.mini_batches import round_weighted_counts

LEAST_BIAS_GRADIENT = 1e-12  # divisor of an embedding; smaller ones are taken for as large


def ilrg(knowledge: Knowledge) -> InferredLabels:
    """Counts that solve (P^T - I) counts = K grad_b, where row i of P predicts an image of class i.

    The gradient's row of a class over its bias gradient approximates the mean features of that class; the last layer
    turns them into the prediction P_i. Then K mean(p) = P^T counts.
    """
    gradient, predictions = knowledge.bias_gradient, class_predictions(knowledge)
    classes, ones = len(gradient), torch.ones(1, len(gradient)).to(gradient)
    system = torch.cat([predictions.T - torch.eye(classes).to(gradient), ones])
    known = knowledge.batch_size * torch.cat([gradient, ones[0, :1]])
    real = torch.linalg.lstsq(system.cpu(), known[:, None].cpu(), driver="gelsd").solution[:, 0].to(gradient)
    counts = round_weighted_counts(real, knowledge.batch_size, knowledge.update.local)
    return InferredLabels(evidence=gradient, real_counts=real, counts=counts)


def class_predictions(knowledge: Knowledge) -> Tensor:
    """What the last layer predicts (C, C) for each class's embedding.

    For FedAvg with weights half-way between those before and after local training.
    """
    gradient = knowledge.bias_gradient
    before, after = weights_of(knowledge.model), knowledge.update.tensors
    weights = before if knowledge.update.local is None else {n: (before[n] + after[n]) / 2 for n in before}
    size = gradient.abs().clamp_min(LEAST_BIAS_GRADIENT)
    scale = 1 / torch.where(gradient < 0, -size, size)[:, None]
    logits = _gradient_times(knowledge, weights["head.weight"]) * scale
    if "head.bias" in weights:
        logits = logits + weights["head.bias"].double()
    return logits.softmax(1)


def _gradient_times(knowledge: Knowledge, weight: Tensor) -> Tensor:
    """The gradient of the last layer's weight times the transposed weight, (C, C) in float64.

    The gradient of one step is a product of thin factors, which saves nearly all of the work for many classes.
    """
    if knowledge.update.local_steps <= 1:
        with suppress(CannotSeparate):
            factors = factors_of(knowledge.case)
            thin = factors.left * (factors.singular_values / factors.images)
            return thin @ rows_times(weight, factors.basis).T
    return knowledge.weight.double() @ weight.double().T
