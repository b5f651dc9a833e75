"""Metrics against naive references."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import correlate2d
from torch import Tensor

from deepleak_core.scoring import metrics


def images(count: int, size: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(seed))


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 5), seed=st.integers(0, 10**6), twins=st.booleans())
def test_matching_is_the_best_of_all_permutations(count: int, seed: int, twins: bool) -> None:
    private, rebuilt = images(count, seed=seed), images(count, seed=seed + 1)
    if twins:
        private[-1] = private[0]  # the same image twice in one batch
        rebuilt[-1] = rebuilt[0]
    places = metrics.match(rebuilt, private)
    assert sorted(places.tolist()) == list(range(count))

    def error(order: object) -> float:
        return float((rebuilt[torch.as_tensor(order)].double() - private.double()).square().sum())

    assert error(places) == pytest.approx(min(error(p) for p in permutations(range(count))))


def test_matching_undoes_a_shuffle_of_close_images() -> None:
    private = images(1).expand(6, -1, -1, -1) + 1e-3 * images(6, seed=1)
    shuffle = torch.tensor([4, 2, 0, 5, 1, 3])
    assert torch.equal(private[shuffle][metrics.match(private[shuffle], private)], private)


def test_psnr_per_image() -> None:
    private, rebuilt = images(3), images(3, seed=1)
    expected = [10 * np.log10(1 / np.mean((a - b) ** 2)) for a, b in zip(rebuilt.numpy(), private.numpy(), strict=True)]
    assert metrics.psnr(rebuilt, private).tolist() == pytest.approx(expected, rel=1e-5)
    assert metrics.psnr(private, private).tolist() == [pytest.approx(120)] * 3, "an exact copy has a finite PSNR"


def naive_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Wang et al. 2004, one channel: an 11-pixel Gaussian window, images mirrored at their edges."""
    offsets = np.arange(11) - 5
    window = np.exp(-(offsets**2) / (2 * 1.5**2))
    window = np.outer(window, window) / window.sum() ** 2

    def blur(x: np.ndarray) -> np.ndarray:
        return np.asarray(correlate2d(np.pad(x, 5, "reflect"), window, mode="valid"))

    mean_a, mean_b = blur(a), blur(b)
    var_a, var_b = blur(a * a) - mean_a**2, blur(b * b) - mean_b**2
    covariance = blur(a * b) - mean_a * mean_b
    c1, c2 = 0.01**2, 0.03**2
    ratio = (2 * mean_a * mean_b + c1) * (2 * covariance + c2)
    return float((ratio / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))).mean())


def test_ssim_per_image() -> None:
    private = images(3, size=32)
    rebuilt = (private + 0.2 * images(3, size=32, seed=1)).clamp(0, 1)
    expected = [
        np.mean([naive_ssim(a[c], b[c]) for c in range(3)])
        for a, b in zip(rebuilt.double().numpy(), private.double().numpy(), strict=True)
    ]
    assert metrics.ssim(rebuilt, private).tolist() == pytest.approx(expected, abs=1e-4)
    assert metrics.ssim(private, private).tolist() == pytest.approx([1, 1, 1])
    assert metrics.ssim(rebuilt[:1], private[:1]).shape == (1,)


@settings(deadline=None, max_examples=50)
@given(labels=st.lists(st.integers(0, 3), min_size=1, max_size=6), seed=st.integers(0, 10**6))
def test_the_fusion_index_counts_results_closer_to_the_mean_than_to_any_image(labels: list[int], seed: int) -> None:
    classes, private = torch.tensor(labels), images(len(labels), seed=seed)
    rebuilt = private + torch.rand(len(labels), 1, 1, 1, generator=torch.Generator().manual_seed(seed)) * (
        images(len(labels), seed=seed + 1) - private
    )
    fused, repeated = 0, 0
    for k, label in enumerate(labels):
        mates = [private[i] for i in range(len(labels)) if labels[i] == label]
        mean = sum(mates) / len(mates)
        if len(mates) > 1:
            repeated += 1
            to_images = min(float(((rebuilt[k] - image) ** 2).mean()) for image in private)
            fused += float(((rebuilt[k] - mean) ** 2).mean()) < to_images
    means, nearest = metrics.class_means(private, classes), metrics.nearest_psnr(rebuilt, private)
    found = metrics.fusion_index(nearest, metrics.psnr(rebuilt, means), classes)
    assert found == (pytest.approx(fused / repeated) if repeated else None)


def test_the_best_flat_image_is_the_mean_colour() -> None:
    private = images(3)
    expected = metrics.psnr(private.mean((2, 3), keepdim=True).expand_as(private), private)
    assert metrics.flat_psnr(private).tolist() == pytest.approx(expected.tolist())
    for other in (torch.zeros_like(private), torch.full_like(private, 0.5)):
        assert (metrics.psnr(other, private) <= metrics.flat_psnr(private) + 1e-4).all()


def test_pixel_exact_means_every_8bit_value() -> None:
    private = (images(2) * 255).round() / 255
    rebuilt = private + 0.49 / 255 * torch.sign(images(2, seed=1) - 0.5)
    assert metrics.max_error_8bit(rebuilt, private).tolist() == [0, 0]
    rebuilt[1, 2, 3, 4] = private[1, 2, 3, 4] + (3.2 / 255 if private[1, 2, 3, 4] < 0.5 else -3.2 / 255)
    assert metrics.max_error_8bit(rebuilt, private).tolist() == [0, 3]


def test_8bit_values_are_rounded_and_bounded() -> None:
    assert metrics.to_8bit(torch.tensor([-1.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 2.0])).tolist() == [0, 0, 0, 1, 255, 255]


def test_noise_baseline() -> None:
    """Uniform noise against grey: the mean squared error is 1/12."""
    grey = torch.full((4, 3, 64, 64), 0.5)
    assert metrics.noise_psnr(grey) == pytest.approx(10 * np.log10(12), abs=0.1)
    assert metrics.noise_psnr(grey, seed=1) != metrics.noise_psnr(grey, seed=2)
