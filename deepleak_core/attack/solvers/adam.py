"""Adam, plain or on the sign of the gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.solvers.solver import Iterate

SURROGATE_RATE = 0.01  # Adam's step for the surrogate's point between the weights before and after


def adam(
    objective: Matching,
    start: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    iterations: int,
    learning_rate: float | None,
    stop: Callable[[], bool],
    signed: bool = False,
) -> Iterator[Iterate]:
    """Adam within the box [low, high] of valid pixels; its rate is divided by ten at 3/8, 5/8 and 7/8.

    `signed` replaces the gradient by its sign (Geiping et al. 2020), which makes the step the same size for every
    pixel, however flat the loss is there.
    """
    inputs = start.clone().requires_grad_()
    groups: list[dict[str, Any]] = [{"params": [inputs]}]
    if objective.parameters():
        groups.append({"params": objective.parameters(), "lr": SURROGATE_RATE})
    optimizer = torch.optim.Adam(groups, lr=0.1 if learning_rate is None else learning_rate)
    milestones = sorted({max(1, iterations * part // 8) for part in (3, 5, 7)})
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, milestones, 0.1)
    unknowns = [inputs, *objective.parameters()]
    for step in range(iterations + 1):
        value = objective(inputs)
        gradient, *others = torch.autograd.grad(value.loss, unknowns)
        yield Iterate(
            step,
            inputs.detach(),
            float(value.loss.detach()),
            value.residuals,
            float(gradient.abs().max()),
            step / iterations,
        )
        inputs.grad = gradient.sign() if signed else gradient
        for parameter, grad in zip(unknowns[1:], others, strict=True):
            parameter.grad = grad
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            inputs.clamp_(low, high)
