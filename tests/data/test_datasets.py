"""Private batches: what is picked, how files are read, and what is said when a data set cannot be had."""

from __future__ import annotations

import hashlib
import io
import pickle
import tarfile
import urllib.request
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from deepleak_core.data import datasets, samples
from deepleak_core.data.batches import load_batch, pick
from deepleak_core.data.datasets import DATASETS
from deepleak_core.data.downloads import fetch
from deepleak_core.data.images import open_image, to_tensor
from deepleak_core.errors import DatasetUnavailable, UnsupportedScenario
from deepleak_core.scenario import Scenario

BUNDLED = [name for name, dataset in DATASETS.items() if dataset.bundled]


def picture(path: Path, size: tuple[int, int] = (40, 30), colour: str = "red", **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **options)
    return path


# ------------------------------------------------------------------------------------------------ the samples


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_samples_are_twenty_different_real_images(name: str) -> None:
    batch = load_batch(Scenario(dataset=name, indices=tuple(range(20))))
    assert batch.images.shape == (20, 3, 32, 32)
    assert batch.images.min() >= 0 and batch.images.max() <= 1
    assert len({image.numpy().tobytes() for image in batch.images}) == 20
    assert all(image.std() > 0.05 for image in batch.images)
    assert all(0 <= y < len(batch.class_names) for y in batch.labels)


def test_samples_have_their_own_names() -> None:
    batch = load_batch(Scenario(indices=(0, 1, 3, 4)))
    assert [batch.class_names[y] for y in batch.labels] == ["cat", "ship", "airplane", "frog"]
    frogs = load_batch(Scenario(indices=(4, 5, 7, 19)))
    assert {frogs.class_names[y] for y in frogs.labels} == {"frog"}


def test_the_size_is_the_scenarios() -> None:
    assert load_batch(Scenario(dataset="imagenet-samples", image_size=224, batch_size=1)).images.shape[2:] == (224, 224)


def test_cifar_pixels_arrive_unchanged() -> None:
    """At its own resolution an image is its file, value by value: pixel-exactness means something."""
    path, _ = samples.sample_files("cifar10")[3]
    images = load_batch(Scenario(indices=(3,))).images
    assert np.array_equal((images[0].permute(1, 2, 0) * 255).numpy(), np.asarray(Image.open(path)).astype(np.float32))


# -------------------------------------------------------------------------------------------------- picking

