"""Checkpoints: which files are training stages, what is said of them, and which are left out or refused."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model

from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated import checkpoints, models
from deepleak_core.federated.case import target_model
from deepleak_core.federated.class_statistics import ClassStatistics
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.runs.checks import check
from deepleak_core.runs.run import run
from deepleak_core.scenario import Scenario

SETTINGS: dict[str, Any] = {"classes": 10, "image_size": 32, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}


def build(name: str = "lenet", **changed: Any) -> TargetModel:
    return models.build(name, **{**SETTINGS, **changed})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in place of the package's checkpoints, and no own ones."""
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path / "data"))
    return tmp_path


def saved(folder: Path, name: str = "lenet", stage: str = "late", **changed: Any) -> Path:
    """A checkpoint of a network in a folder."""
    path = folder / checkpoints.checkpoint_name(name, "cifar10", stage)
    checkpoints.save(build(name, **changed), path, epochs=1, accuracy=0.5)
    return path


def test_a_checkpoint_is_a_training_stage(folder: Path) -> None:
    trained = build(seed=7)
    save_model(trained, str(folder / "lenet--cifar10--early.safetensors"))
    assert list(checkpoints.stages("lenet", "cifar10")) == ["untrained", "early"]
    assert list(checkpoints.stages("lenet", "cifar100")) == ["untrained"]
    model = build(seed=1, checkpoint=checkpoints.stages("lenet", "cifar10")["early"])
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True))


def test_a_stage_trained_here_replaces_one_of_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPLEAK_DATA", str(tmp_path))
    shipped = checkpoints.stages("lenet64-elu", "cifar10")
    assert shipped["late"] is not None
    assert shipped["late"].parent == checkpoints.CHECKPOINTS
    checkpoints.own_folder().mkdir()
    own = [saved(checkpoints.own_folder(), "lenet64-elu", stage) for stage in ("late", "last")]
    stages = checkpoints.stages("lenet64-elu", "cifar10")
    assert stages.keys() == shipped.keys() | {"last"}
    assert stages["early"] == shipped["early"]
    assert [stages["late"], stages["last"]] == own


@pytest.mark.parametrize("name", ["lenet", "resnet20"])
def test_weights_statistics_and_predictions_survive(folder: Path, name: str) -> None:
    model = build(name, seed=3)
    for tensor in model.buffers():
        tensor.copy_(tensor + 1)
    probabilities = torch.rand(40, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).softmax(1)
    statistics = ClassStatistics.of(probabilities, torch.arange(40) % 10)
    path = folder / checkpoints.checkpoint_name(name, "cifar10", "late")
    checkpoints.save(model, path, epochs=2, accuracy=0.25, statistics=statistics)
    read = build(name, checkpoint=path)
    persistent = {n: t for n, t in model.state_dict().items() if "num_batches" not in n}
    assert all(torch.equal(read.state_dict()[n], t) for n, t in persistent.items())
    assert read.class_statistics is not None
    torch.testing.assert_close(read.class_statistics.predictions, statistics.predictions, atol=1e-7, rtol=0)
    assert build(name).class_statistics is None


def test_equal_trainings_give_equal_files(folder: Path) -> None:
    assert saved(folder, stage="one").read_bytes() == saved(folder, stage="two").read_bytes()


@pytest.mark.parametrize(("epochs", "accuracy", "facts"), [(0.2507, 0.4208, ("0.25", "42")), (120, 1, ("120", "100"))])
def test_the_training_is_described(folder: Path, epochs: float, accuracy: float, facts: tuple[str, ...]) -> None:
    path = folder / "resnet20--cifar10--late.safetensors"
    checkpoints.save(build("resnet20"), path, epochs=epochs, accuracy=accuracy)
    assert all(fact in checkpoints.describe(path) for fact in facts)
    assert checkpoints.note("late", path).startswith("late")
    assert checkpoints.describe(path) in checkpoints.note("late", path)


