"""Mean pictures of the classes that repeat in a batch: what fused reconstructions look like. Needs no PyTorch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from deepleak_core.events import GroundTruthKnown, Images, from_png, png


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
