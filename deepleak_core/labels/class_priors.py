"""Bayesian label counts from the mean predictions of a network for each class.

With q_c the mean prediction for images of class c (`federated.class_statistics`), the gradient g of the last layer's
bias depends on counts n by

    K g = sum_k (p_k - e_{y_k}) = (Q^T - I) n + noise,   noise ~ N(0, K S),

where S is the covariance of predictions around the mean of their class. With the prior that all classes are equally
likely, n ~ N(K / C, t (K / C) (I - 1 / C)), the posterior is a linear solve. t = 1 stands for labels drawn evenly; a
batch may be more uneven, so a few t are averaged by how likely they make g.

This is adjusted counting of quantification in data mining (Forman 2008), and resembles LLG with auxiliary data (Wainakh
et al. 2021). Images that the network is sure of leave no trace in g and follow the prior alone.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from deepleak_core.federated.class_statistics import ClassStatistics

UNEVENNESS = {1.0: 0.8, 4.0: 0.1, 16.0: 0.1}  # variance of counts over that of an even draw, and its probability
LEAST_VARIANCE = 1e-6  # of a prediction: keeps all but certain predictions from counting as exact


def posterior_counts(
    statistics: ClassStatistics, bias_gradient: Tensor, images: int, seen: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Posterior means (C,) and standard deviations (C,) of the label counts of a batch of `images`.

    `bias_gradient` (C,) is the mean gradient of the last layer's bias; `seen` (C,) counts images known to be present.
    """
    classes, g = len(bias_gradient), bias_gradient.double()
    eye = torch.eye(classes).to(g)
    response = statistics.predictions.to(g).T - eye
    seen = torch.zeros_like(g) if seen is None else seen.to(g)
    unseen = images - float(seen.sum())
    prior = seen + unseen / classes
    noise = images * (statistics.covariance.to(g) + LEAST_VARIANCE * eye)
    surprise = images * g - response @ prior
    means, variances, log_evidence = [], [], []
    for unevenness, probability in UNEVENNESS.items():
        before = unevenness * unseen / classes * (eye - 1 / classes)
        expected = torch.linalg.cholesky(response @ before @ response.T + noise)
        gain = torch.cholesky_solve(response @ before, expected).T
        means.append(prior + gain @ surprise)
        variances.append((before - gain @ response @ before).diagonal().clamp_min(0))
        squares = torch.linalg.solve_triangular(expected, surprise[:, None], upper=False).square().sum() / 2
        log_evidence.append(math.log(probability) - squares - expected.diagonal().log().sum())
    weights = torch.stack(log_evidence).softmax(0)[:, None]
    mean = (weights * torch.stack(means)).sum(0)
    variance = (weights * (torch.stack(variances) + (torch.stack(means) - mean).square())).sum(0)
    return torch.maximum(mean, seen), variance.sqrt()