# ------------------------------------------------------------------------------- files that are no checkpoints


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor]], Any], metadata: dict[str, str]) -> None:
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata)


def enlarge(tensors: dict[str, torch.Tensor]) -> None:
    tensors["head.bias"] = tensors["head.bias"].double() + 1e300


NESTED = json.dumps({"epochs": 1, "accuracy": 0.5})[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
DEFECTS: dict[str, tuple[Callable[[dict[str, torch.Tensor]], Any], dict[str, str]]] = {
    "no last layer": (lambda tensors: tensors.pop("head.weight"), {}),
    "not a number": (lambda tensors: tensors["body.0.weight"].view(-1)[3].fill_(float("nan")), {}),
    "infinite": (lambda tensors: tensors["head.bias"][0].fill_(float("inf")), {}),
    "deeply nested metadata": (lambda tensors: None, {"training": NESTED}),
    "too large for the network's precision": (lambda tensors: enlarge(tensors), {}),
    "metadata that are too large": (lambda tensors: None, {"training": "[" + "1," * 2_100_000 + "1]"}),
}


@pytest.mark.parametrize(("change", "metadata"), DEFECTS.values(), ids=DEFECTS.keys())
def test_defective_files_are_no_stages_and_a_sentence_says_why(
    folder: Path, change: Callable[[dict[str, torch.Tensor]], Any], metadata: dict[str, str]
) -> None:
    path, good = saved(folder), saved(folder, stage="early")
    rewritten(path, change, metadata)
    assert list(checkpoints.stages("lenet", "cifar10")) == ["untrained", "early"]
    reason = checkpoints.defect(path)
    assert reason is not None
    assert reason.startswith(path.name)
    assert checkpoints.defect(good) is None
    assert checkpoints.describe(path)
    assert checkpoints.note("late", path)
    with pytest.raises(UnsupportedScenario, match="early"):
        check(Scenario(model="lenet", stage="late"))


@pytest.mark.parametrize("content", [b"", b"no weights", b"\xff" * 64, b"\xff" * 4 + bytes(4) + b"{" * 64])
def test_files_of_another_format_are_no_stages(folder: Path, content: bytes) -> None:
    path = folder / "lenet--cifar10--late.safetensors"
    path.write_bytes(content)
    assert list(checkpoints.stages("lenet", "cifar10")) == ["untrained"]
    assert checkpoints.defect(path) is not None
    with pytest.raises(UnsupportedScenario, match=path.name):
        build(checkpoint=path)


def test_a_folder_or_a_missing_file_is_no_stage(folder: Path) -> None:
    path = folder / "lenet--cifar10--late.safetensors"
    assert checkpoints.defect(path) is not None
    path.mkdir()
    assert list(checkpoints.stages("lenet", "cifar10")) == ["untrained"]


@pytest.mark.parametrize(
    "training",
    [
        "{}", "[]", "3", "nonsense", '{"epochs": "two", "accuracy": 1}', '{"epochs": null}', None,
        '{"epochs": NaN, "accuracy": 0.5}', '{"epochs": 1, "accuracy": Infinity}', '{"epochs": 1, "accuracy": [0.5]}',
        f'{{"epochs": 1{"0" * 400}, "accuracy": 0.5}}', '{"validation": "{\\"predictions\\": [[1e999]]}"}',
    ],
)  # fmt: skip
def test_metadata_that_say_nothing_leave_a_usable_stage(folder: Path, training: str | None) -> None:
    path = saved(folder)
    rewritten(path, lambda tensors: None, {} if training is None else {"training": training})
    assert list(checkpoints.stages("lenet", "cifar10")) == ["untrained", "late"]
    assert isinstance(checkpoints.describe(path), str)
    assert build(checkpoint=path).class_statistics is None


@pytest.mark.parametrize("stage", [b"\xff", b"untrained"])
def test_files_whose_names_are_no_stage_are_left_out(folder: Path, stage: bytes) -> None:
    path = saved(folder, stage="late")
    try:
        path = path.rename(Path(os.fsdecode(os.fsencode(str(path)).replace(b"late", stage))))
    except OSError:
        pytest.skip("this file system does not take such a name")
    assert checkpoints.stages("lenet", "cifar10") == {"untrained": None}
    assert checkpoints.defect(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_no_checkpoint_and_is_not_waited_for(folder: Path) -> None:
    os.mkfifo(folder / "lenet--cifar10--late.safetensors")
    assert checkpoints.stages("lenet", "cifar10") == {"untrained": None}


@pytest.mark.parametrize("shape", [(), (10,), (10, 2, 2), (3, 5)])
def test_a_last_layer_of_another_shape_is_refused(folder: Path, shape: tuple[int, ...]) -> None:
    path = saved(folder)
    rewritten(path, lambda tensors: tensors.update({"head.weight": torch.zeros(shape)}), {})
    with pytest.raises(UnsupportedScenario, match=r"head\.weight"):
        build(checkpoint=path)


def test_a_file_that_is_replaced_is_read_again(folder: Path) -> None:
    path = saved(folder)
    assert "late" in checkpoints.stages("lenet", "cifar10")
    rewritten(path, lambda tensors: tensors.pop("head.weight"), {})
    assert "late" not in checkpoints.stages("lenet", "cifar10")


# ------------------------------------------------------------------------------------- another network's file

MISFITS: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "image size": ({"image_size": 64}, ("image_size", "32")),
    "no bias": ({"head_bias": False}, ("bias", "head_bias")),
    "classes": ({"classes": 100}, ("10", "100")),
    "another network": ({"name": "resnet20"}, ("body.0.bias", "missing")),
    "other channels": ({"mean": (0.5,), "std": (0.2,)}, ("body.0.weight",)),
}


@pytest.mark.parametrize(("asked", "facts"), MISFITS.values(), ids=MISFITS.keys())
def test_a_checkpoint_of_another_network_is_refused(
    folder: Path, asked: dict[str, Any], facts: tuple[str, ...]
) -> None:
    path = saved(folder)
    with pytest.raises(UnsupportedScenario) as refusal:
        build(**{"checkpoint": path, **asked})
    (problem,) = refusal.value.problems
    assert problem.startswith(path.name)
    assert all(fact in problem for fact in facts)


def test_a_checkpoint_without_a_bias(folder: Path) -> None:
    path = saved(folder, head_bias=False)
    build(head_bias=False, checkpoint=path)
    with pytest.raises(UnsupportedScenario, match="bias"):
        build(checkpoint=path)


def test_a_checkpoint_that_does_not_fit_is_refused_before_the_run(folder: Path) -> None:
    trained = target_model(Scenario(seed=5))
    path = folder / "lenet64-elu--cifar10--late.safetensors"
    checkpoints.save(trained, path, epochs=5, accuracy=0.68)
    scenario = Scenario(stage="late", indices=(0,), max_iterations=1)
    check(scenario)
    assert next(run(scenario)).stage_note == checkpoints.note("late", path)  # type: ignore[union-attr]
    model = target_model(scenario)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), trained.parameters(), strict=True))
    state = torch.random.get_rng_state()
    with pytest.raises(UnsupportedScenario, match="image_size of 32"):
        check(scenario.changed(image_size=64))
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("path", sorted(checkpoints.CHECKPOINTS.glob("*.safetensors")), ids=lambda path: path.stem)
def test_shipped_checkpoints_fit_their_networks(path: Path) -> None:
    name, vocabulary, stage = path.stem.split("--")
    assert path.name == checkpoints.checkpoint_name(name, vocabulary, stage)
    assert vocabulary == "cifar10", "ten classes are built here"
    assert checkpoints.defect(path) is None
    assert all(weights.isfinite().all() for weights in build(name, checkpoint=path).parameters())
