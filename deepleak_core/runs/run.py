"""Execute a scenario: observe the client's round, attack the case, score the outcome.

`run` is a generator of frozen events. Command line, workers, tests and notebooks all iterate it:

>>> from deepleak_core.scenario import Scenario
>>> events = run(Scenario(indices=(0, 4), max_iterations=3))
>>> [type(event).__name__ for event in events if type(event).__name__ != "Snapshot"]
['Prepared', 'GroundTruthKnown', 'UpdateShared', 'LabelsInferred', 'Stage', 'Finished']

The ground truth is used in three places only: the client computes its update from it, `scoring` compares with it, and
the label strategy `true` hands over its labels. The attack itself sees the case alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch

from deepleak_core.attack.attacks import attack_of, settings_of
from deepleak_core.attack.memory import Needed, free_memory
from deepleak_core.attack.reproducible import reproducible
from deepleak_core.attack.run import reconstruct
from deepleak_core.errors import OutOfMemory, UnsupportedScenario
from deepleak_core.events import Event, GroundTruthKnown, Prepared, png
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import (
    Case,
    checkpoint_of,
    choose_device,
    describe_device,
    local_training_of,
    observe_model,
    target_model,
)
from deepleak_core.federated.models import network_of
from deepleak_core.federated.preparation import prepare
from deepleak_core.federated.target_model import TargetModel
from deepleak_core.labels.wrong_labels import WrongLabels
from deepleak_core.runs.checks import check
from deepleak_core.scenario import Scenario
from deepleak_core.scoring.score import scored

ROUNDS_PER_ITERATION = 3.0  # client rounds that one iteration of gradient matching takes as long as
OVERRUN_SECONDS = 2.0  # by which a run may exceed its time limit


def run(
    scenario: Scenario, *, stop: Callable[[], bool] = lambda: False, max_memory: int | None = None
) -> Iterator[Event]:
    """Execute a scenario and yield what happens, see `events` for the order.

    `stop` is asked between iterations; once it returns True, the last snapshot and `Finished` follow. `max_memory` is
    how many bytes the attack may take, by default what the device has. Raises `UnsupportedScenario`,
    `DatasetUnavailable`, `WeightsUnavailable`, `UnusableUpdate` or `OutOfMemory`.
    """
    check(scenario)
    yield from within_memory(_events(scenario, stop, max_memory), scenario)


def within_memory(events: Iterator[Event], scenario: Scenario) -> Iterator[Event]:
    """The same events; raises `OutOfMemory` where PyTorch has no memory left."""
    try:
        yield from events
    except (MemoryError, RuntimeError) as error:  # PyTorch has a type of its own on a GPU, a message on a CPU
        exhausted = isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "can't allocate memory" in str(error)
        if not exhausted:
            raise
        raise OutOfMemory(
            f"A batch of {scenario.batch_size} at {scenario.image_size} pixels with {scenario.model} needs more "
            "memory than the device has; make the batch or the images smaller, or take fewer restarts."
        ) from error


@reproducible
def _events(scenario: Scenario, stop: Callable[[], bool], max_memory: int | None) -> Iterator[Event]:
    yield from prepare(scenario)
    device, settings = choose_device(scenario), settings_of(scenario)
    model = target_model(scenario).to(device)
    _require_memory(scenario, model, settings, max_memory)
    began = time.perf_counter()
    case, truth = observe_model(model, scenario)
    _require_time(scenario, settings, time.perf_counter() - began)
    yield prepared(case, network_of(scenario.model).title, checkpoints.note(scenario.stage, checkpoint_of(scenario)))
    yield GroundTruthKnown(
        labels=tuple(truth.labels.tolist()), pictures=tuple(png(image.numpy()) for image in truth.images)
    )
    strategy = scenario.label_strategy or attack_of(scenario.attack).label_strategy
    events = reconstruct(
        case,
        scenario.attack,
        settings,
        labels=truth.labels.tolist() if strategy == "true" else None,
        label_strategy=strategy,
        wrong_labels=wrong_labels_of(scenario),
        repair_labels=scenario.repair_labels,
        seed=scenario.seed,
        max_seconds=scenario.max_seconds,
        stop=stop,
        **({} if scenario.max_iterations is None else {"iterations": scenario.max_iterations}),
    )
    yield from scored(events, truth, mode=scenario.mode, seed=scenario.seed_for("noise baseline"))


def prepared(case: Case, title: str, stage_note: str) -> Prepared:
    """The public facts of a case."""
    return Prepared(
        class_names=case.class_names,
        model_title=title,
        parameters=sum(p.numel() for p in case.model.parameters()),
        device=describe_device(case.device),
        stage_note=stage_note,
    )


def wrong_labels_of(scenario: Scenario) -> WrongLabels | None:
    """The labels that a scenario makes wrong on purpose, None where there are none."""
    if not scenario.wrong_labels and not scenario.mislabel:
        return None
    return WrongLabels(count=scenario.wrong_labels, swaps=scenario.mislabel or ())


def _require_time(scenario: Scenario, settings: Any, round_seconds: float) -> None:
    """Refuse a time limit that a single iteration would overrun. Raises `UnsupportedScenario`.

    An iteration cannot be interrupted. It differentiates a client round twice, which takes about three of them.
    """
    seconds = ROUNDS_PER_ITERATION * round_seconds * getattr(settings, "restarts", 1)
    if scenario.max_seconds is not None and seconds > scenario.max_seconds + OVERRUN_SECONDS:
        raise UnsupportedScenario(
            [
                f"max_seconds was {scenario.max_seconds:g}, but one iteration on this device takes about "
                f"{seconds:.0f} s for {scenario.model} at {scenario.image_size} pixels; allow more time or use smaller "
                "images."
            ]
        )


def _require_memory(scenario: Scenario, model: TargetModel, settings: Any, most: int | None) -> None:
    """Refuse before starting what surely does not fit. Raises `OutOfMemory`.

    Local steps of a simulated FedAvg update are computed twice where they would not fit otherwise (`attack.memory`).
    """
    device = model.mean.device
    need = Needed.of(
        model,
        (model.mean.shape[1], scenario.image_size, scenario.image_size),
        scenario.batch_size,
        restarts=getattr(settings, "restarts", 1),
        local=local_training_of(scenario),
        fedavg=getattr(settings, "fedavg", "averaged"),
    )
    needed, available = need.recomputed if need.recomputes(device) else need.whole, free_memory(device)
    if needed > min(available, most or available):
        limit = f"the device has {available / 1e9:.1f} GB free"
        if most is not None and most < available:
            limit = f"this server allows {most / 1e9:.1f} GB"
        raise OutOfMemory(
            f"A batch of {scenario.batch_size} at {scenario.image_size} pixels with {scenario.model} needs about "
            f"{needed / 1e9:.1f} GB, {limit}; make the batch or the images smaller, or take fewer restarts."
        )
