"""Image priors: terms that an attack adds to its objective, in the registry `PRIORS`.

A prior is a function of candidate images, as the first layer sees them, (R, B, C, H, W) for R restarts, to a scalar.
`Prior.term` makes that function for a case, or gives None where the prior has nothing to say about it. To add one,
write a file with the function and a `Prior`, and add one entry to `PRIORS`; its weight is then an option of the command
line and of the app.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepleak_core.attack.prior import Prior, Term
from deepleak_core.federated.case import Case


def total_variation(inputs: Tensor) -> Tensor:
    """Mean absolute difference of neighbouring pixels in both directions, summed over restarts.

    >>> total_variation(torch.ones(1, 2, 3, 8, 8))
    tensor(0.)
    """
    across = inputs.diff(dim=-1).abs().flatten(1).mean(1)
    down = inputs.diff(dim=-2).abs().flatten(1).mean(1)
    return (across + down).sum()


def l2(inputs: Tensor) -> Tensor:
    """Mean squared input value."""
    return inputs.square().mean()


def group_consistency(inputs: Tensor) -> Tensor:
    """Mean squared distance of each restart from the mean of all, without registration; 0 for a single one."""
    return (inputs - inputs.mean(0, keepdim=True)).square().mean()


def batchnorm_statistics(case: Case) -> Term | None:
    """Distance of the candidates' BatchNorm inputs from the running statistics inside the weights that were sent.

    None for an untrained model, whose running statistics are zeros and ones, and for a model without BatchNorm.
    """
    layers = [module for module in case.model.modules() if isinstance(module, nn.BatchNorm2d)]
    if not case.trained or not layers:
        return None

    def term(inputs: Tensor) -> Tensor:
        return torch.stack([_statistics_distance(case, layers, candidate) for candidate in inputs]).sum()

    return term


def _statistics_distance(case: Case, layers: list[nn.BatchNorm2d], candidate: Tensor) -> Tensor:
    """The summed distances of one batch (B, C, H, W). The hooks are removed again: the model belongs to the caller."""
    distances: list[Tensor] = []

    def measure(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        assert isinstance(module, nn.BatchNorm2d)
        assert module.running_mean is not None
        assert module.running_var is not None
        variance, mean = torch.var_mean(inputs[0], dim=(0, 2, 3), correction=0)
        distances.append((mean - module.running_mean).norm() + (variance - module.running_var).norm())

    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    try:
        case.model.body(candidate)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.stack(distances).sum()


PRIORS: dict[str, Prior] = {
    "total-variation": Prior(
        title="Smoothness (total variation)",
        summary="Neighbouring pixels are alike.",
        source="Geiping et al. 2020, arXiv 2003.14053",
        term=lambda case: total_variation,
    ),
    "l2": Prior(
        title="Small values",
        summary="Pixels are close to the data set's mean.",
        source="Yin et al. 2021, arXiv 2104.07586",
        term=lambda case: l2,
    ),
    "group-consistency": Prior(
        title="Group consistency",
        summary="Several restarts agree on one image.",
        source="Yin et al. 2021, arXiv 2104.07586, without registration",
        term=lambda case: group_consistency,
    ),
    "batchnorm": Prior(
        title="BatchNorm statistics",
        summary="Activations have the mean and variance that the trained network has stored.",
        source="Yin et al. 2021, arXiv 2104.07586",
        term=batchnorm_statistics,
    ),
}
