"""Checks of a scenario's client side: data set, network, training stage and its checkpoint, device."""

from __future__ import annotations

import torch

from deepleak_core.data import datasets
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import target_model
from deepleak_core.federated.models import MODELS
from deepleak_core.federated.pretrained import PRETRAINED, STAGE, pretrained
from deepleak_core.scenario import Scenario
from deepleak_core.text import unknown


def problems_of_client(scenario: Scenario) -> list[str]:
    """Every reason why a client cannot be simulated as the scenario asks, one sentence each."""
    problems = []
    for name, value, accepted in (("dataset", scenario.dataset, datasets.DATASETS), ("model", scenario.model, MODELS)):
        if value not in accepted:
            problems.append(unknown(name, value, accepted))
    if problems:
        return problems
    stages = checkpoints.stages(scenario.model, datasets.DATASETS[scenario.dataset].vocabulary)
    if scenario.stage not in stages:
        if scenario.stage == STAGE and (elsewhere := _pretrained_elsewhere(scenario.model)):
            return [elsewhere]
        return [unknown(f"stage of {scenario.model}", scenario.stage, stages)]
    checkpoint = stages[scenario.stage]
    if checkpoint is None:
        return []
    weights = pretrained(scenario.model, datasets.DATASETS[scenario.dataset].vocabulary)
    if weights is not None and scenario.stage == STAGE:
        if scenario.image_size < weights.least_size:
            return [
                f"The pretrained weights of {scenario.model} are for images from {weights.least_size} pixels up, "
                f"image_size was {scenario.image_size}; take larger images, or stage untrained."
            ]
        if not checkpoint.exists():
            return []
    with torch.device("meta"):  # shapes are compared, no weights computed
        problem = checkpoints.misfit(target_model(scenario.changed(stage="untrained")), checkpoint)
    return [problem] if problem else []


def _pretrained_elsewhere(model: str) -> str:
    """On which data sets there are pretrained weights of a network, as one sentence; empty where on none."""
    for (name, vocabulary), weights in PRETRAINED.items():
        if name == model:
            fitting = ", ".join(each for each, spec in datasets.DATASETS.items() if spec.vocabulary == vocabulary)
            return (
                f"The pretrained weights of {model} are for {fitting} only, with images from {weights.least_size} "
                "pixels up; take such images, or stage untrained."
            )
    return ""


def problems_of_device(scenario: Scenario) -> list[str]:
    """Why this machine does not have the scenario's device, as one sentence."""
    if not scenario.device.startswith("cuda"):
        return []
    count = torch.cuda.device_count()
    if int(scenario.device.partition(":")[2] or 0) < count:
        return []
    return [f"device was {scenario.device!r}, this machine has {count} CUDA devices; take auto or cpu."]
