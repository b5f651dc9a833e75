"""Reading image files: every depth and format looks as it should, and nothing else is read."""

from __future__ import annotations

import io
import os
import struct
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from deepleak_core.data import images
from deepleak_core.data.images import IMAGE_SUFFIXES, open_image, to_tensor
from deepleak_core.errors import DatasetUnavailable
from tests.data.pictures import photo, picture, png_that_claims


def saved(path: Path, image: Image.Image, **options: Any) -> Path:
    image.save(path, **options)
    return path


# --------------------------------------------------------------------------------------------------- bit depths


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm", ".jp2"])
def test_16_bits_look_like_8(tmp_path: Path, suffix: str) -> None:
    grey = photo()
    path = saved(tmp_path / f"x{suffix}", Image.fromarray(grey.astype(np.uint16) * 257))
    read = open_image(path)
    assert read.mode == "L"
    np.testing.assert_array_equal(np.asarray(read), grey)
    assert to_tensor(read, 32).shape == (3, 32, 32)
    assert to_tensor(read, 32, 1).shape == (1, 32, 32)


@given(value=st.integers(0, 65535))
def test_16_bits_are_rounded(tmp_path_factory: pytest.TempPathFactory, value: int) -> None:
    path = tmp_path_factory.mktemp("x") / "x.png"
    saved(path, Image.fromarray(np.full((2, 2), value, np.uint16)))
    assert abs(open_image(path).getpixel((0, 0)) / 255 - value / 65535) <= 0.5 / 255 + 1e-9


def tiff(values: np.ndarray, bits: int, *, order: str = "<", white_is_zero: bool = False, kind: int = 1) -> bytes:
    """A greyscale TIFF file with one strip; `kind` is 1 for whole numbers and 3 for floating-point ones."""
    height, width = values.shape
    if bits == 12:  # two values in three bytes
        pairs = values.reshape(-1, 2).astype(np.uint16)
        packed = np.stack([pairs[:, 0] >> 4, (pairs[:, 0] & 15) << 4 | pairs[:, 1] >> 8, pairs[:, 1] & 255], 1)
        strip = packed.astype(np.uint8).tobytes()
    else:
        strip = values.astype(f"{order}{'f' if kind == 3 else 'u'}{bits // 8}").tobytes()
    tags = {256: width, 257: height, 258: bits, 259: 1, 262: 0 if white_is_zero else 1}
    tags |= {273: 8 + 2 + 12 * 10 + 4, 277: 1, 278: height, 279: len(strip), 339: kind}
    head = (b"II" if order == "<" else b"MM") + struct.pack(f"{order}HIH", 42, 8, len(tags))
    entries = b"".join(struct.pack(f"{order}HHII", tag, 4, 1, value) for tag, value in tags.items())
    return head + entries + bytes(4) + strip


@pytest.mark.parametrize(
    ("highest", "options"),
    [
        (65535, {"bits": 16, "order": ">"}),
        (65535, {"bits": 16, "white_is_zero": True}),
        (4095, {"bits": 12}),
        (1, {"bits": 32, "kind": 3, "order": ">"}),
        (1, {"bits": 32, "kind": 3, "white_is_zero": True}),
    ],
)
def test_tiff_of_every_depth_and_order(tmp_path: Path, highest: int, options: dict[str, Any]) -> None:
    grey = photo()
    shown = 255 - grey if options.get("white_is_zero") else grey
    values = shown / 255 * highest
    (tmp_path / "x.tif").write_bytes(tiff(values if highest == 1 else values.round(), **options))
    np.testing.assert_array_equal(np.asarray(open_image(tmp_path / "x.tif")), grey)


def test_16_bits_a_channel(tmp_path: Path) -> None:
    """P6 with values up to 65535, which stores three of them a pixel."""
    colours = photo(channels=3)
    path = tmp_path / "x.ppm"
    path.write_bytes(b"P6 40 30 65535\n" + (colours.astype(">u2") * 257).astype(">u2").tobytes())
    np.testing.assert_array_equal(np.asarray(open_image(path)), colours)


