"""PSNR and class means of decoded pictures."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepleak_core.events import GroundTruthKnown, from_png, png
from deepleak_core.scoring import metrics
from deepleak_core.scoring.pictures import grey_psnr, mean_pictures, psnr


def test_the_mean_picture_is_that_of_the_class() -> None:
    images = np.random.default_rng(0).random((3, 3, 8, 8), dtype=np.float32)
    truth = GroundTruthKnown(labels=(6, 3, 6), pictures=tuple(map(png, images)))
    ((picture, name, count),) = mean_pictures(truth, [f"class {label}" for label in range(10)])
    assert (name, count) == ("class 6", 2)
    assert np.allclose(from_png(picture), images[[0, 2]].mean(0), atol=1.02 / 255)


def test_psnr_is_that_of_the_metrics() -> None:
    rebuilt, private = np.random.default_rng(0).random((2, 3, 3, 8, 8), dtype=np.float32)
    rebuilt[2] = private[2]
    assert psnr(rebuilt, private) == pytest.approx(metrics.psnr(torch.tensor(rebuilt), torch.tensor(private)).tolist())
    pictures = list(map(png, private))
    decoded = torch.tensor(np.stack(list(map(from_png, pictures))))
    assert grey_psnr(pictures) == pytest.approx(metrics.grey_psnr(decoded), abs=1e-3)
