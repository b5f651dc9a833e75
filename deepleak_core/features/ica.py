"""Separate feature vectors by maximum-likelihood independent component analysis (ICA).

In the notation of `factors`, each of the D features is one sample of K mixed signals, the images, and the matrix M of
the coordinates m_k separates them: h_kd = (V m_k)_d - floor is the height of feature d of image k above the floor of
the activation. Heights of different images are nearly independent and roughly gamma distributed, with a common shape a
and each feature's own mean mu_d. So M has the log-likelihood (Pham and Garat 1997, Cardoso 1997)

    D log |det M|  +  sum_kd [ (a - 1) log h_kd - a h_kd / mu_d ],

maximised by L-BFGS with a floor that is soft at first; mu_d and a are estimated along the way. With a = 1 and a hard
floor this is the maximum-volume simplex (`simplex`) without linear programs: dozens of images take seconds. No label is
used. The result is off by some tenth of a feature vector's length, near enough for `joint` to continue.

It needs many smooth features, as after ELU. After ReLU, `simplex` finds the images to rounding. The Cocktail Party
Attack (Kariyappa et al. 2022, arXiv 2209.05578) separates gradients by negentropy, without signs and scales; bias and
floor determine both here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import softplus

from deepleak_core.features.factors import Factors
from deepleak_core.features.least_squares import never

Point = npt.NDArray[np.float64]

SOFTNESS = (0.1, 0.05, 0.02)  # width of the soft floor in typical heights, in turn
FIRST_SHAPE = 1.5  # of the gamma distribution
SHAPE_RANGE = (1.0, 4.0)  # within which it is estimated
FEATURES_PER_IMAGE = 8  # from which features are enough of a sample
LEAST_MEAN = 0.1  # of a typical height: smallest estimate of a feature's mean
START_DISTANCE = 0.3  # of starting points from what all images share, relative to its length
ITERATIONS = 300  # of L-BFGS for each softness, at most


def independent_images(factors: Factors, *, seed: int = 0, stop: Callable[[], bool] = never) -> Tensor | None:
    """Coordinates m (K, K) of images that explain the features best if they are independent, in any order.

    None where features are not smooth or too few, for a single image, without a bias or a floor, and where `stop` ends
    the search. Deterministic for a fixed seed.
    """
    images, heights, ones = factors.images, factors.heights, factors.ones
    if heights is None or ones is None or not factors.layer.smooth or images < 2:
        return None
    if len(heights) < FEATURES_PER_IMAGE * images:
        return None
    model = GammaModel(heights, ones)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(images, images, generator=generator, dtype=torch.float64))[0][:, 1:]
    point = START_DISTANCE * float(model.shared.norm()) * directions.flatten().numpy()
    means, shape = model.bounded_means(model.shared_heights), FIRST_SHAPE

    def halt(_: Point) -> None:
        if stop():
            raise StopIteration

    for softness in SOFTNESS:
        point = minimize(
            model.negative_log_likelihood,
            point,
            args=(softness, shape, means),
            jac=True,
            method="L-BFGS-B",
            callback=halt,
            options={"maxiter": ITERATIONS},
        ).x
        if stop():
            return None
        estimated = (heights @ model.coordinates(point).T).clamp_min(0)
        means = model.bounded_means(estimated.mean(1))
        shape = float((1 / (estimated / means[:, None]).var()).clamp(*SHAPE_RANGE))
    return model.coordinates(point)


class GammaModel:
    """Likelihood of coordinates M (K, K) under independent gamma distributed heights.

    Every m_k ends in 1 (ones . m_k = 1), so M is parametrised by the deviations (K, K - 1) of its rows from the
    shortest such vector, `shared`, in directions orthogonal to it.
    """

    def __init__(self, heights: Tensor, ones: Tensor):
        """`heights` (D, K) and `ones` (K,) are those of `Factors`."""
        self.shared = ones / ones.square().sum()
        self.across = torch.linalg.svd(ones[None])[2][1:]  # (K - 1, K), orthonormal
        self.shared_heights, self.heights_across = heights @ self.shared, heights @ self.across.T
        self.typical = self.shared_heights.abs().mean()

    def coordinates(self, point: Point | Tensor) -> Tensor:
        """M (K, K) at deviations (K * (K - 1),)."""
        deviations = torch.as_tensor(point).to(self.shared).view(len(self.shared), -1)
        m: Tensor = self.shared + deviations @ self.across
        return m

    def bounded_means(self, means: Tensor) -> Tensor:
        """Mean heights (D,), at least `LEAST_MEAN` typical heights."""
        return means.clamp_min(LEAST_MEAN * float(self.typical))

    def negative_log_likelihood(
        self, point: Point, softness: float, shape: float, means: Tensor
    ) -> tuple[float, Point]:
        """Negative log-likelihood per feature and its gradient, under a floor that is soft over `softness`."""
        with torch.enable_grad():
            z = torch.from_numpy(point).to(self.shared).requires_grad_()
            deviations = z.view(len(self.shared), -1)
            h = torch.addmm(self.shared_heights[:, None], self.heights_across, deviations.T) / self.typical
            above = softplus(h / softness)  # close to h / softness above the floor, vanishing below
            unlikely = (above - h / softness).sum() + (shape * self.typical / means * h.sum(1)).sum()
            if shape > 1:
                unlikely = unlikely - (shape - 1) * above.clamp_min(1e-300).log().sum()
            loss = unlikely / len(h) - torch.linalg.slogdet(self.coordinates(z))[1]
            (gradient,) = torch.autograd.grad(loss, z)
        return float(loss.detach()), gradient.cpu().numpy()
