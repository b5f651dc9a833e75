"""Peel off layers: solve for the inputs of each layer by linear algebra, from the features down.

Feature separation gives the features of every image and the signal (loss gradient) at its logits. In a chain of
convolutions and activations both are propagated downwards. Convolution l has the weight gradient

    G_l[o, c, u, v] = sum_k sum_ij delta_k[o, i, j] h_k[c, s i + u - p, s j + v - p],

which is linear in its inputs h_k once the signals delta_k are known. Every input channel meets the same matrix,
so one factorisation of a (O u v) x (K H W) system gives the inputs of all images, including those that share a label.
Then the signals are propagated through the layer, and the next layer is solved. Where a layer has more unknowns than
equations, its known outputs are the targets of a Levenberg-Marquardt search over the pixels (`attack.exact`).

R-GAP (Zhu and Blaschko 2021) solves a single image this way; R-CONV and LT-code peeling are related.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, conv_transpose2d, pad, unfold

from deepleak_core.features.separate import SeparatedFeatures
from deepleak_core.federated.activations import Activation, activation_of, known_activations
from deepleak_core.federated.client import Weights
from deepleak_core.federated.target_model import TargetModel

NOISE = 1e-6  # relative error of a float32 gradient's layer, rounding errors added up
USEFUL = 0.02  # relative error up to which a solved value is taken as known
EXPLAINED = 1e-4  # relative residual of a layer's equations above which a signal must be wrong
WORTHWHILE = 0.2  # share of a layer's inputs that must be determined for them to be used
MOST_OVER = 1.5  # images over the largest capacity of a phase, above which no layer is tried
NO_CHAIN = (
    "This network is not a plain chain of convolutions and activations, so its layers cannot be solved one by one."
)


@dataclass(frozen=True)
class Link:
    """One convolution with its activation; shapes are (C, H, W) of one image."""

    name: str
    convolution: nn.Conv2d
    activation: nn.Module
    inputs: tuple[int, int, int]
    outputs: tuple[int, int, int]

    def forward(self, inputs: Tensor) -> Tensor:
        """Pre-activations of the layer, in the precision of its inputs."""
        values, bias = self.forward_linear(inputs), self.convolution.bias
        return values if bias is None else values + bias.detach().to(inputs).view(-1, 1, 1)

    def forward_linear(self, inputs: Tensor) -> Tensor:
        """The convolution of the layer without its bias."""
        return conv2d(inputs, self.convolution.weight.detach().to(inputs), None, self.stride, self.padding)

    def backward(self, signals: Tensor) -> Tensor:
        """Signals at the inputs, from signals at the pre-activations."""
        weight = self.convolution.weight.detach().to(signals)
        rest = [
            size - ((out - 1) * self.stride - 2 * self.padding + kernel)
            for size, out, kernel in zip(self.inputs[1:], self.outputs[1:], weight.shape[2:], strict=True)
        ]
        result: Tensor = conv_transpose2d(signals, weight, None, self.stride, self.padding, rest)
        return result

    @property
    def stride(self) -> int:
        """Stride in both directions."""
        return int(self.convolution.stride[0])

    @property
    def padding(self) -> int:
        """Padding in both directions."""
        return int(self.convolution.padding[0])

    @property
    def kernel(self) -> int:
        """Height and width of the kernel."""
        return int(self.convolution.kernel_size[0])


@dataclass(frozen=True, kw_only=True)
class Level:
    """Outputs (K, O, H, W) of a link, as far as they are `known` (same shape, bool)."""

    link: Link
    outputs: Tensor
    known: Tensor


@dataclass(frozen=True, kw_only=True)
class Peeled:
    """The result of peeling: known `levels`, lowest first, and the `links` between the pixels and the highest of them.

    The lowest level may be known in part; then the next one, which is known completely, is given as well.
    """

    links: tuple[Link, ...]
    levels: tuple[Level, ...]

    @property
    def solved(self) -> tuple[str, ...]:
        """Names of the layers whose inputs were found by linear algebra."""
        return tuple(level.link.name for level in self.levels[1:])


def chain(model: TargetModel, image_shape: tuple[int, int, int]) -> tuple[Link, ...] | str:
    """The body as a chain of plain convolutions and activations with an inverse, or a sentence why it is none."""
    children = list(model.body.named_children())
    if not isinstance(children[-1][1] if children else None, nn.Flatten) or len(children) % 2 == 0:
        return NO_CHAIN
    links: list[Link] = []
    shape = image_shape
    for (name, convolution), (_, activation) in zip(children[:-1:2], children[1::2], strict=True):
        if not _is_plain(convolution):
            return NO_CHAIN
        entry = activation_of(activation)
        if entry is None or entry.inverse is None:
            return (
                f"A convolution is followed by {type(activation).__name__}. Only activations with a known inverse let "
                f"the layers be solved one by one: {known_activations(invertible=True)}."
            )
        assert isinstance(convolution, nn.Conv2d)
        size = tuple(
            (extent + 2 * int(convolution.padding[0]) - convolution.kernel_size[0]) // convolution.stride[0] + 1
            for extent in shape[1:]
        )
        outputs = (convolution.out_channels, size[0], size[1])
        links.append(Link(f"body.{name}", convolution, activation, shape, outputs))
        shape = outputs
    return tuple(links)


def _is_plain(module: Any) -> bool:
    return (
        isinstance(module, nn.Conv2d)
        and module.groups == 1
        and module.dilation == (1, 1)
        and len(set(module.kernel_size)) == len(set(module.stride)) == len(set(module.padding)) == 1
    )


def peel(model: TargetModel, gradient: Weights, found: SeparatedFeatures, links: tuple[Link, ...]) -> Peeled:
    """Solve layer after layer from the top, as long as the gradient determines its inputs.

    `gradient` is the shared mean gradient by parameter name.
    """
    images = len(found.labels)
    outputs = found.features.reshape(images, *links[-1].outputs)
    arriving = (found.signals @ model.head.weight.detach().double()).reshape_as(outputs)
    levels = [Level(link=links[-1], outputs=outputs, known=torch.ones_like(outputs, dtype=torch.bool))]
    slopes = slope(links[-1].activation, outputs)
    for link, below in zip(reversed(links[1:]), reversed(links[:-1]), strict=True):
        total = gradient[f"{link.name}.weight"].double() * images
        solution = _inputs_of(link, total, arriving, slopes)
        if solution is None:
            break
        outputs, known, slopes = solution
        levels.insert(0, Level(link=below, outputs=outputs, known=known))
        if not bool(known.all()):  # unknown values leave signals unknown, so no layer below can be solved
            break
        arriving = link.backward(arriving * slopes)
        slopes = slope(below.activation, outputs)
    whole = 1 if bool(levels[0].known.all()) else 2
    reach = links.index(levels[whole - 1].link) + 1
    return Peeled(links=links[:reach], levels=tuple(levels))


def _inputs_of(link: Link, total: Tensor, arriving: Tensor, slopes: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Inputs (K, C, H, W) of a layer from its weight gradient, where they are known, and its activation's slopes.

    ReLU's slopes are 0 or 1, and an output near zero leaves them undetermined. Given inputs that are nearly right, the
    same equations are linear in the signals, so both are solved alternately until no slope changes. None where too few
    inputs are determined.
    """
    images = len(arriving)
    if images > MOST_OVER * max(phase.capacity(link) for phase in phases_of(link)):
        return None
    trusted = torch.ones(len(total), dtype=torch.bool, device=total.device)
    for _ in range(8):
        inputs, where, squares = _solve_phases(link, total, arriving * slopes, trusted)
        if where.double().mean() < WORTHWHILE:
            return None
        misfits = squares.sqrt() / total.norm()
        if _entry(link.activation).smooth or float(misfits.max()) < NOISE:
            break
        if bool(where.all()):
            updated = _slopes_of(link, inputs, total, arriving, slopes)
            if torch.equal(updated, slopes):
                break
            slopes = updated
        else:  # a wrong slope corrupts the equations of its own filter only: leave the worst out
            trusted = misfits < 0.3 * misfits[trusted].max()
    return (inputs * where, where, slopes) if float(misfits[trusted].norm()) < EXPLAINED else None


