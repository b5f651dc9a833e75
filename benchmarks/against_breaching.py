"""Measure attacks of this project and of the library breaching 0.1.2 (Geiping et al.) on the same gradients.

breaching is no dependency of this project. Install it and what it imports into a folder of its own, without the old
torch that it requires, and name the folder here:

    pip install --no-deps --target /tmp/breaching breaching==0.1.2 hydra-core==1.3.* omegaconf==2.* \
        antlr4-python3-runtime==4.9.3
    python -m benchmarks.against_breaching --breaching /tmp/breaching
    python -m benchmarks.against_breaching --breaching /tmp/breaching --cells "convnet, 4 of CIFAR-10"

`benchmarks.against` says what is measured, and how. breaching runs unpatched on PyTorch 2.14. Its presets are as
shipped but for what their names here say; `deepleakage` optimises images only (attack_type=optimization), since
otherwise it guesses labels and refuses given ones. The presets' schedules are made for 24,000 iterations, so that
their rate never falls within the budgets here: "400 iterations" gives one the schedule of our attacks.

Prints a table and merges the cells into benchmarks/results/against_breaching.json. All cells take about 15 minutes.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import against
from deepleak_core.data.batches import GroundTruth
from deepleak_core.federated import client
from deepleak_core.federated.case import Case

SMOOTH = "regularization.total_variation.scale=0.001"
PRESETS: dict[str, tuple[str, tuple[str, ...]]] = {
    "deepleakage": ("deepleakage", ("attack_type=optimization",)),
    "invertinggradients": ("invertinggradients", ()),
    "invertinggradients, TV 0.001": ("invertinggradients", (SMOOTH,)),
    "invertinggradients, TV 0.001, 400 iterations": ("invertinggradients", (SMOOTH, "optim.max_iterations=400")),
    "seethroughgradients": ("seethroughgradients", ()),
    "modern": ("modern", ()),
}
ALL = ("deepleakage", "invertinggradients", "seethroughgradients", "modern")  # the presets for images, as shipped
CELLS: dict[str, tuple[str, ...]] = {
    "lenet64-elu, 4 of CIFAR-10": (*ALL, "invertinggradients, TV 0.001, 400 iterations"),
    "lenet64-elu, 4 of one class": ("invertinggradients", "modern", "invertinggradients, TV 0.001, 400 iterations"),
    "lenet64-elu, 4 of ImageNet, 64 px": ("deepleakage", "invertinggradients", "invertinggradients, TV 0.001"),
    "convnet, 4 of CIFAR-10": (*ALL, "invertinggradients, TV 0.001"),
    "resnet20, 4 of CIFAR-10": (*ALL, "invertinggradients, TV 0.001"),
}


def prepare(name: str, case: Case, truth: GroundTruth) -> Callable[[against.Watch], None]:
    """A preset of breaching on an update; the attack reports each evaluation to a watch."""
    model = case.model
    data = SimpleNamespace(
        modality="vision", shape=case.image_shape, mean=model.mean.flatten().tolist(), std=model.std.flatten().tolist()
    )
    weights = {"parameters": list(client.weights_of(model).values()), "buffers": [], "metadata": data}
    known = {
        "labels": truth.labels.sort().values.to(case.device),
        "num_data_points": len(truth.labels),
        "local_hyperparams": None,
    }
    shared = {"gradients": list(case.update.tensors.values()), "buffers": None, "metadata": known}
    # Its candidates are normalised already, so it gets the network without the normalisation of ours.
    network = nn.Sequential(model.body, model.head)
    attacker = importlib.import_module("breaching.attacks").prepare_attack(
        network, nn.CrossEntropyLoss(), configuration(*PRESETS[name]), {"dtype": torch.float, "device": case.device}
    )

    def attack(watch: against.Watch) -> None:
        attacker._compute_objective = watched(attacker._compute_objective, watch)
        attacker.reconstruct([weights], [shared], server_secrets={})

    return attack


def watched(compute: Callable[..., Callable[[], Tensor]], watch: against.Watch) -> Callable[..., Callable[[], Tensor]]:
    """The `_compute_objective` of breaching, which makes a closure for its optimiser, with each evaluation recorded."""

    def iteration(candidate: Tensor, *rest: Any) -> Callable[[], Tensor]:
        closure = compute(candidate, *rest)

        def evaluate() -> Tensor:
            value = closure()
            watch.see(float(value.detach()), candidate)
            return value

        return evaluate

    return iteration


def configuration(preset: str, overrides: Sequence[str]) -> Any:
    """A preset that breaching ships, with some settings replaced."""
    hydra = importlib.import_module("hydra")
    with hydra.initialize_config_module("breaching.config.attack", version_base="1.3"):
        return hydra.compose(config_name=preset, overrides=list(overrides))


if __name__ == "__main__":
    warnings.filterwarnings("ignore", module=r"hydra|torch\.jit")  # deprecations that breaching and hydra run into
    against.main("breaching", prepare, CELLS, __doc__ or "")
