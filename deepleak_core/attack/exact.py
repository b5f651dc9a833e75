"""From the update to exact pixels: take the batch apart, peel the network off, search only for what is left.

Stages, each told by a `Stage` event: (1) disaggregation gives the features of every image, (2) peeling follows
them down through the layers, (3) Levenberg-Marquardt finds the pixels that give what is known, image by image,
(4) L-BFGS matches the full update and the features until nothing moves. Stages that a network or an update
does not allow are skipped, and the event says why.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor, nn

from deepleak_core.attack.objectives import Comparison, Matching
from deepleak_core.attack.peeling import Level, Link, Peeled, chain, peel, unactivate
from deepleak_core.attack.presets import Preset
from deepleak_core.attack.solvers import Iterate, adam, lbfgs, levenberg_marquardt
from deepleak_core.errors import CannotSeparate, NotSeparated
from deepleak_core.events import FeaturesSeparated, Stage
from deepleak_core.features.last_layer import LastLayer
from deepleak_core.features.separate import Disaggregation, disaggregate
from deepleak_core.federated.client import ClientUpdate, mean_gradient, weights_of
from deepleak_core.federated.models import TargetModel
from deepleak_core.scenario import Scenario

EXPLAINED = 1e-9  # squared relative residual at which a float32 update is explained down to its rounding
UNCHANGED = 12  # iterations without a single pixel value moving after which nothing moves

Told = Stage | FeaturesSeparated | Iterate


def reconstruct_exactly(
    model: TargetModel,
    update: ClientUpdate,
    believed: Sequence[int],
    preset: Preset,
    scenario: Scenario,
    stop: Callable[[], bool],
) -> Iterator[Told]:
    """The preset `exact`: stages and iterates (1, B, 3, H, W), images in the order of `believed`, ascending."""
    attacker = _Attacker(model, update, torch.tensor(believed, device=model.mean.device), preset, scenario)
    found = None
    try:
        found = attacker.separate(stop)
    except (CannotSeparate, NotSeparated) as reason:
        yield Stage(name="Features stay mixed", sentence=f"{reason}")
    inputs = None
    if found is not None:
        yield Stage(name="Features separated", sentence=_what_separated(found))
        yield _separated(found)
        if links := chain(model, scenario.image_size):
            peeled = peel(model, update.gradient(model), found, links)
            if (missing := _equations_missing(peeled)) is None:
                yield Stage(name="Pixels from layers", sentence=_what_peeled(peeled))
                for iterate in attacker.invert(peeled):
                    inputs = iterate.inputs
                    yield iterate
            else:
                yield Stage(name="Layers tell too little", sentence=missing)
        else:
            yield Stage(
                name="No way down",
                sentence=f"{scenario.model} is no plain chain of convolutions: its layers are not peeled off.",
            )
    if inputs is None or attacker.residual(inputs[0]) > EXPLAINED:
        yield Stage(name="Full update matched", sentence="Pixels move until the whole update fits.")
        yield from attacker.match(inputs, found, stop)


@dataclass(frozen=True)
class _Attacker:
    """What the attacker knows, and the searches he runs with it."""

    model: TargetModel
    update: ClientUpdate
    believed: Tensor
    preset: Preset
    scenario: Scenario

    def separate(self, stop: Callable[[], bool]) -> Disaggregation:
        """The features of every image, or the typed reason why not."""
        return separate_features(self.model, self.update, self.believed, self.scenario, stop)

    def residual(self, inputs: Tensor) -> float:
        """Squared relative distance of these inputs' (B, 3, H, W) update to the shared one."""
        images = self.model.denormalise(inputs)
        simulated = mean_gradient(self.model, weights_of(self.model), images, self.believed)
        comparison = Comparison.of(simulated, self.update.gradient(self.model))
        return float(comparison.error / comparison.shared)

    def invert(self, peeled: Peeled) -> Iterator[Iterate]:
        """Pixels whose layers give what peeling found, each image by itself."""
        size = self.scenario.image_size
        start = torch.zeros(len(self.believed), 3, size, size, device=self.model.mean.device)
        equations = layer_equations(peeled, dtype=start.dtype)
        for iterate in levenberg_marquardt(equations, start, low=self.model.low, high=self.model.high, iterations=60):
            yield _told(iterate, iterate.inputs[None], self.residual(iterate.inputs))

    def match(self, inputs: Tensor | None, found: Disaggregation | None, stop: Callable[[], bool]) -> Iterator[Iterate]:
        """The whole update matched from where the earlier stages ended, until no pixel value changes.

        L-BFGS needs a smooth loss; from noise, kinks of ReLU and pooling are left to signed Adam.
        """
        size = self.scenario.image_size
        generator = torch.Generator().manual_seed(self.scenario.seed_for("attack"))
        noise = torch.randn(1, len(self.believed), 3, size, size, generator=generator).to(self.believed.device)
        by_adam = inputs is None and not is_smooth(self.model)
        objective = Matching(
            model=self.model,
            update=self.update,
            labels=self.believed,
            distance="cosine" if by_adam else "squared-l2",
            features=None if found is None else found.features.to(noise.dtype),
            feature_weight=self.preset.feature_weight,
            total_variation=self.preset.total_variation if by_adam else 0.0,
            fedavg=self.preset.fedavg,
        )
        solver = partial(adam, learning_rate=0.1, signed=True) if by_adam else partial(lbfgs, stop=stop)
        start = noise if inputs is None else inputs
        before, unchanged = None, 0
        for iterate in solver(
            objective, start, low=self.model.low, high=self.model.high, iterations=self.preset.iterations
        ):
            yield iterate
            pixels = (self.model.denormalise(iterate.inputs[0]).clamp(0, 1) * 255).round()
            unchanged = unchanged + 1 if before is not None and torch.equal(pixels, before) else 0
            before = pixels
            if unchanged >= UNCHANGED:
                return