GROUPS: dict[str, Callable[[int], list[int]]] = {
    "distinct": lambda n: [1] * n,
    "pair": lambda n: [2] + [1] * (n - 2),
    "half": lambda n: [n // 2] * 2,
    "same": lambda n: [n],
}


@settings(deadline=None)
@given(
    labels=st.lists(st.integers(0, 9), min_size=40, max_size=80),
    composition=st.sampled_from(sorted(GROUPS)),
    size=st.integers(1, 3).map(lambda n: 2 * n),
    seed=st.integers(0, 2**31 - 1),
    draw=st.integers(0, 1000),
)
def test_a_composition_is_what_it_says_or_refused(
    labels: list[int], composition: str, size: int, seed: int, draw: int
) -> None:
    scenario = Scenario(composition=composition, batch_size=size, seed=seed)
    groups = GROUPS[composition](size)
    available = sorted(Counter(labels).values(), reverse=True)
    try:
        picked = pick(scenario, labels, draw=draw)
    except UnsupportedScenario:
        assert len(available) < len(groups) or any(
            have < want for have, want in zip(available, groups, strict=False)
        ), "refused though there were enough images"
        return
    assert len(set(picked)) == size
    assert sorted(Counter(labels[i] for i in picked).values(), reverse=True) == groups
    assert pick(scenario, labels, draw=draw) == picked


def test_draws_and_seeds_give_other_batches() -> None:
    labels = [i % 10 for i in range(1000)]
    for composition in ("distinct", "pair", "half", "same", "random"):
        scenario = Scenario(composition=composition)
        assert len({pick(scenario, labels, draw=draw) for draw in range(10)}) == 10
        assert len({pick(scenario.changed(seed=seed), labels) for seed in range(10)}) == 10


def test_named_images_are_taken_in_their_order_whatever_the_draw() -> None:
    assert {pick(Scenario(indices=(5, 0, 3)), range(9), draw=draw) for draw in range(5)} == {(5, 0, 3)}


def test_labels_are_classes_in_any_spelling() -> None:
    batch = load_batch(Scenario(labels=("Cat", "8", "FROG", "frog")))
    assert [batch.class_names[y] for y in batch.labels] == ["cat", "ship", "frog", "frog"]
    assert len(set(batch.indices)) == 4
    batch = load_batch(Scenario(dataset="cifar100-samples", labels=(DATASETS["cifar100"].class_names[23],)))
    assert batch.labels.tolist() == [23]


def test_a_skewed_draw_gives_what_there_is_and_the_same_again() -> None:
    for size in (1, 6, 20):  # 20 is all there is
        scenario = Scenario(composition="skewed", batch_size=size)
        batches = [load_batch(scenario, draw=draw) for draw in range(4)]
        assert all(len(set(batch.indices)) == size == len(batch.labels) for batch in batches)
        assert batches[1].indices == load_batch(scenario, draw=1).indices
    with pytest.raises(UnsupportedScenario, match=r"cannot give 21 images \(skewed draw\): it has 20"):
        load_batch(Scenario(composition="skewed", batch_size=21))


def test_a_skewed_draw_is_less_even_than_a_random_one() -> None:
    """The chance that two images of a batch share a class, on average over draws from many images of each."""
    available = [label for label in range(10) for _ in range(100)]

    def shared(composition: str) -> float:
        chances = []
        for seed in range(40):
            picked = pick(Scenario(composition=composition, batch_size=20, seed=seed), available)
            counts = np.bincount([available[i] for i in picked])
            chances.append((counts * (counts - 1)).sum() / (20 * 19))
        return float(np.mean(chances))

    assert shared("random") < 0.12  # 1 / 10
    assert 0.18 < shared("skewed") < 0.35  # (1 + a) / (1 + 10 a) = 0.25 at a = 0.5


# ---------------------------------------------------------------------------------------------- own folders


def test_a_folder_of_class_folders(tmp_path: Path) -> None:
    for name, colour in (("owl", "red"), ("elk", "blue"), ("yak", "lime")):
        picture(tmp_path / name / "a.png", colour=colour)
        picture(tmp_path / name / "b.JPG", colour=colour)
    (tmp_path / "elk" / "notes.txt").write_text("no image")
    batch = load_batch(Scenario(dataset="folder", images=str(tmp_path), labels=("yak", "elk", "elk")))
    assert batch.class_names == ("elk", "owl", "yak")
    assert batch.labels.tolist() == [2, 0, 0]
    assert batch.images[0, :, 16, 16].tolist() == pytest.approx([0, 1, 0], abs=0.02)


def test_a_folder_may_borrow_the_classes_of_a_data_set(tmp_path: Path) -> None:
    picture(tmp_path / "005_n01443537_goldfish" / "a.png")
    picture(tmp_path / "Ship" / "a.png")
    batch = load_batch(Scenario(images=str(tmp_path), batch_size=2))
    assert sorted(batch.labels.tolist()) == [5, 8] and batch.class_names == DATASETS["cifar10"].class_names


def test_photos_are_turned_upright_and_lose_their_metadata(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees
    exif[0x013B] = "A. Photographer"
    photo = open_image(picture(tmp_path / "photo.jpg", size=(40, 30), exif=exif))
    assert photo.size == (30, 40)
    assert not photo.getexif()


def test_images_are_cropped_in_the_middle(tmp_path: Path) -> None:
    wide = Image.new("RGB", (96, 32), "red")
    wide.paste("lime", (32, 0, 64, 32))
    square = to_tensor(wide, 32)
    assert torch.equal(square, torch.tensor([0.0, 1.0, 0.0]).view(3, 1, 1).expand(3, 32, 32))


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG file of a few bytes whose header promises a large picture."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([8, 2, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (png_that_claims(8000, 8000), "x.png has 64 million pixels, the limit is 50 million; make it smaller."),
        (png_that_claims(50_000, 50_000), "x.png could not be read as an image (Image size (2500000000 pixels)"),
        (b"no image at all", "x.png could not be read as an image (cannot identify image file"),
    ],
    ids=["large", "bomb", "text"],
)
def test_files_that_are_no_fair_image(tmp_path: Path, content: bytes, sentence: str) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(DatasetUnavailable) as refusal:
        open_image(tmp_path / "x.png")
    assert str(refusal.value).startswith(sentence)


# ------------------------------------------------------------------------------------------------- refusals


def empty(path: Path) -> dict[str, Any]:
    return {"dataset": "folder", "images": str(path)}


def without_images(path: Path) -> dict[str, Any]:
    (path / "elk").mkdir()
    return {"dataset": "folder", "images": str(path)}


def strange_classes(path: Path) -> dict[str, Any]:
    picture(path / "unicorn" / "a.png")
    return {"images": str(path)}


