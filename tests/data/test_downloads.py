"""Downloads: progress, checksums, and torchvision's data sets from files of the tests' own."""

from __future__ import annotations

import gzip
import hashlib
import io
import pickle
import struct
import tarfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torchvision

from deepleak_core.data import datasets
from deepleak_core.data.batches import load_batch
from deepleak_core.data.datasets import DATASETS
from deepleak_core.data.downloads import fetch
from deepleak_core.errors import DatasetUnavailable
from deepleak_core.scenario import Scenario


def test_a_download_tells_how_far_it_is_and_is_kept(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    source, target = tmp_path / "source.bin", tmp_path / "cache" / "target.bin"
    source.write_bytes(content)
    md5 = hashlib.md5(content).hexdigest()
    reported = list(fetch("some", source.as_uri(), target, md5=md5))
    assert target.read_bytes() == content
    assert reported[-1].bytes_done == reported[-1].bytes_total == len(content)
    assert [e.bytes_done for e in reported] == sorted(e.bytes_done for e in reported)
    source.unlink()
    assert list(fetch("some", source.as_uri(), target, md5=md5)) == []  # there, and right: no network


def test_a_download_that_is_not_what_was_promised_is_dropped(tmp_path: Path) -> None:
    source, target = tmp_path / "source.bin", tmp_path / "cache" / "target.bin"
    source.write_bytes(b"tampered")
    with pytest.raises(OSError, match="checksum"):
        list(fetch("some", source.as_uri(), target, md5="0" * 32))
    assert list(target.parent.iterdir()) == []


@pytest.fixture
def tiny_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
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
    return archive


def test_a_downloaded_data_set(tiny_cifar10: Path) -> None:
    scenario = Scenario(dataset="cifar10", indices=(11, 0))
    with pytest.raises(DatasetUnavailable, match=r"^cifar10 is not in .*; the bundled samples work offline\.$"):
        load_batch(scenario)
    reported = list(datasets.prepare(scenario))
    assert reported[-1].bytes_done == tiny_cifar10.stat().st_size
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


@pytest.fixture(params=["mnist", "fashion-mnist"])
def tiny_mnist(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Twelve images in the format of MNIST at file: addresses, behind a mirror that does not answer."""
    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path / "cache"))
    pixels = np.random.default_rng(0).integers(0, 256, (12, 28, 28), dtype=np.uint8)
    contents = {
        "t10k-images-idx3-ubyte.gz": struct.pack(">HBBIII", 0, 8, 3, 12, 28, 28) + pixels.tobytes(),
        "t10k-labels-idx1-ubyte.gz": struct.pack(">HBBI", 0, 8, 1, 12) + bytes(i % 10 for i in range(12)),
    }
    resources = [("train-images-idx3-ubyte.gz", "not needed")]
    for name, content in contents.items():
        (tmp_path / name).write_bytes(gzip.compress(content))
        resources.append((name, hashlib.md5((tmp_path / name).read_bytes()).hexdigest()))
    kind = torchvision.datasets.MNIST if request.param == "mnist" else torchvision.datasets.FashionMNIST
    monkeypatch.setattr(kind, "mirrors", [(tmp_path / "nowhere").as_uri() + "/", tmp_path.as_uri() + "/"])
    monkeypatch.setattr(kind, "resources", resources)
    return str(request.param)


def test_greyscale_data_sets_are_downloaded_too(tiny_mnist: str, tmp_path: Path) -> None:
    scenario = Scenario(dataset=tiny_mnist, indices=(11, 0, 3))
    with pytest.raises(DatasetUnavailable, match="the bundled samples work offline"):
        load_batch(scenario)
    reported = list(datasets.prepare(scenario))
    assert {event.bytes_done for event in reported} == {path.stat().st_size for path in tmp_path.glob("t10k*")}
    batch = load_batch(scenario)
    assert batch.images.shape == (3, 1, 32, 32)
    assert batch.labels.tolist() == [1, 0, 3]
    for archive in tmp_path.glob("t10k*"):
        archive.unlink()
    assert list(datasets.prepare(scenario)) == []  # there already


def test_a_damaged_data_set_is_downloaded_again(tiny_mnist: str, tmp_path: Path) -> None:
    scenario = Scenario(dataset=tiny_mnist, indices=(0,))
    list(datasets.prepare(scenario))
    for path in tmp_path.glob("cache/**/t10k*ubyte*"):
        path.write_bytes(path.read_bytes()[:30])
    with pytest.raises(DatasetUnavailable):
        load_batch(scenario)
    assert list(datasets.prepare(scenario))
    assert load_batch(scenario).labels.tolist() == [0]


@pytest.mark.parametrize("values", [{}, {"dataset": "cifar10", "images": "anywhere"}])
def test_nothing_is_downloaded_that_is_not_needed(values: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(urllib.request, "urlopen", lambda *_, **__: pytest.fail("went to the network"))
    assert list(datasets.prepare(Scenario(**values))) == []