@dataclass(frozen=True)
class Phase:
    """Inputs at rows `top`, `top` + stride, ... and columns likewise: those that meet the same kernel entries.

    A stride splits the inputs into phases whose equations share no unknown, some determined, others not. `rows` and
    `columns` are the kernel entries that they meet.
    """

    top: int
    left: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]

    def capacity(self, link: Link) -> float:
        """For how many images the weight gradient has as many equations as this phase has unknowns."""
        return link.outputs[0] * len(self.rows) * len(self.columns) / self.positions(link)

    def positions(self, link: Link) -> int:
        """How many inputs of one channel the phase holds."""
        _, height, width = link.inputs
        return len(range(self.top, height, link.stride)) * len(range(self.left, width, link.stride))


def phases_of(link: Link) -> list[Phase]:
    """The phases of a layer's inputs; a single one without a stride."""

    def met(first: int) -> tuple[int, ...]:
        return tuple(u for u in range(link.kernel) if (u - link.padding - first) % link.stride == 0)

    firsts = range(link.stride)
    return [Phase(top, left, met(top), met(left)) for top in firsts for left in firsts]


def _solve_phases(link: Link, total: Tensor, signals: Tensor, trusted: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs (K, C, H, W) by least squares, a mask of those that are known, and each filter's squared misfit (O,)."""
    images, (channels, height, width), step = len(signals), link.inputs, link.stride
    inputs = total.new_zeros(images, channels, height, width)
    where = torch.zeros(images, 1, height, width, dtype=torch.bool, device=total.device)
    squares = total.new_zeros(len(total))
    for phase in phases_of(link):
        if not phase.rows or not phase.columns:
            continue
        targets = total[:, :, phase.rows][:, :, :, phase.columns].permute(0, 2, 3, 1).reshape(-1, channels)
        matrix = signal_matrix(link, signals, phase)
        rows = trusted.repeat_interleave(len(phase.rows) * len(phase.columns))
        solution, known = _least_squares(matrix[rows], targets[rows])
        place = (slice(None), slice(None), slice(phase.top, None, step), slice(phase.left, None, step))
        shape = inputs[place].shape
        inputs[place] = solution.T.reshape(channels, images, *shape[2:]).transpose(0, 1)
        where[place] = known.reshape(images, 1, *shape[2:])
        squares += (matrix @ solution - targets).reshape(len(total), -1).square().sum(1)
    return inputs, where.expand_as(inputs), squares


def _slopes_of(link: Link, inputs: Tensor, total: Tensor, arriving: Tensor, slopes: Tensor) -> Tensor:
    """ReLU slopes (K, O, H, W) that explain the weight gradient, given the layer's inputs."""
    patches = unfold(inputs, link.kernel, padding=link.padding, stride=link.stride)
    patches = patches.permute(1, 0, 2).flatten(1)
    signals, certain = _least_squares(patches, total.permute(1, 2, 3, 0).flatten(0, 2))
    signals = signals.T.reshape(len(total), len(inputs), *link.outputs[1:]).transpose(0, 1)
    updated = (signals * arriving > 0.5 * arriving.square()).to(slopes.dtype)
    return torch.where(certain.reshape(len(inputs), 1, *link.outputs[1:]), updated, slopes)


def signal_matrix(link: Link, signals: Tensor, phase: Phase) -> Tensor:
    """(O u v, K H W): what each input pixel of a phase adds to the weight gradient of its channel, image by image."""
    images, filters, rows, columns = signals.shape
    _, height, width = link.inputs
    s, p, k = link.stride, link.padding, link.kernel
    spread = signals.new_zeros(images, filters, (rows - 1) * s + 1, (columns - 1) * s + 1)
    spread[:, :, ::s, ::s] = signals
    # Pixel y meets kernel row u at output row (y + p - u) / s: shifted windows of one padded map.
    room = k + max(height, width)
    spread = pad(spread, (room, room, room, room))
    windows = [
        spread[:, :, room + p - u + phase.top : room + p - u + height : s][
            :, :, :, room + p - v + phase.left : room + p - v + width : s
        ]
        for u in phase.rows
        for v in phase.columns
    ]
    return torch.stack([window.transpose(0, 1).flatten(1) for window in windows], 1).flatten(0, 1)


def _least_squares(matrix: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Least squares by normal equations in float64, and a mask of the unknowns that stand out of rounding noise."""
    normal = matrix.T @ matrix
    largest = float(normal.diagonal().max())
    factor, _ = torch.linalg.cholesky_ex(normal + 1e-13 * largest * torch.eye(len(normal)).to(normal))
    solution = torch.cholesky_solve(matrix.T @ targets, factor)
    spread = torch.cholesky_inverse(factor).diagonal().clamp_min(0).sqrt()
    errors = NOISE * targets.square().mean().sqrt() * spread
    return solution, errors < USEFUL * solution.square().mean().sqrt()


# ------------------------------------------------------------------------------------------- activations


def slope(activation: nn.Module, outputs: Tensor) -> Tensor:
    """Derivative of an activation of the chain, computed from its outputs (K, C, H, W)."""
    return _entry(activation).slope(activation, outputs)


def unactivate(activation: nn.Module, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """Pre-activations, and a mask of where they are known; elsewhere they are at most zero."""
    inverse = _entry(activation).inverse
    assert inverse is not None, "`chain` admits invertible activations only"
    return inverse(activation, outputs)


def _entry(activation: nn.Module) -> Activation:
    entry = activation_of(activation)
    assert entry is not None, "`chain` admits known activations only"
    return entry