REFUSALS: dict[str, tuple[dict[str, Any] | Callable[[Path], dict[str, Any]], str]] = {
    "data set": (
        {"dataset": "mnist"},
        "dataset was 'mnist'; accepted are cifar10-samples, cifar100-samples, imagenet-samples, cifar10, cifar100, "
        "folder.",
    ),
    "index": ({"indices": (3, 20)}, "indices were 3,20; cifar10-samples has the images 0 to 19."),
    "class": (
        {"labels": ("cat", "unicorn")},
        "labels had unicorn; cifar10-samples knows the classes airplane, automobile, bird, cat, deer, dog, frog, "
        "horse, ship, truck or their numbers.",
    ),
    "too many of a class": (
        {"labels": ("cat",) * 9},
        "labels ask for 9 images of cat, cifar10-samples has 2; ask for fewer.",
    ),
    "too many of all": (
        {"composition": "random", "batch_size": 21},
        "cifar10-samples cannot give 21 images (random draw): it has 20; make the batch smaller.",
    ),
    "too many distinct": (
        {"batch_size": 11},
        "cifar10-samples cannot give 11 images (all different): no further class has an image left; make the batch "
        "smaller.",
    ),
    "too many of one": (
        {"composition": "same", "batch_size": 9},
        "cifar10-samples cannot give 9 images (all the same): no class has 9 images; make the batch smaller.",
    ),
    "no folder": (
        {"dataset": "folder", "images": "/nowhere/at/all"},
        "images was '/nowhere/at/all', which is no folder; name a folder of class folders.",
    ),
    "folder without classes": (
        empty,
        "{folder} has no class folders; put the images of each class into a folder named after it.",
    ),
    "folder without images": (
        without_images,
        "{folder} holds no images; accepted are .bmp .jpeg .jpg .pgm .png .ppm .tif .tiff .webp.",
    ),
    "folder with other classes": (
        strange_classes,
        "{folder} has class folders that cifar10-samples does not know: unicorn; name them after its classes or their "
        "numbers, or take dataset 'folder'.",
    ),
}


@pytest.mark.parametrize(("values", "sentence"), REFUSALS.values(), ids=REFUSALS.keys())
def test_refusals_say_what_was_given_and_what_there_is(values: Any, sentence: str, tmp_path: Path) -> None:
    scenario = Scenario(**(values(tmp_path) if callable(values) else values))
    with pytest.raises((UnsupportedScenario, DatasetUnavailable)) as refusal:
        load_batch(scenario)
    assert str(refusal.value) == sentence.format(folder=tmp_path)


def test_without_the_package_of_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    samples.sample_files.cache_clear()
    monkeypatch.setattr(samples.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DatasetUnavailable, match="foolbox, which is not installed; pip install foolbox"):
        load_batch(Scenario())


# ------------------------------------------------------------------------------------------------ downloads


def test_a_download_tells_how_far_it_is_and_is_kept(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    source, target = tmp_path / "source.bin", tmp_path / "cache" / "target.bin"
    source.write_bytes(content)
    md5 = hashlib.md5(content).hexdigest()
    told = list(fetch("some", source.as_uri(), target, md5=md5))
    assert target.read_bytes() == content
    assert told[-1].bytes_done == told[-1].bytes_total == len(content)
    assert [e.bytes_done for e in told] == sorted(e.bytes_done for e in told)
    source.unlink()
    assert list(fetch("some", source.as_uri(), target, md5=md5)) == []  # there, and right: no network


def test_a_download_that_is_not_what_was_promised_is_dropped(tmp_path: Path) -> None:
    source, target = tmp_path / "source.bin", tmp_path / "cache" / "target.bin"
    source.write_bytes(b"tampered")
    with pytest.raises(OSError, match="checksum"):
        list(fetch("some", source.as_uri(), target, md5="0" * 32))
    assert list(target.parent.iterdir()) == []


@pytest.fixture
def tiny_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """CIFAR-10's test split with 12 images, as an archive torchvision accepts, at a file: address."""
    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path / "cache"))
    rows = np.random.default_rng(0).integers(0, 256, (12, 3 * 32 * 32), dtype=np.uint8)
    files = {
        "test_batch": pickle.dumps({"data": rows, "labels": [i % 10 for i in range(12)]}),
        "batches.meta": pickle.dumps({"label_names": list(DATASETS["cifar10"].class_names)}),
    }
    archive = tmp_path / "cifar.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in files.items()}
    kind = torchvision.datasets.CIFAR10
    monkeypatch.setattr(kind, "url", archive.as_uri())
    monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(kind, "train_list", [])
    monkeypatch.setattr(kind, "test_list", [["test_batch", md5["test_batch"]]])
    monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": md5["batches.meta"]})
    yield archive


def test_a_downloaded_data_set(tiny_cifar10: Path) -> None:
    scenario = Scenario(dataset="cifar10", indices=(11, 0))
    with pytest.raises(DatasetUnavailable, match=r"^cifar10 is not in .*; the bundled samples work offline\.$"):
        load_batch(scenario)
    told = list(datasets.prepare(scenario))
    assert told[-1].bytes_done == tiny_cifar10.stat().st_size
    assert load_batch(scenario).labels.tolist() == [1, 0]
    tiny_cifar10.unlink()
    assert list(datasets.prepare(scenario)) == []


def test_no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path))
    monkeypatch.setattr(urllib.request, "urlopen", unreachable)
    with pytest.raises(DatasetUnavailable) as refusal:
        list(datasets.prepare(Scenario(dataset="cifar100")))
    assert str(refusal.value) == (
        f"cifar100 could not be downloaded from {torchvision.datasets.CIFAR100.url} "
        "(<urlopen error no route to host>); the bundled cifar100-samples work offline."
    )


@pytest.mark.parametrize("values", [{}, {"dataset": "cifar10", "images": "anywhere"}])
def test_nothing_is_downloaded_that_is_not_needed(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("went to the network"))
    assert list(datasets.prepare(Scenario(**values))) == []
