"""PSNR and class means of decoded pictures, without PyTorch; metrics of tensors are in `scoring.metrics`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import fmean

import numpy as np
import numpy.typing as npt

from deepleak_core.events import GroundTruthKnown, Images, from_png, png

PIXEL_EXACT_FLOOR = 1e-12  # mean squared error that counts as none: PSNR is reported up to 120 dB


def psnr(rebuilt: npt.ArrayLike, private: npt.ArrayLike) -> tuple[float, ...]:
    """Peak signal-to-noise ratio of each image (B, C, H, W) in [0, 1], in dB, at most 120.

    >>> psnr(np.ones((1, 3, 8, 8)), np.ones((1, 3, 8, 8)))
    (120.0,)
    """
    errors = np.square(np.subtract(rebuilt, private, dtype=np.float64))
    mean = errors.reshape(len(errors), -1).mean(1)  # in this order, whatever the layout in memory
    values: list[float] = (-10 * np.log10(np.maximum(mean, PIXEL_EXACT_FLOOR))).tolist()
    return tuple(values)


def grey_psnr(pictures: Sequence[bytes]) -> float:
    """Mean PSNR in dB of flat grey images, every value 1/2, against these PNG pictures."""
    private = np.stack([from_png(picture) for picture in pictures])
    return fmean(psnr(np.full_like(private, 0.5), private))


def class_means(pictures: Sequence[bytes], labels: Sequence[int]) -> dict[int, Images]:
    """The mean picture of each class that repeats, (C, H, W) in [0, 1]; `pictures` are PNG bytes."""
    images, classes = np.stack([from_png(picture) for picture in pictures]), np.array(labels)
    repeated = sorted(label for label, count in Counter(labels).items() if count > 1)
    return {label: images[classes == label].mean(0) for label in repeated}


def mean_pictures(truth: GroundTruthKnown, class_names: Sequence[str]) -> list[tuple[bytes, str, int]]:
    """For each class that repeats in the batch: the mean of its private images as PNG, its name, its images."""
    return [
        (png(mean), class_names[label], truth.labels.count(label))
        for label, mean in class_means(truth.pictures, truth.labels).items()
    ]
