"""A case: all that an attacker has. It never holds the private batch.

`observe` simulates one client round of a scenario and returns the case and the ground truth; `capture.load` makes a
case from files of a real system, without a ground truth.

>>> from deepleak_core.scenario import Scenario
>>> case, truth = observe(Scenario(indices=(0, 1, 3, 4)))
>>> case.update.batch_size, case.image_shape, truth.labels.tolist()
(4, (3, 32, 32), [3, 8, 0, 6])
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch

from deepleak_core.data import datasets
from deepleak_core.data.batches import GroundTruth, load_batch
from deepleak_core.errors import UnusableUpdate
from deepleak_core.federated import checkpoints, models
from deepleak_core.federated.client import ClientUpdate, LocalTraining, Weights, share, weights_of
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.scenario import Scenario
from deepleak_core.seeds import derive_seed
from deepleak_core.text import percent

FLOAT_EPSILON = torch.finfo(torch.float32).eps
MOST_ROUNDING = 0.3  # share of a weight change's norm that may be rounding of the weights
MOST_GROWTH = 30.0  # norm of a weight change over that of the weights from which local training has diverged


@dataclass(frozen=True, kw_only=True)
class Case:
    """What an honest-but-curious server knows: the model it sent, the update it received, and public facts.

    `image_shape` is (C, H, W) of one image, `class_names` are the classes by index, and `trained` says whether the
    model has been trained, so that its BatchNorm statistics mean something.
    """

    model: TargetModel
    update: ClientUpdate
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    trained: bool

    @cached_property
    def gradient(self) -> Weights:
        """The shared gradient by parameter name, or its estimate (W0 - W1) / (lr T) from a FedAvg update."""
        return self.update.gradient(self.model)

    @cached_property
    def derived(self) -> dict[str, object]:
        """What has been computed from the case and is worth keeping, such as the factors of its last layer."""
        return {}

    @property
    def device(self) -> torch.device:
        """The device of the model and the update."""
        return self.model.mean.device


def observe(scenario: Scenario, *, draw: int = 0) -> tuple[Case, GroundTruth]:
    """One client round of a scenario: the case of the server, and the ground truth that only the client has.

    `draw` numbers repeated draws of the same scenario. Raises `DatasetUnavailable`, `UnsupportedScenario`, and
    `UnusableUpdate` where the client's training diverged or left no update.
    """
    device = choose_device(scenario)
    model = target_model(scenario).to(device)
    return observe_model(model, scenario, draw=draw)


def observe_model(model: TargetModel, scenario: Scenario, *, draw: int = 0) -> tuple[Case, GroundTruth]:
    """What `observe` returns, for a target model that has been built already."""
    device = model.mean.device
    batch = load_batch(scenario, draw=draw)
    labels, local = batch.labels.to(device), local_training_of(scenario)
    orders = local.ordered(labels, seed=derive_seed(scenario.seed_for("local order"), str(draw))) if local else None
    update = share(model, batch.images.to(device), labels, local, orders=orders)
    case = Case(
        model=model,
        update=update,
        class_names=batch.class_names,
        image_shape=(batch.images.shape[1], batch.images.shape[2], batch.images.shape[3]),
        trained=scenario.stage != "untrained",
    )
    require_usable(case)
    return case, batch


def require_usable(case: Case) -> None:
    """Raise `UnusableUpdate` where an update is not finite, zero, or lost in the rounding of the weights."""
    update = case.update
    if not all(bool(tensor.norm().isfinite()) for tensor in update.tensors.values()):
        advice = (
            f"local training at learning rate {update.local.lr:g} (--local-lr) diverged: lower it."
            if update.local
            else "the client's loss was not finite: check the model's weights."
        )
        raise UnusableUpdate(f"The client's update is not finite; {advice}")
    if len(case.class_names) == 1:
        raise UnusableUpdate(
            "The gradient of a classifier with a single class is zero for any images; "
            "use a data set with two classes or more."
        )
    if not any(bool(tensor.any()) for tensor in case.gradient.values()):
        why = ": the local learning rate (--local-lr) is too small for float32 weights" if update.local else ""
        raise UnusableUpdate(f"The client's update is exactly zero and reveals nothing{why}; change its settings.")
    if update.local is not None:
        _require_sensible_change(case, update.local)


def _require_sensible_change(case: Case, local: LocalTraining) -> None:
    """Refuse weights that local training blew up, or changed by less than the rounding of float32."""
    before, after = weights_of(case.model), case.update.tensors
    change = torch.stack([(before[name] - after[name]).double().norm() for name in before]).norm()
    size = torch.stack([before[name].double().norm() for name in before]).norm()
    if change > MOST_GROWTH * size:
        raise UnusableUpdate(
            f"Local training at learning rate {local.lr:g} (--local-lr) diverged: the weights changed by "
            f"{float(change / size):.0f} times their size; lower it."
        )
    if size * FLOAT_EPSILON / 4 > MOST_ROUNDING * change:
        changed = sum(int((before[name] != after[name]).sum()) for name in before)
        share_changed = changed / sum(tensor.numel() for tensor in before.values())
        raise UnusableUpdate(
            f"Local training changed only {percent(share_changed)} of the weights, by less than float32 can hold; "
            "raise the local learning rate (--local-lr) or share a gradient (FedSGD)."
        )


# ------------------------------------------------------------------------------------- from a scenario to its parts


def choose_device(scenario: Scenario) -> torch.device:
    """The device of a scenario; `auto` takes a CUDA device where there is one."""
    if scenario.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(scenario.device)


def describe_device(device: torch.device) -> str:
    """A device in words, such as "CPU, 1 thread"."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    threads = torch.get_num_threads()
    return f"CPU, {threads} thread{'s' if threads > 1 else ''}"


def target_model(scenario: Scenario) -> TargetModel:
    """The network of a scenario at its training stage, as server and client know it."""
    dataset = datasets.dataset_of(scenario)
    mean, std = dataset.statistics
    return models.build(
        scenario.model,
        classes=len(datasets.names_of_classes(scenario)),
        image_size=scenario.image_size,
        mean=mean,
        std=std,
        head_bias=scenario.head_bias,
        batchnorm=scenario.batchnorm,
        seed=scenario.seed_for("model"),
        checkpoint=checkpoint_of(scenario),
    )


def checkpoint_of(scenario: Scenario) -> Path | None:
    """The file of a training stage, None for `untrained`."""
    return checkpoints.stages(scenario.model, datasets.dataset_of(scenario).vocabulary)[scenario.stage]


def local_training_of(scenario: Scenario) -> LocalTraining | None:
    """The client's local training, None for FedSGD."""
    if scenario.mode == "fedsgd":
        return None
    return LocalTraining(
        epochs=scenario.local_epochs,
        batch_size=scenario.local_batch_size,
        lr=scenario.local_lr,
        momentum=scenario.local_momentum,
        order=scenario.local_order,
    )