def test_1_bit_and_palettes(tmp_path: Path) -> None:
    black_and_white = Image.fromarray(photo()).point(lambda value: 255 * (value > 127)).convert("1")
    for suffix in (".png", ".tif", ".pbm", ".gif"):
        read = open_image(saved(tmp_path / f"x{suffix}", black_and_white))
        np.testing.assert_array_equal(np.asarray(read.convert("L")), np.asarray(black_and_white.convert("L")))
    colours = Image.fromarray(photo(channels=3)).quantize(16)
    for suffix in (".png", ".gif", ".bmp"):
        read = open_image(saved(tmp_path / f"y{suffix}", colours))
        np.testing.assert_array_equal(np.asarray(read), np.asarray(colours.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    image.paste((0, 0, 0, 255), (0, 0, 4, 2))
    read = open_image(saved(tmp_path / "x.png", image.convert(mode) if mode != "P" else image.quantize(2)))
    assert read.mode == ("L" if mode == "LA" else "RGB")
    tensor = to_tensor(read, 4)
    assert tensor[:, :2].max() == 0
    assert tensor[:, 2:].min() == 1


@pytest.mark.parametrize("suffix", [".tif", ".pfm"])
def test_floating_point_values_from_0_to_1(tmp_path: Path, suffix: str) -> None:
    grey = photo()
    path = saved(tmp_path / f"x{suffix}", Image.fromarray(grey.astype(np.float32) / 255))
    np.testing.assert_array_equal(np.asarray(open_image(path)), grey)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -1.0, 1.1, 255.0])
def test_other_floating_point_values_are_refused(tmp_path: Path, value: float) -> None:
    values = photo().astype(np.float32) / 255
    values[3, 5] = value
    with pytest.raises(DatasetUnavailable, match=r"x\.tif has floating-point values .* accepted are"):
        open_image(saved(tmp_path / "x.tif", Image.fromarray(values)))


def test_integers_of_unknown_range_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailable, match="whose range is not known"):
        open_image(saved(tmp_path / "x.tif", Image.fromarray(photo().astype(np.int32))))


# ------------------------------------------------------------------------------------------------------ formats


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".pfm", ".qoi"}))
def test_every_suffix_is_one_that_is_read(tmp_path: Path, suffix: str) -> None:
    Image.init()
    image = Image.new("1" if suffix == ".pbm" else "L" if suffix == ".pgm" else "RGB", (40, 30), "white")
    assert to_tensor(open_image(saved(tmp_path / f"x{suffix}", image)), 32).mean() > 0.99


def test_of_an_animation_the_first_frame_is_read(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for suffix in (".gif", ".webp", ".png"):
        path = saved(tmp_path / f"x{suffix}", frames[0], save_all=True, append_images=frames[1:], lossless=True)
        assert to_tensor(open_image(path), 8)[:, 0, 0].tolist() == pytest.approx([1, 0, 0], abs=0.02)


def test_the_content_decides_about_the_format_and_programs_are_never_started(tmp_path: Path) -> None:
    picture(tmp_path / "x.png").rename(tmp_path / "x.jpg")
    assert open_image(tmp_path / "x.jpg").size == (40, 30)
    for suffix in (".eps", ".pdf"):  # Pillow would have Ghostscript read the first
        Image.new("RGB", (40, 30)).save(tmp_path / f"y{suffix}")
        (tmp_path / f"y{suffix}").rename(tmp_path / "y.jpg")
        with pytest.raises(DatasetUnavailable, match="in none of these formats"):
            open_image(tmp_path / "y.jpg")


def test_photos_are_turned_upright_and_lose_their_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees
    exif[0x013B] = "A. Photographer"
    upright = open_image(picture(tmp_path / "photo.jpg", size=(40, 30), exif=exif))
    assert upright.size == (30, 40)
    assert not upright.getexif()
    assert not upright.info


def test_images_are_cropped_in_the_middle() -> None:
    wide = Image.new("RGB", (96, 32), "red")
    wide.paste("lime", (32, 0, 64, 32))
    square = to_tensor(wide, 32)
    assert torch.equal(square, torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1).expand(3, 32, 32))


