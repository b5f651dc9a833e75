"""Read image files as 8-bit PIL images, and convert those to tensors."""

from __future__ import annotations

import os
import stat
import warnings
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from deepleak_core.errors import DatasetUnavailable
from deepleak_core.text import printable

MAX_PIXELS = 50_000_000  # of one image, before decoding
MAX_BYTES = 500_000_000  # of one file, before reading
# Formats that Pillow decodes by itself: for others, such as EPS, it would start another program.
FORMATS = ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "DIB", "GIF", "PPM", "AVIF", "JPEG2000", "QOI")
IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".ppm"}
    | {".pgm", ".pbm", ".pnm", ".pfm", ".avif", ".jp2", ".j2k", ".qoi"}
)
BITS_PER_SAMPLE, PHOTOMETRIC = 258, 262  # tags of TIFF
WHITE_IS_ZERO = 0
OUTSIDE = 1e-3  # how far floating-point values may lie outside [0, 1]; less than half an 8-bit step


def open_image(path: Path, *, name: str | None = None) -> Image.Image:
    """Read an image file as it is meant to look, in 8 bits a channel and without its metadata.

    Samples of 16 bits are scaled by their range, floating-point ones must be in [0, 1]. Transparent pixels are put on
    white, and the orientation that a camera recorded is applied. Of an animation, the first frame is read.

    Args:
        path: a regular file in one of `FORMATS`, whatever its name ends in.
        name: what to call it in a refusal, its file name if not given.

    Returns:
        An image of mode "L" where the file is greyscale, else "RGB".

    Raises:
        DatasetUnavailable: the file cannot be read, is no image, or is too large.
    """
    shown = printable(path.name if name is None else name)
    try:
        with _regular_file(path, shown) as file, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about metadata that is not used
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file, formats=_formats_here()) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise DatasetUnavailable(
                        f"{shown} has {image.width * image.height / 1e6:.0f} million pixels, "
                        f"the limit is {MAX_PIXELS / 1e6:.0f} million; make it smaller."
                    )
                plain = _to_8_bits(image, shown)
                return Image.frombytes(plain.mode, plain.size, plain.tobytes())  # pixels and nothing else
    except DatasetUnavailable:
        raise
    except Exception as error:  # decoders raise errors of many types for damaged files
        unknown = isinstance(error, UnidentifiedImageError)
        reason = "it is in none of these formats" if unknown else printable(str(error)) or type(error).__name__
        raise DatasetUnavailable(
            f"{shown} could not be read as an image ({reason}); accepted are {', '.join(FORMATS)} files: convert it."
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


@cache
def _formats_here() -> tuple[str, ...]:
    """Those of `FORMATS` that the installed version of Pillow knows."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _regular_file(path: Path, shown: str) -> IO[bytes]:
    """Open a file for reading. A pipe or a device is refused; without O_NONBLOCK, opening a pipe would wait."""
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise DatasetUnavailable(f"{shown} is no regular file; accepted are image files: remove it.")
        if status.st_size > MAX_BYTES:
            raise DatasetUnavailable(
                f"{shown} has {status.st_size / 1e6:.0f} MB, the limit is {MAX_BYTES / 1e6:.0f} MB; make it smaller."
            )
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def _to_8_bits(image: Image.Image, shown: str) -> Image.Image:
    """The image upright, of mode "L" or "RGB"."""
    upright = ImageOps.exif_transpose(image)
    if upright.mode == "F" or upright.mode.startswith("I"):
        tags = getattr(image, "tag_v2", {})  # of TIFF
        fractions = _fractions(upright, tags.get(BITS_PER_SAMPLE, (16,))[0], image.format == "TIFF", shown)
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
            fractions = 1 - fractions
        return Image.fromarray((fractions * 255).round().astype(np.uint8))
    is_grey = upright.mode in ("1", "L", "LA", "La")
    if upright.has_transparency_data:
        white = Image.new("RGBA", upright.size, "white")
        upright = Image.alpha_composite(white, upright.convert("RGBA"))
    return upright.convert("L" if is_grey else "RGB")


def _fractions(image: Image.Image, bits: int, is_tiff: bool, shown: str) -> NDArray[np.float64]:
    """Greyscale samples of more than 8 bits, scaled to [0, 1].

    Integers from TIFF have as many `bits` as the file says, those from other formats use all 16 bits once decoded.
    """
    samples: NDArray[np.float64] = np.asarray(image).astype(np.float64)
    if image.mode != "F":
        if is_tiff and image.mode == "I":
            raise DatasetUnavailable(
                f"{shown} has signed or 32-bit integers, whose range is not known; save it with 8 or 16 bits."
            )
        scaled: NDArray[np.float64] = samples.clip(0, 2**bits - 1) / (2**bits - 1)
        return scaled
    low, high = float(samples.min()), float(samples.max())
    if not (low >= -OUTSIDE and high <= 1 + OUTSIDE):  # also where one of them is not a number
        raise DatasetUnavailable(
            f"{shown} has floating-point values from {low:.4g} to {high:.4g}; accepted are values from 0 to 1: "
            "scale them, or save it with 8 or 16 bits."
        )
    return samples.clip(0, 1)
