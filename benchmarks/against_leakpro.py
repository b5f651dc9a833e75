"""Measure attacks of this project and the modular attacks of LeakPro (aidotse) on the same gradients.

LeakPro is no dependency of this project, and its package on PyPI is an empty placeholder. Check out its repository and
install what it imports into a folder of its own, beside the PyTorch of this project, and name both folders here:

    git clone https://github.com/aidotse/LeakPro /tmp/leakpro && git -C /tmp/leakpro checkout c47752fa
    pip install --no-deps --target /tmp/leakpro-deps "transformers<5" "huggingface_hub<1" "tokenizers<0.23" optuna \
        colorlog tqdm joblib matplotlib pyparsing cycler kiwisolver fonttools seaborn scikit-learn regex numba llvmlite
    python -m benchmarks.against_leakpro --leakpro /tmp/leakpro /tmp/leakpro-deps

`benchmarks.against` says what is measured, and how. LeakPro runs unpatched. Its presets are as shipped, but for the
true labels that they are given (labels="oracle") and BatchNorm in evaluation mode, as in the client's update.

Prints a table and merges the cells into benchmarks/results/against_leakpro.json. The first three cells take about three
minutes, all of them about 13.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import against
from deepleak_core.data.batches import GroundTruth
from deepleak_core.federated.case import Case

MODULAR = "leakpro.attacks.gia_attacks.modular"
SIMULATOR = f"{MODULAR}.components.optimization_building_blocks.training_simulator"
PRESETS = {
    "dlg": "dlg_attack",
    "inverting gradients": "inverting_gradients_attack",
    "huang": "huang_attack",
    "see through gradients": "see_through_gradients_attack",
}
CELLS: dict[str, tuple[str, ...]] = {
    "lenet64-elu, 4 of CIFAR-10": ("dlg", "inverting gradients"),
    "lenet64-elu, 4 of one class": ("dlg", "inverting gradients"),
    "lenet64-elu, 4 of ImageNet, 64 px": ("dlg", "inverting gradients"),
    "convnet, 4 of CIFAR-10": tuple(PRESETS),
    "resnet20, 4 of CIFAR-10": tuple(PRESETS),
}


def prepare(name: str, case: Case, truth: GroundTruth) -> Callable[[against.Watch], None]:
    """A preset of LeakPro on an update; the attack reports each evaluation to a watch."""
    # Its candidates are normalised already, so it gets the network without the normalisation of ours.
    network = nn.Sequential(case.model.body, case.model.head)
    seen = observations(network, case, truth)
    configuration = getattr(importlib.import_module(f"{MODULAR}.presets"), PRESETS[name])()
    configuration.labels = "oracle"
    built = configuration.build(seen)

    def attack(watch: against.Watch) -> None:
        built.optimization._compute_loss = watched(built.optimization._compute_loss, watch)
        built.run_attack(network, seen, case.device)

    return attack


def observations(network: nn.Module, case: Case, truth: GroundTruth) -> Any:
    """What LeakPro's server knows of a client: the gradient by parameter, public settings, and the true labels."""
    simulator = importlib.import_module("leakpro.fl_utils.fl_client_simulator")
    settings = importlib.import_module(SIMULATOR).TrainingSettings(
        epochs=1, optimizer_type="sgd", training_batch_size=None, compute_mode="gradients", model_mode="eval"
    )
    names = [name for name, _ in network.named_parameters()]
    return simulator.ClientObservations(
        gradients=dict(zip(names, case.update.tensors.values(), strict=True)),
        post_bn_stats=simulator.FLClientSimulator._capture_bn_stats(network),
        num_images=len(truth.labels),
        input_shape=tuple(truth.images.shape),
        training_settings=settings,
        labels=truth.labels.sort().values,
        data_mean=case.model.mean[0],
        data_std=case.model.std[0],
        num_classes=len(case.class_names),
    )


def watched(compute: Callable[..., tuple[Tensor, Any]], watch: against.Watch) -> Callable[..., tuple[Tensor, Any]]:
    """The objective of LeakPro, with each evaluation recorded; several starts of an image count as their mean."""

    def evaluate(state: Any, *rest: Any) -> tuple[Tensor, Any]:
        value, parts = compute(state, *rest)
        with torch.no_grad():
            watch.see(float(value), state.reconstruction.squeeze(0).mean(1))  # (epochs = 1, images, starts, C, H, W)
        return value, parts

    return evaluate


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # LeakPro logs every stage of an attack
    against.main("leakpro", prepare, CELLS, __doc__ or "")
