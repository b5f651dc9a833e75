"""Scenario checks: every reason why a scenario cannot run, before anything is computed."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.data.datasets import DATASETS
from deepleak_core.errors import UnsupportedScenario
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.runs.checks import check
from deepleak_core.scenario import Scenario

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
REFUSED: dict[str, tuple[dict[str, Any], str, tuple[str, ...]]] = {
    "a label that is no class": ({"mislabel": ("cat>unicorn",)}, "unicorn", CLASSES),
    "the same label on both sides": ({"mislabel": ("cat>Cat",)}, "mislabel", ()),
    "a label that the batch does not have": ({"indices": (0, 1), "mislabel": ("frog>dog",)}, "frog", ()),
    "attack": ({"attack": "magic"}, "magic", tuple(ATTACKS)),
    "label strategy": ({"label_strategy": "guess"}, "guess", (*STRATEGIES, "true")),
    "model": ({"model": "vgg"}, "vgg", tuple(MODELS)),
    "data set": ({"dataset": "none"}, "none", tuple(DATASETS)),
    "stage": ({"model": "resnet18", "stage": "ripe"}, "ripe", ("untrained",)),
    "a learning rate for a line search": ({"attack": "dlg", "learning_rate": 0.1}, "learning_rate", ()),
    "a prior": ({"prior": ("sharpness=1",)}, "sharpness", ("total-variation",)),
    "a setting": ({"setting": ("colour=red",)}, "colour", ("restarts",)),
    "a device that is not there": ({"device": "cuda:99"}, "cuda:99", (str(torch.cuda.device_count()),)),
}


@pytest.mark.parametrize(("values", "given", "accepted"), REFUSED.values(), ids=REFUSED.keys())
def test_a_refusal_says_what_was_given_and_what_is_accepted(
    values: dict[str, Any], given: str, accepted: tuple[str, ...]
) -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        check(Scenario(**values))
    (problem,) = refusal.value.problems
    assert given in problem
    assert all(name in problem for name in accepted)
    assert problem.endswith(".")


def test_all_problems_are_said_at_once() -> None:
    with pytest.raises(UnsupportedScenario) as refusal:
        check(Scenario(model="vgg", dataset="none", attack="magic", label_strategy="guess", device="cuda:99"))
    assert len(refusal.value.problems) == 5


def test_long_input_is_shortened() -> None:
    for name in ("attack", "model", "dataset", "label_strategy", "stage"):
        with pytest.raises(UnsupportedScenario) as refusal:
            check(Scenario(**{name: "x" * 5000}))
        assert "xxx..." in str(refusal.value)
        assert len(str(refusal.value)) < 600


@pytest.mark.parametrize("values", [{}, {"mode": "fedavg"}, {"stage": "late"}, {"device": "cpu"}, {"attack": "exact"}])
def test_what_can_run_is_let_through(values: dict[str, Any]) -> None:
    check(Scenario(**values))
