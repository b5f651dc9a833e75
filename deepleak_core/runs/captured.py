"""Attack a captured update with the attack settings of a scenario.

The events are those of `runs.run.run` without a ground truth and without scores.

>>> import tempfile
>>> from deepleak_core.federated.case import observe
>>> folder = Path(tempfile.mkdtemp())
>>> case, _ = observe(Scenario(indices=(0, 4)))
>>> capture.save(case, folder / "weights.safetensors", folder / "update.safetensors")
>>> scenario = Scenario(max_iterations=3)
>>> loaded = load(folder / "weights.safetensors", folder / "update.safetensors", scenario)
>>> [type(event).__name__ for event in run(loaded, scenario) if type(event).__name__ != "Snapshot"]
['Prepared', 'UpdateShared', 'LabelsInferred', 'Stage', 'Finished']
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from deepleak_core.attack.attacks import settings_of
from deepleak_core.attack.run import reconstruct
from deepleak_core.data import datasets
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.events import Event
from deepleak_core.federated import capture
from deepleak_core.federated.case import Case, choose_device, local_training_of
from deepleak_core.federated.models import network_of
from deepleak_core.runs.checks import check
from deepleak_core.runs.run import prepared, within_memory, wrong_labels_of
from deepleak_core.scenario import Scenario


def load(weights: Path, update: Path, scenario: Scenario) -> Case:
    """Read a case from two files; what a scenario says about the client replaces what the files say.

    Of the client's settings, those count that were given when the scenario was made: `batch_size`, `image_size`,
    `dataset` and `images` (class names and normalisation), `stage` (trained or not), `batchnorm`, `mode` and the local
    training.

    Raises:
        UnsupportedScenario: A setting is unknown, or needs the private batch, which is not known here.
        UnusableUpdate: The files cannot be read, do not fit the network, or miss a fact.
    """
    _check(scenario)
    given = scenario.model_fields_set
    facts: dict[str, Any] = {}
    if "batch_size" in given:
        facts["batch_size"] = scenario.batch_size
    if "image_size" in given:
        facts["image_size"] = scenario.image_size
    if given & {"dataset", "images"}:
        facts["class_names"] = datasets.names_of_classes(scenario)
        facts["statistics"] = datasets.dataset_of(scenario).statistics
    if "stage" in given:
        facts["trained"] = scenario.stage != "untrained"
    if "batchnorm" in given:
        facts["batchnorm"] = scenario.batchnorm
    if "mode" in given:
        facts["local"] = local_training_of(scenario)
    return capture.load(weights, update, scenario.model, device=choose_device(scenario), **facts)


def described(scenario: Scenario, case: Case) -> Scenario:
    """The scenario with the batch size, image size and local training of the case, for display and export."""
    local = case.update.local
    facts: dict[str, Any] = {"batch_size": case.update.batch_size, "image_size": case.image_shape[1]}
    facts |= {"mode": case.update.mode, "composition": None}
    if local is not None:
        facts |= {"local_epochs": local.epochs, "local_batch_size": local.batch_size}
        facts |= {"local_lr": local.lr, "local_momentum": local.momentum, "local_order": local.order}
    return scenario.model_copy(update=facts)


def run(case: Case, scenario: Scenario, *, stop: Callable[[], bool] = lambda: False) -> Iterator[Event]:
    """Attack a case with the attack settings of a scenario; `stop` is called between iterations."""
    yield from within_memory(_events(case, scenario, stop), scenario)


def _events(case: Case, scenario: Scenario, stop: Callable[[], bool]) -> Iterator[Event]:
    yield prepared(case, network_of(scenario.model).title, "weights as captured")
    yield from reconstruct(
        case,
        scenario.attack,
        settings_of(scenario),
        labels=None,
        label_strategy=scenario.label_strategy,
        wrong_labels=wrong_labels_of(scenario),
        repair_labels=scenario.repair_labels,
        seed=scenario.seed,
        max_seconds=scenario.max_seconds,
        stop=stop,
        **({} if scenario.max_iterations is None else {"iterations": scenario.max_iterations}),
    )


def _check(scenario: Scenario) -> None:
    problems = [
        f"{name} chooses private images, which are not known for a captured update; leave it out."
        for name in ("indices", "labels")
        if getattr(scenario, name) is not None
    ]
    if scenario.label_strategy == "true":
        problems.append("label_strategy 'true' needs the true labels, which are not known for a captured update.")
    if problems:
        raise UnsupportedScenario(problems)
    check(scenario.changed(mislabel=None, wrong_labels=0))
