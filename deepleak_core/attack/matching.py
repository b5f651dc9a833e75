"""Gradient matching: pixels moved until their simulated update comes close to the shared one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch

from deepleak_core.attack.exact import separate_features
from deepleak_core.attack.objectives import BatchNormPrior, Matching
from deepleak_core.attack.presets import Preset
from deepleak_core.attack.solvers import SOLVERS, Iterate
from deepleak_core.errors import CannotSeparate, NotSeparated
from deepleak_core.events import Stage
from deepleak_core.federated.client import ClientUpdate
from deepleak_core.federated.models import TargetModel
from deepleak_core.scenario import Scenario


def match_update(
    model: TargetModel,
    update: ClientUpdate,
    believed: Sequence[int],
    preset: Preset,
    scenario: Scenario,
    stop: Callable[[], bool] = lambda: False,
) -> Iterator[Stage | Iterate]:
    """Ever better images, from noise, as a preset says: its distance, priors and solver, under believed labels.

    Iterates are inputs (R, B, 3, H, W) as the first layer sees them; the scenario's `seed` is all that is random.
    """
    device = model.mean.device
    size = scenario.image_size
    classes = torch.tensor(believed, device=device)
    features = None
    if preset.feature_weight:
        try:
            features = separate_features(model, update, classes, scenario, stop).features.float()
            yield Stage(name="Features separated", sentence="They are matched as well.")
        except (CannotSeparate, NotSeparated) as reason:
            yield Stage(name="Features stay mixed", sentence=f"No feature term: {reason}")
    generator = torch.Generator().manual_seed(scenario.seed_for("attack"))
    start = torch.randn(preset.restarts, update.batch_size, 3, size, size, generator=generator).to(device)
    objective = Matching(
        model=model,
        update=update,
        labels=classes,
        distance=preset.distance,
        total_variation=preset.total_variation,
        l2=preset.l2,
        group_consistency=preset.group_consistency,
        # Untrained running statistics are zeros and ones: knowledge about no image.
        batchnorm=BatchNormPrior(model) if preset.batchnorm and scenario.stage != "untrained" else None,
        batchnorm_weight=preset.batchnorm,
        features=features,
        feature_weight=preset.feature_weight,
        fedavg=preset.fedavg,
    )
    solver = SOLVERS[preset.solver]
    if preset.solver == "adam":
        solver = partial(solver, learning_rate=preset.learning_rate, signed=preset.signed)
    else:
        solver = partial(solver, stop=stop)
    yield from solver(objective, start, low=model.low, high=model.high, iterations=preset.iterations)
