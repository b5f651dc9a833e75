"""Spatial frequencies as unknowns."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from deepleak_core.attack.matching import MatchingSettings, match_update
from deepleak_core.attack.solvers import Iterate, spectral_adam
from deepleak_core.attack.solvers.spectral import amplitudes, images_of, spectrum_of
from deepleak_core.federated.case import observe
from deepleak_core.scenario import Scenario
from deepleak_core.scoring import metrics
from tests.attack.solvers.problem import Problem, never
from tests.helpers import random_images


@pytest.mark.parametrize("size", [(8, 8), (6, 9), (1, 4)])
def test_unknowns_and_images_are_the_same_thing(size: tuple[int, int]) -> None:
    images, scale = random_images(2, 3, *size), amplitudes(*size)
    spectrum = spectrum_of(images, scale)
    assert torch.allclose(images_of(spectrum, scale, size), images, atol=1e-5)
    expected = np.fft.rfft2(images.numpy(), norm="ortho") / scale.numpy()
    assert np.allclose(torch.view_as_complex(spectrum).numpy(), expected, atol=1e-4)


def test_amplitudes_fall_like_one_over_the_frequency() -> None:
    scale = amplitudes(16, 16)
    assert float(scale.square().mean()) == pytest.approx(1, rel=1e-5)
    assert float(scale[0, 1] / scale[0, 4]) == pytest.approx(4, rel=1e-5)
    assert float(scale[3, 0] / scale[-6, 0]) == pytest.approx(2, rel=1e-5)
    assert float(scale[0, 0]) == float(scale[0, 1]) == float(scale.max())


def test_images_stay_in_the_box() -> None:
    iterates = spectral_adam(
        Problem(lambda x: (x - 10).square().sum()),  # type: ignore[arg-type]
        torch.zeros(1, 2, 1, 4, 4),
        low=torch.tensor(-1.0),
        high=torch.tensor(2.0),
        iterations=40,
        learning_rate=0.5,
        stop=never,
    )
    *_, last = (iterate.inputs for iterate in iterates)
    assert float(last.min()) >= -1 - 1e-4
    assert torch.allclose(last, torch.full_like(last, 2.0), atol=1e-3)


def test_few_iterations_on_a_deep_network_come_closer_than_in_pixels() -> None:
    case, batch = observe(Scenario(indices=(0,), model="convnet", device="cpu"))

    def psnr(settings: MatchingSettings) -> float:
        *_, last = match_update(case, batch.labels.tolist(), settings)
        assert isinstance(last, Iterate)
        return float(metrics.psnr(case.model.denormalise(last.inputs[0]).clamp(0, 1), batch.images).mean())

    spectral = MatchingSettings(solver="spectral-adam", learning_rate=0.25, schedule="cosine", iterations=10)
    assert psnr(spectral) > psnr(MatchingSettings(iterations=10))
