"""Scenario checks: every reason why a scenario cannot run here, before anything is computed."""

from __future__ import annotations

from deepleak_core.attack.attacks import settings_of
from deepleak_core.data import datasets
from deepleak_core.data.batches import labels_of_batch
from deepleak_core.errors import DatasetUnavailable, UnsupportedScenario
from deepleak_core.federated.checks import problems_of_client, problems_of_device
from deepleak_core.labels import wrong_labels
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.scenario import Scenario
from deepleak_core.text import unknown


def check(scenario: Scenario) -> None:
    """Raise `UnsupportedScenario` with every reason why this scenario cannot run here."""
    problems = problems_of_client(scenario)
    try:
        settings_of(scenario)
    except UnsupportedScenario as error:
        problems += error.problems
    if (scenario.label_strategy or "true") not in (*STRATEGIES, "true"):
        problems.append(unknown("label_strategy", scenario.label_strategy, [*STRATEGIES, "true"]))
    if scenario.dataset in datasets.DATASETS:
        problems += problems_of_wrong_labels(scenario)
    problems += problems_of_device(scenario)
    if problems:
        raise UnsupportedScenario(problems)


def problems_of_wrong_labels(scenario: Scenario) -> list[str]:
    """Every reason why the labels that `mislabel` names cannot be replaced, one sentence each.

    The labels of the batch are looked up where the data set can be read. Nothing is downloaded.
    """
    if not scenario.mislabel:
        return []
    try:
        names = datasets.names_of_classes(scenario)
        pairs = wrong_labels.swaps(scenario.mislabel, names)
        wrong_labels.swap(labels_of_batch(scenario), pairs, names)
    except UnsupportedScenario as error:
        return list(error.problems)
    except DatasetUnavailable:  # the run will say so
        return []
    return []
