"""Signed Adam on the spatial frequencies of the images instead of their pixels.

The unknowns are Fourier coefficients, divided by the amplitude that photos have at their frequency, which falls like
one over the frequency. A step of equal size for all unknowns then changes coarse shapes more than fine ones, so that
few iterations show what is in a photo. The parametrisation is that of feature visualisation (Olah et al. 2017).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.solvers.adam import Coordinates, adam
from deepleak_core.attack.solvers.schedules import Schedule, cosine
from deepleak_core.attack.solvers.solver import Iterate
from deepleak_core.events import Stage

FAINT = 0.05  # share of the starting noise that is kept: much of it would stay to the end of a short search


def amplitudes(height: int, width: int) -> Tensor:
    """The relative amplitude of photos at each frequency (height, width // 2 + 1), with mean square 1.

    It is that of one cycle per image for the mean.
    """
    down, across = torch.fft.fftfreq(height)[:, None], torch.fft.rfftfreq(width)[None]
    falling = 1 / (down.square() + across.square()).sqrt().clamp_min(1 / max(height, width))
    scale: Tensor = falling / falling.square().mean().sqrt()
    return scale


def spectrum_of(images: Tensor, scale: Tensor) -> Tensor:
    """The unknowns (..., H, W // 2 + 1, 2) of images (..., H, W)."""
    return torch.view_as_real(torch.fft.rfft2(images, norm="ortho") / scale)


def images_of(spectrum: Tensor, scale: Tensor, size: tuple[int, int]) -> Tensor:
    """The images (..., H, W) of unknowns."""
    images: Tensor = torch.fft.irfft2(torch.view_as_complex(spectrum) * scale, s=size, norm="ortho")
    return images


def spectral_adam(
    objective: Matching,
    start: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    iterations: int,
    learning_rate: float | None,
    stop: Callable[[], bool],
    schedule: Schedule = cosine,
) -> Iterator[Iterate | Stage]:
    """Adam on the sign of the gradient of each frequency; images are kept within [low, high].

    Starts from noise that is `FAINT`. The rate falls as the schedule says.
    """
    size = (start.shape[-2], start.shape[-1])
    scale = amplitudes(*size).to(start)
    return adam(
        objective,
        FAINT * start,
        low=low,
        high=high,
        iterations=iterations,
        learning_rate=0.25 if learning_rate is None else learning_rate,
        stop=stop,
        schedule=schedule,
        signed=True,
        coordinates=Coordinates(
            of=lambda images: spectrum_of(images, scale), images=lambda unknown: images_of(unknown, scale, size)
        ),
    )
