"""Mean pictures of classes that repeat."""

from __future__ import annotations

import numpy as np

from deepleak_core.events import GroundTruthKnown, from_png, png
from deepleak_core.scoring.class_means import mean_pictures


def test_the_mean_picture_is_that_of_the_class() -> None:
    images = np.random.default_rng(0).random((3, 3, 8, 8), dtype=np.float32)
    truth = GroundTruthKnown(labels=(6, 3, 6), pictures=tuple(map(png, images)))
    ((picture, name, count),) = mean_pictures(truth, [f"class {label}" for label in range(10)])
    assert (name, count) == ("class 6", 2)
    assert np.allclose(from_png(picture), images[[0, 2]].mean(0), atol=1.02 / 255)
