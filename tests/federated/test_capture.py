"""Cases as files: what is saved is loaded again, and what does not fit is refused in a sentence."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepleak_core import capture, infer_labels, reconstruct
from deepleak_core.errors import DeepLeakError, UnsupportedScenario, UnusableUpdate
from deepleak_core.events import LabelsInferred, Snapshot
from deepleak_core.federated.case import Case, observe
from deepleak_core.federated.client import LocalTraining
from deepleak_core.federated.models import build
from deepleak_core.scenario import Scenario
from tests.helpers import all_of, case_of, end_of, only, random_images

ROUNDS: dict[str, dict[str, Any]] = {
    "FedSGD": {},
    "no bias": {"head_bias": False},
    "larger images": {"image_size": 40},
    "FedAvg": {
        "mode": "fedavg",
        "local_epochs": 3,
        "local_batch_size": 1,
        "local_lr": 0.05,
        "local_momentum": 0.5,
        "local_order": "unknown",
    },
    "BatchNorm": {"model": "resnet20"},
    "BatchNorm of the batch": {"model": "resnet20", "batchnorm": "train"},
    "BatchNorm and FedAvg": {"model": "resnet20", "mode": "fedavg", "local_lr": 0.1},
    "trained": {"stage": "late"},
    "a hundred classes": {"dataset": "cifar100-samples"},
}


class Files:
    """The two files of a case."""

    def __init__(self, folder: Path, case: Case | None = None):
        self.weights, self.update = folder / "weights.safetensors", folder / "update.safetensors"
        if case is not None:
            capture.save(case, self.weights, self.update)

    def load(self, model: str = "lenet64-elu", **facts: Any) -> Case:
        return capture.load(self.weights, self.update, model, **facts)

    def rewrite(
        self,
        which: str,
        change: Callable[[dict[str, Tensor]], Any] = lambda tensors: None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        """Change tensors of a file and, where given, its facts."""
        path = getattr(self, which)
        tensors = load_file(path)
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
        change(tensors)
        if facts is not None:
            metadata["deepleak"] = json.dumps(json.loads(metadata["deepleak"]) | facts)
        save_file(tensors, path, metadata)


@pytest.fixture(scope="module")
def case() -> Case:
    return observe(Scenario(indices=(0, 4), device="cpu"))[0]


@pytest.fixture
def files(tmp_path: Path, case: Case) -> Files:
    return Files(tmp_path, case)


# ------------------------------------------------------------------------------------------- there and back


@pytest.mark.parametrize("settings", ROUNDS.values(), ids=ROUNDS.keys())
def test_a_case_survives_its_files(settings: dict[str, Any], tmp_path: Path) -> None:
    scenario = Scenario(batch_size=2, device="cpu", **settings)
    case, _ = observe(scenario)
    loaded = Files(tmp_path, case).load(scenario.model)
    assert loaded.update.local == case.update.local
    assert loaded.update.batch_size == 2
    for name in ("class_names", "image_shape", "trained"):
        assert getattr(loaded, name) == getattr(case, name)
    assert loaded.model.training == case.model.training
    for before, after in ((case.model.state_dict(), loaded.model.state_dict()), (case.gradient, loaded.gradient)):
        assert before.keys() == after.keys()
        assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    images = random_images(2, *case.image_shape)
    assert torch.equal(loaded.model(images), case.model(images))


def test_greyscale_cases_survive_their_files(tmp_path: Path) -> None:
    model = build("lenet", classes=4, image_size=32, mean=(0.3,), std=(0.2,))
    grey = case_of(model, random_images(3, 1, 32, 32), torch.tensor([0, 1, 3]))
    assert Files(tmp_path, grey).load("lenet").image_shape == (1, 32, 32)


@pytest.mark.parametrize("attack", ["general-deep-leakage", "exact"])
def test_a_loaded_case_is_attacked_like_the_observed_one(case: Case, files: Files, attack: str) -> None:
    observed, loaded = (list(reconstruct(one, attack, iterations=2)) for one in (case, files.load()))
    assert only(LabelsInferred, loaded).counts == only(LabelsInferred, observed).counts
    last, expected = all_of(Snapshot, loaded)[-1], all_of(Snapshot, observed)[-1]
    assert np.array_equal(last.images, expected.images)
    assert last.residual == expected.residual
    assert end_of(loaded).score is None


def test_labels_can_be_inferred_of_a_loaded_case(files: Files) -> None:
    assert infer_labels(files.load(), "idlg").counts.tolist() == [0, 0, 0, 1, 0, 0, 1, 0, 0, 0]


def test_nothing_of_the_private_batch_is_in_the_files(files: Files, case: Case) -> None:
    assert set(load_file(files.weights)) == set(case.model.state_dict())
    assert set(load_file(files.update)) == set(case.gradient)
    with safe_open(files.update, "pt") as file:
        (facts,) = (file.metadata() or {}).values()
    assert set(json.loads(facts)) == {
        "batch_size", "local", "class_names", "image_size", "mean", "std", "trained", "batchnorm",
    }  # fmt: skip


# ----------------------------------------------------------------------------------------------------- facts


def test_files_of_another_system_need_facts(files: Files) -> None:
    for path in (files.weights, files.update):
        save_file(load_file(path), path)  # without metadata
    with pytest.raises(UnusableUpdate, match="batch_size"):
        files.load()
    case = files.load(batch_size=2)
    assert case.update.local is None
    assert case.class_names[3] == "cat"
    assert not case.trained


def test_facts_that_are_given_go_before_those_of_the_file(files: Files) -> None:
    local = LocalTraining(epochs=1, batch_size=2, lr=0.1)
    names = [f"kind {n}" for n in range(10)]
    facts = {"batch_size": 3, "local": local, "class_names": names, "trained": True, "batchnorm": "train"}
    loaded = files.load(**facts, statistics=((0.5,) * 3, (0.25,) * 3))
    assert (loaded.update.batch_size, loaded.update.local) == (3, local)
    assert loaded.class_names == tuple(names)
    assert loaded.trained
    assert loaded.model.training
    assert loaded.model.mean.flatten().tolist() == [0.5] * 3


def test_classes_without_names_are_numbered(tmp_path: Path) -> None:
    model = build("lenet", classes=4, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3)
    files = Files(tmp_path, case_of(model, random_images(2, 3, 32, 32), torch.tensor([0, 3])))
    save_file(load_file(files.update), files.update)
    assert len(set(files.load("lenet", batch_size=2).class_names)) == 4


def test_the_batchnorm_statistics_of_a_state_dict_as_update_are_not_needed(tmp_path: Path) -> None:
    """Clients of many systems send the whole state, running statistics included."""
    case, _ = observe(Scenario(indices=(0, 4), model="resnet20", mode="fedavg", local_lr=0.1))
    files = Files(tmp_path, case)
    state = load_file(files.weights)
    with safe_open(files.update, "pt") as file:
        metadata = file.metadata()
    save_file(state | load_file(files.update), files.update, metadata)
    assert files.load("resnet20").gradient.keys() == case.gradient.keys()


# -------------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize("which", ["weights", "update"])
@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 a pickle in a zip", b"\xff" * 100])
def test_files_that_are_no_safetensors(files: Files, which: str, content: bytes | None) -> None:
    path = getattr(files, which)
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnusableUpdate, match=which):
        files.load(batch_size=2)


@pytest.mark.parametrize("model", ["lenet", "lenet64-relu", "resnet20", "convnet"])
def test_another_network(files: Files, model: str) -> None:
    if model == "lenet64-relu":  # the same tensors: only the activation differs, which no file shows
        files.load(model)
        return
    with pytest.raises(UnusableUpdate, match=r"body\."):
        files.load(model)


def test_an_unknown_network(files: Files) -> None:
    with pytest.raises(UnsupportedScenario, match="vgg"):
        files.load("vgg")


TENSORS: dict[str, tuple[str, Callable[[dict[str, Tensor]], Any], str]] = {
    "no last layer": ("update", lambda t: t.pop("head.weight"), "head.weight"),
    "no last layer in the weights": ("weights", lambda t: t.pop("head.weight"), "head.weight"),
    "a last layer that is no matrix": ("update", lambda t: t.update({"head.weight": torch.tensor(1.0)}), "head.weight"),
    "a missing layer": ("update", lambda t: t.pop("body.0.weight"), "body.0.weight"),
    "a missing layer in the weights": ("weights", lambda t: t.pop("body.2.bias"), "body.2.bias"),
    "an additional tensor": ("update", lambda t: t.update(extra=torch.zeros(3)), "extra"),
    "another shape": ("update", lambda t: t.update({"body.0.bias": torch.zeros(3)}), "body.0.bias"),
    "other names": ("update", lambda t: t.update({"fc.weight": t.pop("head.weight")}), "fc.weight"),
    "a bias in one file only": ("update", lambda t: t.pop("head.bias"), "head.bias"),
    "not a number": ("update", lambda t: t["body.0.bias"].fill_(float("nan")), "not finite"),
    "infinite": ("update", lambda t: t["body.0.bias"].fill_(float("inf")), "not finite"),
    "nothing but zeros": ("update", lambda t: [tensor.zero_() for tensor in t.values()], "zero"),
}


@pytest.mark.parametrize(("which", "change", "fact"), TENSORS.values(), ids=TENSORS.keys())
def test_tensors_that_do_not_fit(
    files: Files, which: str, change: Callable[[dict[str, Tensor]], Any], fact: str
) -> None:
    files.rewrite(which, change)
    with pytest.raises(UnusableUpdate) as refusal:
        files.load()
    assert fact in str(refusal.value)
    assert len(str(refusal.value)) < 400


FACTS: dict[str, tuple[dict[str, Any], str]] = {
    "batch size": ({"batch_size": "many"}, "batch_size"),
    "an empty batch": ({"batch_size": 0}, "batch_size"),
    "no batch size": ({"batch_size": None}, "batch_size"),
    "image size": ({"image_size": "large"}, "image_size"),
    "no pixels": ({"image_size": 0}, "image_size"),
    "more pixels than anybody has": ({"image_size": 10**9}, "image_size"),
    "another image size": ({"image_size": 64}, "head.weight"),
    "mean": ({"mean": [0.5, "x", 0.5]}, "mean"),
    "more means than deviations": ({"mean": [0.5] * 4}, "mean and std"),
    "a deviation of zero": ({"std": [0.0] * 3}, "std"),
    "a deviation that is no number": ({"std": [float("nan")] * 3}, "std"),
    "no channels": ({"mean": [], "std": []}, "mean"),
    "class names": ({"class_names": 3}, "class_names"),
    "too few class names": ({"class_names": ["cat"]}, "class names"),
    "local training": ({"local": {"epochs": 1}}, "local"),
    "no local steps": ({"local": {"epochs": 0, "batch_size": 1, "lr": 0.1}}, "local"),
    "momentum without end": ({"local": {"epochs": 1, "batch_size": 1, "lr": 0.1, "momentum": 1.0}}, "local"),
    "a learning rate of zero": ({"local": {"epochs": 1, "batch_size": 1, "lr": 0.0}}, "local"),
    "BatchNorm": ({"batchnorm": "perhaps"}, "batchnorm"),
}


@pytest.mark.parametrize(("facts", "name"), FACTS.values(), ids=FACTS.keys())
def test_facts_that_cannot_be(files: Files, facts: dict[str, Any], name: str) -> None:
    files.rewrite("update", facts=facts)
    with pytest.raises(UnusableUpdate) as refusal:
        files.load()
    assert name in str(refusal.value)
    assert len(str(refusal.value)) < 400


@pytest.mark.parametrize("text", ["nonsense", "[1, 2]", "[" * 100_000, "3"])
def test_metadata_that_cannot_be_read_are_none(files: Files, text: str) -> None:
    save_file(load_file(files.update), files.update, {"deepleak": text})
    with pytest.raises(UnusableUpdate, match="batch_size"):
        files.load()
    assert files.load(batch_size=2).update.batch_size == 2


def test_a_network_that_does_not_take_images_of_this_size(tmp_path: Path) -> None:
    case, _ = observe(Scenario(indices=(0, 4), model="convnet"))
    files = Files(tmp_path, case)
    with pytest.raises(DeepLeakError):
        files.load("convnet", image_size=4)


def test_weights_after_training_that_hold_no_update(tmp_path: Path) -> None:
    case, _ = observe(Scenario(indices=(0, 4), mode="fedavg", local_lr=0.1))
    files = Files(tmp_path, case)
    files.update.write_bytes(files.update.read_bytes())
    files.rewrite("update", lambda t: t.update(load_file(files.weights)))
    with pytest.raises(UnusableUpdate, match="zero"):
        files.load()
