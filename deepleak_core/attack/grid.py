"""Round a nearly solved reconstruction to the 8-bit grid, and correct single pixel values on it.

Private images are stored in 8 bits, so their values are multiples of 1/255. A reconstruction that is close enough
rounds to the exact copy, except where an error happens to cross the middle between two values. Such values stand out in
the gradient of the residual at the rounded images: they are moved by 1/255, one at a time, while that lowers it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.solvers import Iterate
from deepleak_core.federated.target_model import TargetModel

LEVELS = 255  # steps between the values of an 8-bit channel
NEAR = 1e-6  # squared relative residual from which rounding is worth a try
ROUNDING = 1e-11  # squared relative residual that rounding of a float32 update leaves
MOST_MOVES = 60  # pixel values that are moved at most
MOST_REFUSALS = 6  # moves in a row that may fail to lower the residual
LEAST_MOVES = 8  # after which moves go on only while as many as are left would do
PROMISING = 0.5  # of the loss that they would take away if they gained what earlier ones did


def rounded(model: TargetModel, inputs: Tensor) -> Tensor:
    """The 8-bit images in [0, 1] that are nearest to inputs of the first layer (..., C, H, W)."""
    return (model.denormalise(inputs).clamp(0, 1) * LEVELS).round() / LEVELS


def to_grid(model: TargetModel, inputs: Tensor) -> Tensor:
    """Inputs of the first layer (..., C, H, W) moved to the nearest values that 8-bit images have."""
    return model.normalise(rounded(model, inputs))


def refine_on_grid(objective: Matching, last: Iterate, *, stop: Callable[[], bool]) -> Iterate | None:
    """An iterate on the 8-bit grid whose residual is at rounding level, found near `last`; None where there is none.

    The objective is left as it was.
    """
    with objective.kept():
        return _refined(objective, last, stop)


def _refined(objective: Matching, last: Iterate, stop: Callable[[], bool]) -> Iterate | None:
    model = objective.case.model

    def evaluate(images: Tensor) -> tuple[float, float, Tensor]:
        inputs = model.normalise(images)[None].detach().requires_grad_()
        value = objective(inputs)
        (gradient,) = torch.autograd.grad(value.loss, inputs)
        return float(value.loss.detach()), float(value.residuals), gradient[0].detach()

    images = rounded(model, last.inputs[0])
    objective.renew(model.normalise(images)[None], 0)
    loss, residual, gradient = evaluate(images)
    first = loss
    refused = torch.zeros_like(images, dtype=torch.bool)
    refusals = 0
    for move in range(MOST_MOVES):
        if move and objective.renew(model.normalise(images)[None], move):
            loss, residual, gradient = evaluate(images)
        solved = residual < ROUNDING
        if stop() or (solved and refusals) or refusals == MOST_REFUSALS:
            break
        if move >= LEAST_MOVES and (first - loss) / move * (MOST_MOVES - move) < PROMISING * loss:
            break
        movable = ((gradient < 0) & (images < 1)) | ((gradient > 0) & (images > 0))
        place = gradient.abs().masked_fill(refused | ~movable, 0).flatten().argmax()
        candidate = images.flatten().clone()
        candidate[place] = ((candidate[place] * LEVELS).round() - gradient.flatten()[place].sign()) / LEVELS
        candidate = candidate.view_as(images)
        new_loss, new_residual, new_gradient = evaluate(candidate)
        # In a large batch one wrong value hardly shows: images are copies only where a move makes them worse.
        if new_residual < residual if solved else new_loss < loss:
            images, loss, residual, gradient, refusals = candidate, new_loss, new_residual, new_gradient, 0
            refused.zero_()
        else:
            refused.view(-1)[place] = True
            refusals += 1
    residual = objective.residual(model.normalise(images))
    if residual >= ROUNDING:
        return None
    return replace(
        last,
        inputs=model.normalise(images)[None],
        loss=loss,
        residuals=torch.tensor([residual]),
        gradient=float(gradient.abs().max()),
        certified=True,
    )
