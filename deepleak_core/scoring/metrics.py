"""How close a reconstruction is to the private batch.

An update does not reveal the order of its images, so reconstructions are first matched to the private images, one to
one, such that the summed squared error is smallest; repeated labels need no special treatment.
All images are (B, C, H, W) in [0, 1].
"""

from __future__ import annotations

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from deepleak_core.scoring.pictures import PIXEL_EXACT_FLOOR


def match(rebuilt: Tensor, private: Tensor) -> Tensor:
    """Which rebuilt image belongs to each private one: indices (B,) such that `rebuilt[indices]` lines up.

    >>> private = torch.rand(5, 3, 8, 8)
    >>> match(private.flip(0), private).tolist()
    [4, 3, 2, 1, 0]
    """
    a, b = rebuilt.detach().flatten(1).double().cpu(), private.flatten(1).double().cpu()
    cost = torch.cdist(b, a, compute_mode="donot_use_mm_for_euclid_dist").square()
    return torch.as_tensor(linear_sum_assignment(cost.numpy())[1])


def psnr(rebuilt: Tensor, private: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB, (B,), at most 120.

    >>> psnr(torch.zeros(1, 3, 8, 8), torch.full((1, 3, 8, 8), 0.1))
    tensor([20.])
    """
    mse = (rebuilt - private).square().flatten(1).mean(1)
    return -10 * mse.clamp_min(PIXEL_EXACT_FLOOR).log10()


def class_means(images: Tensor, labels: Tensor) -> Tensor:
    """For each image the mean of its class in the batch, (B, C, H, W); that of equal images is exactly the image."""
    return torch.stack([images[labels == label].double().mean(0) for label in labels]).to(images.dtype)


def nearest_psnr(rebuilt: Tensor, private: Tensor) -> Tensor:
    """PSNR in dB, (B,), of each rebuilt image to the private image that it is closest to."""
    return torch.stack([psnr(image.expand_as(private), private).max() for image in rebuilt])


def fusion_index(nearest: Tensor, mean: Tensor, labels: Tensor) -> float | None:
    """Share of reconstructions of a repeated label that are closer to the mean of their class than to any single image.

    `nearest` and `mean` (B,) are their PSNR in dB to the nearest private image and to the mean of their class; None
    where no label repeats.

    >>> fusion_index(torch.tensor([15.0, 20.0, 9.0]), torch.tensor([18.0, 19.0, 9.0]), torch.tensor([6, 6, 1]))
    0.5
    """
    repeated = torch.tensor([int((labels == label).sum()) > 1 for label in labels])
    return float((mean > nearest)[repeated].double().mean()) if repeated.any() else None


def ssim(rebuilt: Tensor, private: Tensor) -> Tensor:
    """Structural similarity of each image, (B,) in [-1, 1] (Wang et al. 2004, 11-pixel Gaussian window)."""
    value = structural_similarity_index_measure(rebuilt, private, data_range=1.0, reduction="none")
    return torch.as_tensor(value).reshape(len(private))


def max_error_8bit(rebuilt: Tensor, private: Tensor) -> Tensor:
    """Largest difference of any 8-bit channel value in each image, (B,) int64; 0 means pixel-exact."""
    return (to_8bit(rebuilt).long() - to_8bit(private).long()).abs().flatten(1).amax(1)


def to_8bit(images: Tensor) -> Tensor:
    """[0, 1] to uint8, rounded."""
    return (images.clamp(0, 1) * 255).round().to(torch.uint8)


def noise_psnr(private: Tensor, seed: int = 0) -> float:
    """Mean PSNR in dB of uniform noise against these images."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(private.shape, generator=generator)
    return float(psnr(noise, private.cpu().float()).mean())


def grey_psnr(private: Tensor) -> float:
    """Mean PSNR in dB of flat grey images, every value 1/2.

    >>> grey_psnr(torch.full((1, 3, 8, 8), 0.6))
    20.0
    """
    return round(float(psnr(torch.full_like(private, 0.5), private).mean()), 4)


def flat_psnr(private: Tensor) -> Tensor:
    """PSNR in dB, (B,), of the best flat image for each: its own mean colour everywhere."""
    return psnr(private.mean((2, 3), keepdim=True).expand_as(private), private)