@settings(deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    side=st.integers(1, 48),
    mode=st.sampled_from(["1", "L", "P", "LA", "RGB", "RGBA", "CMYK", "YCbCr"]),
    channels=st.sampled_from([1, 3]),
)
def test_tensors_have_the_shape_and_range_that_is_asked_for(
    size: tuple[int, int], side: int, mode: str, channels: int
) -> None:
    image = Image.fromarray(photo(size[1], size[0], 3)).convert(mode)
    tensor = to_tensor(image, side, channels)
    assert tensor.shape == (channels, side, side)
    assert tensor.dtype == torch.float32
    assert tensor.min() >= 0
    assert tensor.max() <= 1
    assert torch.equal(tensor * 255, (tensor * 255).round())


def test_a_grey_image_is_the_same_in_one_channel_and_in_three() -> None:
    image = Image.fromarray(photo(32, 32))
    assert torch.equal(to_tensor(image, 32, 1).expand(3, 32, 32), to_tensor(image, 32, 3))


# ----------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (png_that_claims(8000, 8000), "x.png has 64 million pixels, the limit is 50 million; make it smaller."),
        (png_that_claims(50_000, 50_000), "x.png could not be read as an image (Image size (2500000000 pixels)"),
        (b"no image at all", "x.png could not be read as an image (it is in none of these formats)"),
        (b"", "x.png could not be read as an image (it is in none of these formats)"),
    ],
    ids=["large", "bomb", "text", "empty"],
)
def test_files_that_are_no_usable_image(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DatasetUnavailable) as refusal:
        open_image(tmp_path / "x.png")
    assert str(refusal.value).startswith(sentence)


def test_large_files_are_refused_before_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_BYTES", 50)
    with pytest.raises(DatasetUnavailable, match=r"x\.png has .* the limit is"):
        open_image(picture(tmp_path / "x.png"))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="has no named pipes")
def test_pipes_devices_and_folders_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "folder.jpg").mkdir()
    before = set(os.listdir("/dev/fd"))
    for path in (tmp_path / "pipe.jpg", tmp_path / "folder.jpg", Path("/dev/zero"), tmp_path / "missing.jpg"):
        with pytest.raises(DatasetUnavailable):
            open_image(path)
    assert set(os.listdir("/dev/fd")) == before, "a file was left open"


def test_a_refusal_names_the_file_as_it_is_called_and_escapes_control_characters(tmp_path: Path) -> None:
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(DatasetUnavailable, match=r"^cat/\\x1b\[31m\.png could not"):
        open_image(tmp_path / "x.png", name="cat/\x1b[31m.png")


FILES: dict[str, bytes] = {}
for name, mode in (("JPEG", "RGB"), ("PNG", "RGBA"), ("TIFF", "L"), ("GIF", "P"), ("BMP", "RGB"), ("WEBP", "RGB")):
    buffer = io.BytesIO()
    Image.fromarray(photo(9, 9, 3)).convert(mode).save(buffer, name)
    FILES[name] = buffer.getvalue()


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(data=st.data(), content=st.sampled_from(sorted(FILES)).map(FILES.__getitem__))
def test_damaged_files_are_read_or_refused(tmp_path: Path, data: st.DataObject, content: bytes) -> None:
    damaged = bytearray(content[: data.draw(st.integers(0, len(content)))])
    for _ in range(data.draw(st.integers(0, 4)) if damaged else 0):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    (tmp_path / "x.jpg").write_bytes(damaged)
    with suppress(DatasetUnavailable):
        assert open_image(tmp_path / "x.jpg").mode in ("L", "RGB")
