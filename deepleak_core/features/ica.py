"""Images told apart as independent voices: what network features are like, in place of what they cannot be.

Every feature vector of a batch lies in the row space of the last layer's gradient (`separation`). Seen the other way
round, each of D features is one sample of K mixed signals, the images, and what separates them is a matrix M whose
rows are the images' coordinates m_k: h_kd = (V m_k)_d - floor is how far image k has feature d above its floor.
Heights of different images are nearly independent, and spread about as a gamma distribution does, with shape a and
with the feature's own mean mu_d. So M has the log-likelihood, as in independent component analysis (Pham and Garat
1997, Cardoso 1997),

    D log |det M|  +  sum_kd [ (a - 1) log h_kd - a h_kd / mu_d ].

Its maximum is sought by L-BFGS, with a floor that is soft at first; mu_d and a are estimated along the way. With
a = 1 and a hard floor this is the largest simplex within the bounds of all features (`simplex`), without its linear
programs: for dozens of images in seconds. No label is used. The images come out at some tenth of their length off,
which is near enough for `together` to go on from.

It asks for features that are smooth, such as after ELU, and for many of them. Where features lie on their floor, as
after ReLU, `simplex` finds the images to rounding.

Relatives: the Cocktail Party Attack (Kariyappa et al. 2022) takes gradients apart by negentropy and never learns
signs or scales, which bias and floor tell here.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn.functional import softplus

from deepleak_core.features.one_by_one import Factors

Point = npt.NDArray[np.float64]

SOFTNESS = (0.1, 0.05, 0.02)  # of a typical height: over how much of it the floor gives way, in turn
SHAPE = 1.5  # of the gamma distribution, to begin with
SHAPES = (1.0, 4.0)  # within which it is estimated
FEATURES = 8  # per image, from which they are enough of a sample
LEAST_MEAN = 0.1  # of a typical height: estimated means of features are not below
SPREAD = 0.3  # of the length of what all images share, by which they differ at the start
ITERATIONS = 300  # of L-BFGS for each softness, at most


def independent_images(factors: Factors, *, seed: int = 0, stop: Callable[[], bool] = lambda: False) -> Tensor | None:
    """Coordinates m (K, K) of images that explain the features best if they are independent, in any order.

    None where features are not smooth, too few to tell, or without a bias or a floor to measure them by; and where
    `stop` says yes before the end.
    """
    images = factors.images
    if factors.heights is None or factors.ones is None or not factors.smooth or images < 2:
        return None
    if len(factors.heights) < FEATURES * images:
        return None
    voices = _Voices(factors.heights, factors.ones)
    generator = torch.Generator().manual_seed(seed)
    directions = torch.linalg.qr(torch.randn(images, images, generator=generator, dtype=torch.float64))[0][:, 1:]
    point = SPREAD * float(voices.shared.norm()) * directions.flatten().numpy()
    means, shape = voices.typical_means(voices.heights_shared), SHAPE

    def halt(_: Point) -> None:
        if stop():
            raise StopIteration

    for softness in SOFTNESS:
        point = minimize(
            voices.unlikelihood,
            point,
            args=(softness, shape, means),
            jac=True,
            method="L-BFGS-B",
            callback=halt,
            options={"maxiter": ITERATIONS},
        ).x
        if stop():
            return None
        seen = (factors.heights @ voices.coordinates(point).T).clamp_min(0)
        means = voices.typical_means(seen.mean(1))
        shape = float((1 / (seen / means[:, None]).var()).clamp(*SHAPES))
    return voices.coordinates(point)


class _Voices:
    """The likelihood of points that stand for M (K, K): each row's deviation, (K - 1,), from what all images share."""

    def __init__(self, heights: Tensor, ones: Tensor):
        self.shared = ones / ones.square().sum()  # the shortest m that ends in 1; all others differ at right angles
        self.across = torch.linalg.svd(ones[None])[2][1:]  # (K - 1, K)
        self.heights_shared, self.heights_across = heights @ self.shared, heights @ self.across.T
        self.typical = self.heights_shared.abs().mean()

    def coordinates(self, point: Point | Tensor) -> Tensor:
        """M (K, K)."""
        deviations = torch.as_tensor(point).to(self.shared).view(len(self.shared), -1)
        m: Tensor = self.shared + deviations @ self.across
        return m

    def typical_means(self, means: Tensor) -> Tensor:
        """Mean heights (D,), none of them next to nothing."""
        return means.clamp_min(LEAST_MEAN * float(self.typical))

    def unlikelihood(self, point: Point, softness: float, shape: float, means: Tensor) -> tuple[float, Point]:
        """The negative log-likelihood for each feature, and its gradient; the floor gives way over `softness`."""
        z = torch.from_numpy(point).to(self.shared).requires_grad_()
        deviations = z.view(len(self.shared), -1)
        h = torch.addmm(self.heights_shared[:, None], self.heights_across, deviations.T) / self.typical
        above = softplus(h / softness)  # h / softness where that is large, and hardly anything below the floor
        unlikely = (above - h / softness).sum() + (shape * self.typical / means * h.sum(1)).sum()
        if shape > 1:
            unlikely = unlikely - (shape - 1) * above.clamp_min(1e-300).log().sum()
        loss = unlikely / len(h) - torch.linalg.slogdet(self.coordinates(z))[1]
        (gradient,) = torch.autograd.grad(loss, z)
        return float(loss.detach()), gradient.cpu().numpy()
