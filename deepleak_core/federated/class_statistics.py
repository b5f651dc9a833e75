"""What a server knows of its own network from validating it, and the label counts of a batch by that knowledge.

Whoever trains a network looks at what it predicts for images with known labels. That is all it takes to estimate
mean(p), on which label inference hangs once there are as many images as classes. With q_c the mean prediction for
images of class c, the last layer's bias tells of counts n

    K g = sum_k (p_k - e_{y_k}) = (Q^T - I) n + noise,   noise ~ N(0, K S),

where S is how an image's prediction differs from its class's mean. With the prior that all classes are as likely,
n ~ N(K / C, t (K / C) (I - 1 / C)), the posterior is a linear solve. t = 1 is labels drawn evenly; a batch may be more
uneven, so a few t are averaged by how likely they make g.

Relatives: quantification in data mining, which calls it adjusted counting (Forman 2008); LLG's form with auxiliary
data (Wainakh et al. 2021). Images that the network is sure of leave no trace in g and follow the prior alone.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import torch
from torch import Tensor

UNEVEN = {1.0: 0.8, 4.0: 0.1, 16.0: 0.1}  # variance of counts over that of an even draw, each with its probability
ROUNDING = 1e-6  # variance that keeps all but certain predictions from being taken for exact ones
MOST_CLASSES = 128  # above, the matrices are larger than many a network


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Mean `predictions` (C, C) for images of each class, and the `spread` (C, C), a covariance, around them."""

    predictions: Tensor
    spread: Tensor

    @classmethod
    def of(cls, probabilities: Tensor, labels: Tensor) -> Validation:
        """From the probabilities (N, C) of images with `labels` (N,); a class without images predicts like all.

        >>> Validation.of(torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.2, 0.8]]), torch.tensor([0, 0, 1])).predictions
        tensor([[0.8000, 0.2000],
                [0.2000, 0.8000]])
        """
        classes = probabilities.shape[1]
        belongs = torch.nn.functional.one_hot(labels, classes).to(probabilities)
        images = belongs.sum(0)[:, None]
        means = torch.where(images > 0, belongs.T @ probabilities / images.clamp_min(1), probabilities.mean(0))
        away = probabilities - means[labels]
        return cls(predictions=means, spread=away.T @ away / max(1, len(labels) - int((images > 0).sum())))

    def to_json(self) -> str:
        """For a checkpoint's metadata; `from_json` reads it."""
        return json.dumps({name: [[round(v, 8) for v in row] for row in m.tolist()] for name, m in vars(self).items()})

    @classmethod
    def from_json(cls, text: str, classes: int) -> Validation | None:
        """None where the text is no validation of a network of so many classes."""
        try:
            read = {name: torch.tensor(json.loads(text)[name], dtype=torch.float64) for name in cls.__annotations__}
        except (KeyError, TypeError, ValueError):
            return None
        fitting = all(m.shape == (classes, classes) and bool(m.isfinite().all()) for m in read.values())
        return cls(**read) if fitting else None

    def counts(self, bias: Tensor, images: int, seen: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Real-valued counts (C,) of a batch of `images` and their standard deviations (C,).

        `bias` (C,) is the mean gradient of the last layer's bias, `seen` (C,) counts images known to be there.
        """
        classes, bias = len(bias), bias.double()
        eye = torch.eye(classes).to(bias)
        blur = self.predictions.to(bias).T - eye
        seen = torch.zeros_like(bias) if seen is None else seen.to(bias)
        unseen = images - float(seen.sum())
        prior = seen + unseen / classes
        noise = images * (self.spread.to(bias) + ROUNDING * eye)
        surprise = images * bias - blur @ prior
        means, variances, chances = [], [], []
        for uneven, likely in UNEVEN.items():
            before = uneven * unseen / classes * (eye - 1 / classes)
            expected = torch.linalg.cholesky(blur @ before @ blur.T + noise)
            gain = torch.cholesky_solve(blur @ before, expected).T
            means.append(prior + gain @ surprise)
            variances.append((before - gain @ blur @ before).diagonal().clamp_min(0))
            unlikely = torch.linalg.solve_triangular(expected, surprise[:, None], upper=False).square().sum() / 2
            chances.append(math.log(likely) - unlikely - expected.diagonal().log().sum())
        weights = torch.stack(chances).softmax(0)[:, None]
        mean = (weights * torch.stack(means)).sum(0)
        variance = (weights * (torch.stack(variances) + (torch.stack(means) - mean).square())).sum(0)
        return torch.maximum(mean, seen), variance.sqrt()
