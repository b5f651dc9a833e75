"""Cases as files: attack the update of a real system, without a ground truth.

A case is two safetensors files: the weights that the server sent, and the update that came back, with one tensor for
each parameter by its name in the target model ("head.weight", "body.0.weight", ...). BatchNorm's running statistics may
stand among the weights. The update's metadata entry "deepleak" holds the public facts as JSON; facts that are missing
there must be given.

>>> import tempfile
>>> from deepleak_core.federated.case import observe
>>> from deepleak_core.scenario import Scenario
>>> case, _ = observe(Scenario(indices=(0, 4)))
>>> folder = Path(tempfile.mkdtemp())
>>> save(case, folder / "weights.safetensors", folder / "update.safetensors")
>>> load(folder / "weights.safetensors", folder / "update.safetensors", "lenet64-elu").update.batch_size
2
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    ValidationError,
    field_validator,
    model_validator,
)
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from deepleak_core.data.class_names import CIFAR10_CLASSES
from deepleak_core.data.datasets import CIFAR_STATISTICS
from deepleak_core.errors import UnusableUpdate
from deepleak_core.federated.case import Case, require_usable
from deepleak_core.federated.client import ClientUpdate, LocalTraining, weights_of
from deepleak_core.federated.models import build
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.federated.tensor_files import opened, read
from deepleak_core.scenario import BatchNormMode
from deepleak_core.text import listed, shorten

FACTS = "deepleak"  # the metadata entry with the public facts
LARGEST_IMAGE = 1024  # pixels of height and width


def save(case: Case, weights: Path, update: Path) -> None:
    """Write a case to two files; nothing of the private batch is in them."""
    state = {name: tensor.contiguous() for name, tensor in case.model.state_dict().items()}
    local = case.update.local
    facts = {
        "batch_size": case.update.batch_size,
        "local": None if local is None else asdict(local),
        "class_names": list(case.class_names),
        "image_size": case.image_shape[1],
        "mean": case.model.mean.flatten().tolist(),
        "std": case.model.std.flatten().tolist(),
        "trained": case.trained,
        "batchnorm": "train" if case.model.training else "eval",
    }
    save_file(state, weights)
    save_file({n: t.contiguous() for n, t in case.update.tensors.items()}, update, {FACTS: json.dumps(facts)})


def load(
    weights: str | Path,
    update: str | Path,
    model: str,
    *,
    batch_size: int | None = None,
    local: LocalTraining | None = None,
    class_names: Sequence[str] | None = None,
    image_size: int | None = None,
    statistics: tuple[Sequence[float], Sequence[float]] | None = None,
    trained: bool | None = None,
    batchnorm: BatchNormMode | None = None,
    device: str | torch.device = "cpu",
) -> Case:
    """Read a case from two safetensors files.

    Args:
        weights: the weights that the server sent.
        update: the mean gradient (FedSGD) or the weights after local training (FedAvg).
        model: a name in `MODELS`.
        batch_size: images in the client's batch.
        local: FedAvg's local training; None for a gradient.
        class_names: the classes by index; by default those of CIFAR-10 where there are ten.
        image_size: height and width in pixels, 32 by default.
        statistics: mean and standard deviation by which images are normalised, CIFAR-10's by default.
        trained: whether the model has been trained; False by default.
        batchnorm: whose statistics BatchNorm layers used, "eval" (running, the default) or "train" (the batch's).
        device: where the case is attacked.

    What is not given is read from the update's metadata. Raises `UnusableUpdate` where files cannot be read, do not fit
    the network, or miss a fact, and `UnsupportedScenario` for an unknown or too large network.
    """
    given = {
        "batch_size": batch_size,
        "local": local,
        "class_names": class_names,
        "image_size": image_size,
        "mean": statistics[0] if statistics else None,
        "std": statistics[1] if statistics else None,
        "trained": trained,
        "batchnorm": batchnorm,
    }
    facts = _facts(Path(update), given)
    sent, received = _tensors(Path(weights), "weights"), _tensors(Path(update), "update")
    classes, size = _classes(received, facts.class_names), facts.image_size
    if facts.batch_size is None:
        raise UnusableUpdate(f"{Path(update).name} does not say how many images are in its batch; give batch_size.")
    network = _network(model, len(classes), facts, head_bias="head.bias" in received)
    _fit("weights", sent, {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()})
    network.load_state_dict(sent)
    parameters = {name: tuple(tensor.shape) for name, tensor in weights_of(network).items()}
    statistics_of_batchnorm = network.state_dict().keys() - parameters.keys()
    received = {name: tensor for name, tensor in received.items() if name not in statistics_of_batchnorm}
    _fit("update", received, parameters)
    network = network.to(device)
    case = Case(
        model=network,
        update=ClientUpdate(
            tensors={name: received[name].to(network.mean) for name in parameters},
            batch_size=facts.batch_size,
            local=facts.local,
        ),
        class_names=tuple(classes),
        image_shape=(len(facts.mean), size, size),
        trained=facts.trained,
    )
    require_usable(case)
    return case


class _Facts(BaseModel):
    """The public facts of a case; what neither the metadata nor an argument says has the default."""

    model_config = ConfigDict(extra="ignore")

    batch_size: int | None = Field(None, ge=1, le=4096)
    local: LocalTraining | None = None
    class_names: tuple[str, ...] | None = None
    image_size: int = Field(32, ge=1, le=LARGEST_IMAGE)
    mean: tuple[FiniteFloat, ...] = Field(tuple(CIFAR_STATISTICS[0]), min_length=1)
    std: tuple[Annotated[FiniteFloat, Field(gt=0)], ...] = Field(tuple(CIFAR_STATISTICS[1]), min_length=1)
    trained: bool = False
    batchnorm: BatchNormMode = "eval"

    @field_validator("local")
    @classmethod
    def _local_training_is_possible(cls, local: LocalTraining | None) -> LocalTraining | None:
        if local and (local.epochs < 1 or local.batch_size < 1 or not 0 < local.lr < math.inf):
            raise ValueError("epochs and batch_size should be 1 or more, lr above 0")
        if local and not 0 <= local.momentum < 1:
            raise ValueError("momentum should be from 0 to below 1")
        return local

    @model_validator(mode="after")
    def _statistics_agree(self) -> _Facts:
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std should have one entry for each channel")
        return self


def _facts(update: Path, given: dict[str, Any]) -> _Facts:
    """The facts in a file's metadata, replaced by those that are given."""
    try:
        return _Facts(**(_metadata(update) | {name: value for name, value in given.items() if value is not None}))
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(map(str, first["loc"])) or "its facts"
        raise UnusableUpdate(
            f"{name} of {shorten(update.name)} was {shorten(repr(first['input']))}: {first['msg']}; correct it."
        ) from error


def _metadata(update: Path) -> dict[str, Any]:
    """The public facts in a file's metadata; none where there are none that can be read."""
    try:
        with opened(update) as file:
            facts = json.loads((file.metadata() or {}).get(FACTS, "{}"))
    except (OSError, SafetensorError, ValueError, RecursionError):
        return {}
    return facts if isinstance(facts, dict) else {}


def _network(name: str, classes: int, facts: _Facts, *, head_bias: bool) -> TargetModel:
    """The target model of a case, before its weights are read."""
    try:
        return build(
            name,
            classes=classes,
            image_size=facts.image_size,
            mean=facts.mean,
            std=facts.std,
            head_bias=head_bias,
            batchnorm=facts.batchnorm,
        )
    except RuntimeError as error:  # a layer does not take images of this size
        raise UnusableUpdate(
            f"{name} does not take images of {facts.image_size} pixels; give the image_size that was used."
        ) from error


def _tensors(path: Path, what: str) -> dict[str, Tensor]:
    try:
        return read(path)
    except (OSError, SafetensorError) as error:
        reason = shorten(str(error).partition("\n")[0])
        raise UnusableUpdate(
            f"The {what} file {shorten(str(path))} cannot be read as safetensors ({reason}); save it in that format."
        ) from error


def _classes(received: dict[str, Tensor], given: Sequence[str] | None) -> Sequence[str]:
    """Names of the classes, as many as the last layer has."""
    if "head.weight" not in received:
        raise UnusableUpdate(
            f"The update has no tensor head.weight, the last layer's; its tensors are {listed(list(received))}. "
            "Name tensors as the target model does."
        )
    if received["head.weight"].dim() != 2:
        raise UnusableUpdate(
            "The update's head.weight is no matrix of classes by features; save the last layer's weights."
        )
    count = len(received["head.weight"])
    if given is None:
        return CIFAR10_CLASSES if count == len(CIFAR10_CLASSES) else [f"class {i}" for i in range(count)]
    if len(given) != count:
        raise UnusableUpdate(
            f"{len(given)} class names were given, the update's last layer has {count} classes; name each class once."
        )
    return given


def _fit(what: str, tensors: dict[str, Tensor], wanted: dict[str, tuple[int, ...]]) -> None:
    """Raise `UnusableUpdate` where tensors are missing, unknown or of another shape."""
    saved = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    differing = sorted(name for name in saved.keys() | wanted.keys() if saved.get(name) != wanted.get(name))
    if differing:
        name = differing[0]
        raise UnusableUpdate(
            f"The {what} file does not fit this network: {shorten(name)} is {saved.get(name, 'missing')} in the file "
            f"and should be {wanted.get(name, 'absent')}; choose the network that was used."
        )