def is_smooth(model: TargetModel) -> bool:
    """Whether the network has no kinks: no ReLU, no max-pooling."""
    return not any(isinstance(module, (nn.ReLU, nn.MaxPool2d)) for module in model.modules())


def separate_features(
    model: TargetModel,
    update: ClientUpdate,
    believed: Tensor,
    scenario: Scenario,
    stop: Callable[[], bool] = lambda: False,
) -> Disaggregation:
    """Disaggregate the last layer's part of an update, given believed labels (B,).

    Raises `CannotSeparate` or `NotSeparated`.
    """
    counts = torch.bincount(believed.cpu(), minlength=model.head.out_features)
    return disaggregate(
        LastLayer.of(model, update.gradient(model)), counts, seed=scenario.seed_for("disaggregation"), stop=stop
    )


def layer_equations(peeled: Peeled, dtype: torch.dtype) -> Callable[[Tensor, Tensor], Tensor]:
    """Residuals (P, n) of candidate inputs (P, 3, H, W) of the images numbered `active`.

    Pre-activations must equal the known ones; where ReLU shut, they must not exceed zero.
    """
    wanted = {level.link.name: _wanted(level, dtype) for level in peeled.levels}

    def residuals(inputs: Tensor, active: Tensor) -> Tensor:
        rows, flowing = [], inputs
        for link in peeled.links:
            values = link.forward(flowing)
            if link.name in wanted:
                target, equal, below, scale = (tensor[active] for tensor in wanted[link.name])
                rows.append(((equal * (values - target) + below * values.relu()) * scale).flatten(1))
            flowing = link.activation(values)
        return torch.cat(rows, 1)

    return residuals


def _wanted(level: Level, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Target pre-activations, masks of equalities and of upper bounds, and each image's scale."""
    target, certain = unactivate(level.link.activation, level.outputs)
    equal = certain * level.known
    below = (1 - certain) * level.known
    scale = 1 / (target * equal).flatten(1).norm(dim=1).clamp_min(1e-12)
    return target.to(dtype), equal.to(dtype), below.to(dtype), scale.to(dtype).view(-1, 1, 1, 1)


def _equations_missing(peeled: Peeled) -> str | None:
    """Why the known layer outputs do not determine the pixels, or None when they do."""
    first: Link = peeled.links[0]
    unknown = first.inputs[0] * first.inputs[1] * first.inputs[2]
    reach = {link.name for link in peeled.links}
    equations = [
        (unactivate(level.link.activation, level.outputs)[1] * level.known).flatten(1).sum(1)
        for level in peeled.levels
        if level.link.name in reach
    ]
    fewest = int(torch.stack(equations).sum(0).min())
    if fewest >= unknown:
        return None
    return f"{fewest} layer outputs are known of an image of {unknown} values: the rest must come from the full update."


def _separated(found: Disaggregation) -> FeaturesSeparated:
    means = torch.stack([found.features[found.labels == label].mean(0) for label in found.labels])
    return FeaturesSeparated(
        labels=tuple(found.labels.tolist()),
        before=tuple(_similarity(means).flatten().tolist()),
        after=tuple(_similarity(found.features).flatten().tolist()),
        errors=tuple(found.errors.tolist()),
        singular_values=tuple(found.singular_values[: len(found.labels) + 1].tolist()),
        misfit=found.misfit,
        seconds=0.0,
    )


def _similarity(features: Tensor) -> Tensor:
    unit = features / features.norm(dim=1, keepdim=True)
    similarity: Tensor = unit @ unit.T
    return similarity


def _what_separated(found: Disaggregation) -> str:
    images = len(found.labels)
    per_class = Counter(found.labels.tolist())
    shared = sum(count for count in per_class.values() if count > 1)
    told = f"The last layer's gradient was taken apart into {images} feature vectors"
    told += f", {shared} of them of images that share a label" if shared else ""
    proof = "The label counts are proven by it" if found.clear else "An image is lost in rounding: nothing is proven"
    return f"{told}; estimated error {float(found.errors.max()):.0e}. {proof}."


def _what_peeled(peeled: Peeled) -> str:
    solved = len(peeled.solved)
    layers = {0: "No layer", 1: "One layer", 2: "Two layers"}.get(solved, f"{solved} layers")
    return (
        f"{layers} could be peeled off by linear algebra; Levenberg-Marquardt finds the pixels "
        "behind what is left, image by image."
    )


def _told(iterate: Iterate, inputs: Tensor, residual: float) -> Iterate:
    """An iterate of independent problems as one of the batch, with the residual of the whole update."""
    return replace(iterate, inputs=inputs, residuals=torch.tensor([residual]), progress=min(iterate.progress, 0.99))
