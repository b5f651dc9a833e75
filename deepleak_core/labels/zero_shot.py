"""Zero-shot label restoration from predictions on noise, duplicates included (Geng et al. 2021, arXiv 2110.09074)."""

from __future__ import annotations

from deepleak_core.labels.evidence import InferredLabels, Knowledge
from deepleak_core.labels.mini_batches import round_weighted_counts


def zero_shot(knowledge: Knowledge) -> InferredLabels:
    """Counts K mean(p) - K grad_b, with mean(p) estimated by feeding noise to the network.

    Without a bias, the paper puts grad_W.sum(1) / O in the place of grad_b, where O is the noise's mean feature sum.
    Here it is grad_W o / |o|^2 with the noise's mean features o: the same where features are alike and positive, and
    still good where they take both signs and the sum cancels, as after ELU.
    """
    probabilities, _ = knowledge.noise_response
    gradient = knowledge.bias_gradient
    real = knowledge.batch_size * (probabilities - gradient)
    counts = round_weighted_counts(real, knowledge.batch_size, knowledge.update.local)
    return InferredLabels(evidence=gradient, real_counts=real, counts=counts)
