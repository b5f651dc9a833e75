"""Mean predictions of a network for each class, and their covariance, as validation during training yields them."""

from __future__ import annotations

import json
from dataclasses import dataclass

import torch
from torch import Tensor

MOST_CLASSES = 128  # above, the two C x C matrices would be larger than many networks
JSON_DIGITS = 8  # decimals kept in a checkpoint's metadata
JSON_NAMES = {"predictions": "predictions", "covariance": "spread"}  # fields, and their keys in the metadata


@dataclass(frozen=True, kw_only=True)
class ClassStatistics:
    """Mean `predictions` (C, C), row c for images of class c, and the `covariance` (C, C) around them."""

    predictions: Tensor
    covariance: Tensor

    @classmethod
    def of(cls, probabilities: Tensor, labels: Tensor) -> ClassStatistics:
        """From probabilities (N, C) of images with `labels` (N,); a class without images gets the mean of all.

        >>> ClassStatistics.of(torch.tensor([[1.0, 0.0], [0.6, 0.4], [0.2, 0.8]]), torch.tensor([0, 0, 1])).predictions
        tensor([[0.8000, 0.2000],
                [0.2000, 0.8000]])
        """
        classes = probabilities.shape[1]
        belongs = torch.nn.functional.one_hot(labels, classes).to(probabilities)
        images = belongs.sum(0)[:, None]
        means = torch.where(images > 0, belongs.T @ probabilities / images.clamp_min(1), probabilities.mean(0))
        deviations = probabilities - means[labels]
        freedom = max(1, len(labels) - int((images > 0).sum()))
        return cls(predictions=means, covariance=deviations.T @ deviations / freedom)

    def to_json(self) -> str:
        """The text for a checkpoint's metadata that `from_json` reads."""
        values = {key: getattr(self, name).tolist() for name, key in JSON_NAMES.items()}
        return json.dumps({key: [[round(v, JSON_DIGITS) for v in row] for row in m] for key, m in values.items()})

    @classmethod
    def from_json(cls, text: str, classes: int) -> ClassStatistics | None:
        """None where the text does not hold the statistics of a network of so many classes."""
        try:
            values = json.loads(text)
            read = {name: torch.tensor(values[key], dtype=torch.float64) for name, key in JSON_NAMES.items()}
        except (KeyError, TypeError, ValueError, RecursionError):
            return None
        fitting = all(m.shape == (classes, classes) and bool(m.isfinite().all()) for m in read.values())
        return cls(**read) if fitting else None
