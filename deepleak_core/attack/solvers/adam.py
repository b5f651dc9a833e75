"""Adam, plain or on the sign of the gradient.

An iteration is a fixed sequence of operations on tensors that stay in place, the learning rate included, so that a GPU
can replay it (`attack.graphs`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from deepleak_core.attack.graphs import Replayed, no_graph
from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.solvers.schedules import Schedule, steps
from deepleak_core.attack.solvers.solver import Iterate
from deepleak_core.events import Stage

SURROGATE_RATE = 0.01  # Adam's step for the surrogate's point between the weights before and after
BETAS = 0.9, 0.999  # share of the running means of gradients and of their squares that an iteration keeps
EPSILON = 1e-8  # added to the root of the latter


@dataclass(frozen=True)
class Coordinates:
    """The unknowns of the descent: what they are for images, and the images that they stand for."""

    of: Callable[[Tensor], Tensor]
    images: Callable[[Tensor], Tensor]


PIXELS = Coordinates(of=lambda images: images, images=lambda unknown: unknown)


def adam(
    objective: Matching,
    start: Tensor,
    *,
    low: Tensor,
    high: Tensor,
    iterations: int,
    learning_rate: float | None,
    stop: Callable[[], bool],
    schedule: Schedule = steps,
    signed: bool = False,
    coordinates: Coordinates = PIXELS,
) -> Iterator[Iterate | Stage]:
    """Adam within the box [low, high] of valid pixels; its rate falls as the schedule says.

    `signed` replaces the gradient by its sign (Geiping et al. 2020), which makes the step the same size for every
    coordinate, however flat the loss is there. On a device with graphs only some iterations are yielded.
    """
    rate = 0.1 if learning_rate is None else learning_rate
    descent = _Descent(objective, start, low, high, rate, signed, coordinates)
    objective.renew(descent.inputs, 0)
    descent.evaluate()
    yield descent.iterate(0, 1, iterations)
    advance, told, step = Replayed(descent.advance, start.device), False, 0
    while step < iterations:
        before = step
        while step < min(before + advance.every, iterations):
            descent.rate.fill_(schedule(step / iterations))
            advance()
            step += 1
            objective.renew(descent.inputs, step)
        if advance.refused and not told:
            told = True
            yield no_graph(advance.refused)
        yield descent.iterate(step, step - before, iterations)


class _Descent:
    """All tensors of the descent: unknowns, their gradients and running means, the rate, and what an iterate says."""

    def __init__(
        self,
        objective: Matching,
        start: Tensor,
        low: Tensor,
        high: Tensor,
        rate: float,
        signed: bool,
        coordinates: Coordinates,
    ) -> None:
        self.objective, self.low, self.high = objective, low, high
        self.signed, self.coordinates = signed, coordinates
        self.inputs = start.clone()
        self.unknowns = [coordinates.of(start).clone(), *objective.parameters()]
        self.gradients = [torch.zeros_like(unknown) for unknown in self.unknowns]
        self.means = [torch.zeros_like(unknown) for unknown in self.unknowns]
        self.squares = [torch.zeros_like(unknown) for unknown in self.unknowns]
        self.steps = torch.zeros((), dtype=torch.float64, device=start.device)
        self.rate = torch.ones((), dtype=torch.float64, device=start.device)
        self.rates = [rate] + [SURROGATE_RATE] * (len(self.unknowns) - 1)
        self.figures = torch.zeros(2 + len(start)).to(start)  # loss, largest entry of the gradient, residuals

    def advance(self) -> None:
        """One iteration: move along the gradients, then evaluate the objective where that leads."""
        self._move()
        self.evaluate()

    def evaluate(self) -> None:
        """Gradients and figures at the unknowns."""
        point = self.unknowns[0].detach().requires_grad_()
        value = self.objective(self.coordinates.images(point))
        gradients = torch.autograd.grad(value.loss, [point, *self.unknowns[1:]])
        for kept, gradient in zip(self.gradients, gradients, strict=True):
            kept.copy_(gradient)
        self.figures.copy_(torch.cat([torch.stack([value.loss.detach(), gradients[0].abs().max()]), value.residuals]))

    @torch.no_grad()
    def _move(self) -> None:
        self.steps += 1
        unbiased, unbiased_square = (1 - beta**self.steps for beta in BETAS)
        tensors = zip(self.unknowns, self.gradients, self.means, self.squares, self.rates, strict=True)
        for unknown, gradient, mean, square, rate in tensors:
            if self.signed and unknown is self.unknowns[0]:
                gradient = gradient.sign()
            mean.lerp_(gradient, 1 - BETAS[0])
            square.mul_(BETAS[1]).addcmul_(gradient, gradient, value=1 - BETAS[1])
            size = (square / unbiased_square).sqrt() + EPSILON
            unknown.sub_(mean / size * (rate * self.rate / unbiased))
        self.inputs.copy_(self.coordinates.images(self.unknowns[0]).clamp(self.low, self.high))
        self.unknowns[0].copy_(self.coordinates.of(self.inputs))

    def iterate(self, step: int, since: int, iterations: int) -> Iterate:
        """The point that has been reached; waits for the device."""
        loss, largest, *residuals = self.figures.tolist()
        return Iterate(step, self.inputs, loss, torch.tensor(residuals), largest, step / iterations, since=since)
