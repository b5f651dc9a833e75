"""Estimate the memory of an iteration before it starts, and decide whether local steps are computed twice to save it.

Double backward keeps about six values for each activation and four copies of every parameter. Differentiating through
local steps of FedAvg keeps them for each step. Computed again on the way back, step by step, only the weights between
steps are kept, at the cost of one more forward pass.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import torch
from torch import Tensor

from deepleak_core.federated.client import LocalTraining
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.scenario import FedAvgMethod

BYTES = 4  # of a float32 value
KEPT_ACTIVATIONS, KEPT_PARAMETERS = 6, 4  # copies that double backward keeps
KEPT_BETWEEN = 3  # copies of the weights that are kept between two steps: weights, momentum and their gradients
RECOMPUTED_FROM = 0.5  # share of the free memory from which local steps are computed twice


@dataclass(frozen=True, kw_only=True)
class Needed:
    """Bytes of an iteration: `whole`, and `recomputed` where local steps are computed twice."""

    whole: int
    recomputed: int

    @classmethod
    def of(
        cls,
        model: TargetModel,
        shape: tuple[int, int, int],
        images: int,
        *,
        restarts: int = 1,
        local: LocalTraining | None = None,
        fedavg: FedAvgMethod = "averaged",
    ) -> Needed:
        """For a batch of `images` of shape (C, H, W); `fedavg` is the reading of a FedAvg update."""
        parameters = sum(p.numel() for p in model.parameters())
        local = local and local.assumed(images)
        steps, together = 1, images
        if local is not None and fedavg == "simulated":
            steps, together = len(local.slices(images)), min(images, local.batch_size)
        activations = KEPT_ACTIVATIONS * activations_of(model, shape) * together
        step = BYTES * (activations * restarts + KEPT_PARAMETERS * parameters)
        whole = steps * step
        between = BYTES * steps * KEPT_BETWEEN * parameters
        return cls(whole=whole, recomputed=min(whole, step + between))

    def recomputes(self, device: torch.device) -> bool:
        """Whether local steps are computed twice on a device with as much free memory as now."""
        return self.recomputed < self.whole and self.whole > RECOMPUTED_FROM * free_memory(device)


def free_memory(device: torch.device) -> int:
    """Free memory of a device in bytes."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else int(psutil.virtual_memory().available)


def activations_of(model: TargetModel, shape: tuple[int, int, int]) -> int:
    """Number of values that all layers of the body give for one image."""
    counted = 0

    def count(module: torch.nn.Module, inputs: Any, output: Tensor) -> None:
        nonlocal counted
        counted += output.numel()

    leaves = [module for module in model.body.modules() if not list(module.children())]
    hooks = [leaf.register_forward_hook(count) for leaf in leaves]
    training = model.training
    with torch.no_grad():
        model.eval()
        model(model.mean.new_zeros(1, *shape))
        model.train(training)
    for hook in hooks:
        hook.remove()
    return counted
