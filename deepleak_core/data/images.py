"""Read image files as 8-bit PIL images, and convert those to tensors."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from deepleak_core.errors import DatasetUnavailable

MAX_PIXELS = 50_000_000  # of one image file, before decoding
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm"})


def open_image(path: Path) -> Image.Image:
    """A file as RGB image: size checked before decoding, orientation applied, metadata dropped."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DatasetUnavailable(
                        f"{path.name} has {image.width * image.height / 1e6:.0f} million pixels, "
                        f"the limit is {MAX_PIXELS / 1e6:.0f} million; make it smaller."
                    )
                upright = ImageOps.exif_transpose(image).convert("RGB")
                return Image.frombytes("RGB", upright.size, upright.tobytes())  # pixels and nothing else
    except (OSError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise DatasetUnavailable(
            f"{path.name} could not be read as an image ({error}); accepted are JPEG and PNG files."
        ) from error


def to_tensor(image: Image.Image, size: int, channels: int = 3) -> Tensor:
    """Crop a PIL image to its central square, scale it and convert it to float32.

    Args:
        image: any PIL image of 8 bits a channel.
        size: height and width of the result in pixels.
        channels: 3 for RGB, 1 for greyscale (luminance after ITU-R 601-2).

    Returns:
        Tensor (channels, size, size), multiples of 1/255 in [0, 1].

    >>> to_tensor(Image.new("RGB", (40, 30), "red"), 32).amax((1, 2))
    tensor([1., 0., 0.])
    >>> to_tensor(Image.new("RGB", (40, 30), "white"), 32, channels=1).shape
    torch.Size([1, 32, 32])
    """
    image = image.convert("RGB" if channels == 3 else "L")
    if image.size != (size, size):
        image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).reshape(size, size, channels)
    return pixels.permute(2, 0, 1).float() / 255
