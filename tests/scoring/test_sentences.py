"""The verdict on reconstructions of every kind, and sentences that say no more than the figures show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

from deepleak_core.data.batches import load_batch
from deepleak_core.events import FinalScore, Finished, LabelScore, LabelsInferred, LabelsRevised, Outcome
from deepleak_core.scenario import Scenario
from deepleak_core.scoring import metrics
from deepleak_core.scoring.sentences import (
    ABOVE_FLAT_DB,
    RECOGNISABLE_SSIM,
    RECOVERED_DB,
    is_blend,
    outcome,
    what_blended,
    what_leaked,
)

NAMES = ("bird", "cat", "dog")


@pytest.fixture(scope="module")
def photos() -> Tensor:
    """The bundled CIFAR-10 images, (20, 3, 32, 32)."""
    return load_batch(Scenario(indices=tuple(range(20)))).images


def noise(like: Tensor, seed: int = 0) -> Tensor:
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(seed))


def verdicts(rebuilt: Tensor, private: Tensor) -> list[Outcome]:
    """The verdict on each reconstruction."""
    rebuilt = rebuilt.clamp(0, 1)
    figures = (metrics.psnr(rebuilt, private), metrics.ssim(rebuilt, private), metrics.flat_psnr(private))
    exact = metrics.max_error_8bit(rebuilt, private).eq(0).tolist()
    return list(map(outcome, *(figure.tolist() for figure in figures), exact))


def flat(images: Tensor) -> Tensor:
    return images.mean((2, 3), keepdim=True).expand_as(images)


def blurred(images: Tensor, size: int) -> Tensor:
    return avg_pool2d(pad(images, (size // 2,) * 4, mode="replicate"), size, 1)


def coloured_noise(images: Tensor) -> Tensor:
    """Coarse squares in the right colours under fine noise: a fair PSNR, hardly any structure."""
    squares = interpolate(avg_pool2d(images, 8), size=32, mode="nearest")
    return squares + 0.05 * noise(images)


# ------------------------------------------------------------------------------------------------ verdicts


def test_blank_and_flat_pictures_are_never_recovered(photos: Tensor) -> None:
    for rebuilt in (torch.zeros_like(photos), torch.ones_like(photos), torch.full_like(photos, 0.5), flat(photos)):
        assert set(verdicts(rebuilt, photos)) == {"not recovered"}


def test_coloured_noise_is_not_recovered_however_good_its_psnr(photos: Tensor) -> None:
    assert set(verdicts(coloured_noise(photos), photos)) == {"not recovered"}
    assert outcome(22.8, 0.27, 15.0) == "not recovered"


def test_a_blur_is_not_of_photo_quality(photos: Tensor) -> None:
    assert "recovered" not in verdicts(blurred(photos, 3), photos)
    assert set(verdicts(blurred(photos, 3), photos)) == {"recognisable"}, "shapes are there"
    assert verdicts(blurred(photos, 15), photos).count("recognisable") <= 2


@pytest.mark.parametrize(("strength", "allowed"), [(0.01, {"recovered"}), (0.05, {"recognisable"})])
def test_a_little_noise_takes_photo_quality_and_then_recognition(
    photos: Tensor, strength: float, allowed: set[str]
) -> None:
    assert set(verdicts(photos + strength * noise(photos), photos)) == allowed
    assert verdicts(photos + 0.3 * noise(photos), photos).count("not recovered") >= 18


def test_images_shifted_far_and_images_of_another_class_are_not_recovered(photos: Tensor) -> None:
    assert set(verdicts(photos.roll(8, -1), photos)) == {"not recovered"}
    assert set(verdicts(photos.roll(1, 0), photos)) == {"not recovered"}


def test_a_blend_of_two_images_is_not_of_photo_quality(photos: Tensor) -> None:
    assert "recovered" not in verdicts((photos + photos.roll(1, 0)) / 2, photos)


def test_fused_pictures_are_called_blends_and_single_images_and_noise_are_not(photos: Tensor) -> None:
    frogs = photos[[4, 5, 7, 19]]
    mean = frogs.mean(0, keepdim=True).expand_as(frogs)

    def blends(rebuilt: Tensor) -> list[bool]:
        to_mean = (metrics.psnr(rebuilt, mean), metrics.ssim(rebuilt, mean), metrics.flat_psnr(mean))
        figures = (*to_mean, metrics.nearest_psnr(rebuilt, frogs))
        return list(map(is_blend, *(figure.tolist() for figure in figures)))

    assert blends((mean + 0.02 * noise(frogs)).clamp(0, 1)) == [True] * 4
    assert "recovered" not in verdicts(mean, frogs)
    for other in (frogs, (frogs + 0.02 * noise(frogs)).clamp(0, 1), torch.rand(frogs.shape)):
        assert blends(other) == [False] * 4


def test_an_exact_copy_is_recovered_even_of_a_flat_image(photos: Tensor) -> None:
    assert set(verdicts(photos, photos)) == {"recovered"}
    white = torch.ones(1, 3, 32, 32)
    assert verdicts(white, white) == ["recovered"]
    assert verdicts(white - 0.02, white) == ["not recovered"]


pictures = arrays(np.uint8, (3, 16, 16)).map(lambda pixels: torch.from_numpy(pixels / np.float32(255))[None])


@settings(deadline=None, max_examples=60)
@given(pictures)
def test_a_flat_square_in_the_mean_colour_never_counts(image: Tensor) -> None:
    assume(metrics.max_error_8bit(flat(image), image).item() > 0)
    assert verdicts(flat(image), image) == ["not recovered"]


@settings(deadline=None, max_examples=60)
@given(pictures, st.floats(0, 0.2), st.floats(0, 0.2))
def test_more_noise_never_improves_a_verdict(image: Tensor, little: float, more: float) -> None:
    ranks = ["recovered", "recognisable", "not recovered"]
    towards = torch.where(image < 0.5, 1.0, -1.0) * noise(image).abs().clamp(max=2)  # stays inside [0, 1]
    near, far = image + little * towards, image + (little + more) * towards
    assume(metrics.ssim(near, image) >= metrics.ssim(far, image))
    assert ranks.index(verdicts(near, image)[0]) <= ranks.index(verdicts(far, image)[0])


@given(st.floats(0, 120), st.floats(-1, 1), st.floats(0, 120))
def test_the_rule(psnr: float, ssim: float, flat_psnr: float) -> None:
    found = outcome(psnr, ssim, flat_psnr)
    assert outcome(psnr, ssim, flat_psnr, pixel_exact=True) == "recovered"
    if found != "not recovered":
        assert psnr >= flat_psnr + ABOVE_FLAT_DB
        assert ssim >= RECOGNISABLE_SSIM
    if found == "recovered":
        assert psnr >= RECOVERED_DB


# ----------------------------------------------------------------------------------------------- sentences


def score(psnr: Sequence[float], outcomes: Sequence[Outcome], **values: Any) -> FinalScore:
    count = len(psnr)
    figures: dict[str, Any] = {
        "places": tuple(range(count)), "psnr": tuple(psnr), "ssim": (0.5,) * count, "outcomes": tuple(outcomes),
        "max_error_8bit": (9,) * count, "pixel_exact": (False,) * count, "noise_psnr": 8.0, "grey_psnr": 12.0,
        "time_to": {"psnr20": None, "psnr30": None, "pixel_exact": None},
    }  # fmt: skip
    return FinalScore(**figures | values)


def inferred(order: Sequence[int] = (0, 1), exact: bool = True, falsified: Sequence[int] = ()) -> LabelsInferred:
    counts = tuple([0, 1].count(label) for label in range(3))
    values = tuple(map(float, counts))
    return LabelsInferred(
        strategy="zero-shot", evidence=values, real_counts=values, counts=counts, order=tuple(order),
        falsified=tuple(falsified), seconds=0.1, score=LabelScore(true_counts=counts, exact=exact),
    )  # fmt: skip


def finished(reason: Any = "iterations") -> Finished:
    return Finished(reason=reason, sentence="", step=9, seconds=1.0, residual=0.1)


def sentence(result: FinalScore, labels: LabelsInferred | None = None, **values: Any) -> str:
    settings: dict[str, Any] = {"revised": None, "mode": "fedsgd", "reason": "iterations"} | values
    end = finished(settings.pop("reason"))
    return what_leaked(end, result, labels or inferred(), labels=(0, 1), class_names=NAMES, **settings)


GOOD, FAIR, BAD = "recovered", "recognisable", "not recovered"


@pytest.mark.parametrize(
    ("outcomes", "words", "others"),
    [
        ((GOOD, GOOD), ("photo quality", "All 2"), ("recognisable", "None")),
        ((GOOD, FAIR), ("All 2", "recognisable", "1 of them at photo quality"), ("None",)),
        ((GOOD, BAD), ("1 of the 2", "photo quality"), ("recognisable", "None", "All")),
        ((FAIR, FAIR), ("All 2", "recognisable", "grey image would score 12"), ("photo", "None")),
        ((FAIR, BAD), ("1 of the 2", "recognisable"), ("photo", "None", "All")),
        ((BAD, BAD), ("None of the 2", "8 dB", "12"), ("photo", "recognisable", "All")),
        ((GOOD,), ("photo quality",), ("None", "not")),
        ((FAIR,), ("recognisable",), ("photo", "not")),
        ((BAD,), ("not recovered",), ("photo", "recognisable")),
    ],
)
def test_a_sentence_says_the_outcomes_and_no_more(
    outcomes: Sequence[Outcome], words: Sequence[str], others: Sequence[str]
) -> None:
    said = sentence(score([20.0] * len(outcomes), outcomes))
    assert all(word in said for word in words), said
    assert not any(word in said for word in others), said
    assert "20 dB" in said


def test_exact_copies_and_the_shared_thing_are_named() -> None:
    copies = score([120.0, 120.0], (GOOD, GOOD), pixel_exact=(True, True))
    assert "exact copy" in sentence(copies)
    assert "gradient" in sentence(copies)
    assert "weights" in sentence(copies, mode="fedavg")
    assert "gradient" not in sentence(copies, mode="fedavg")
    one = score([120.0, 9.0], (GOOD, BAD), pixel_exact=(True, False))
    assert "exact" in sentence(one)
    assert "1 of the 2" in sentence(one)


def test_wrong_labels_are_named() -> None:
    said = sentence(score([16.5, 6.1], (BAD, BAD)), inferred([1, 2], falsified=(1,)))
    assert "1 of the 2 labels" in said
    assert "dog instead of bird" in said
    assert "label" not in sentence(score([16.5, 6.1], (BAD, BAD)))
    assert "inferred" in sentence(score([16.5, 6.1], (BAD, BAD)), inferred(exact=False))


def test_a_blend_is_said_where_reconstructions_show_one_and_only_there() -> None:
    result = score([15.0, 15.0], (BAD, BAD), psnr_to_mean=(33.0, 33.0), nearest_psnr=(16.0, 15.0), fusion=1.0)
    assert "blend" not in sentence(replace(result, fused=(False, False)))
    assert "blend" not in sentence(result)
    assert "blend" in sentence(replace(result, fused=(True, False)))


def test_a_blend_is_described_class_by_class() -> None:
    figures = {"psnr_to_mean": (33.0, 33.0, 28.0, 28.0), "nearest_psnr": (16.0, 16.0, 14.0, 13.0)}
    result = score([15.0] * 4, (BAD,) * 4, **figures, fused=(True,) * 4)
    both = what_blended(result, (1, 1, 2, 2), NAMES)
    assert all(part in both for part in ("2 images of class cat", "both", "33 dB", "16 dB", "dog", "28 dB", "14 dB"))
    assert "all four" in what_blended(result, (1, 1, 1, 1), NAMES)
    assert what_blended(replace(result, fused=(True, False, False, True)), (1, 1, 2, 2), NAMES).startswith("1 of 2")
    assert what_blended(replace(result, fused=(False,) * 4), (1, 1, 2, 2), NAMES) == ""
    assert what_blended(replace(result, fused=()), (0, 1, 2, 2), NAMES) == ""


def test_a_blend_looks_like_the_mean_and_like_no_image(photos: Tensor) -> None:
    """Noise around a mean, a flat square in its colour, and a picture of one image are no blend."""
    pair = photos[[3, 10]]
    mean = pair.mean(0, keepdim=True).expand_as(pair)

    def blends(rebuilt: Tensor) -> list[bool]:
        figures = (metrics.psnr(rebuilt, mean), metrics.ssim(rebuilt, mean), metrics.flat_psnr(mean))
        return list(map(is_blend, *(f.tolist() for f in (*figures, metrics.nearest_psnr(rebuilt, pair)))))

    assert blends(mean + 0.01 * noise(mean)) == [True, True]
    assert blends((mean + 0.2 * noise(mean)).clamp(0, 1)) == [False, False]
    assert blends(flat(mean)) == [False, False]
    assert blends(pair) == [False, False]
    assert outcome(20.0, 0.7, 15.0, blend=True) == "not recovered"
    assert outcome(40.0, 0.99, 15.0, blend=True) == "recovered", "images that hardly differ are seen in their blend"


def test_labels_that_the_attack_revised_are_said_to_be_right_or_not() -> None:
    result = score([16.5, 6.1], (BAD, BAD))
    right, wrong = (
        LabelsRevised(order=(0, 1), certified=False, score=LabelScore(true_counts=(1, 1, 0), exact=exact))
        for exact in (True, False)
    )
    assert "corrected" in sentence(result, revised=right)
    assert sentence(result, revised=right) != sentence(result, revised=wrong)


def test_an_end_by_time_is_said_where_something_is_missing() -> None:
    assert "time limit" in sentence(score([20.0, 9.0], (FAIR, BAD)), reason="seconds")
    assert "time limit" not in sentence(score([20.0, 9.0], (FAIR, BAD)))
    assert "time limit" not in sentence(score([40.0, 40.0], (GOOD, GOOD)), reason="seconds")
