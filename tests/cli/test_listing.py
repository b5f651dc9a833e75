"""The command `list`: every registry by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.objectives import DISTANCES
from deepleak_core.attack.priors import PRIORS
from deepleak_core.attack.settings import limits_of
from deepleak_core.attack.solvers import SOLVERS
from deepleak_core.data.datasets import DATASETS
from deepleak_core.federated import checkpoints
from deepleak_core.federated.case import target_model
from deepleak_core.federated.models import MODELS
from deepleak_core.labels.strategies import STRATEGIES
from deepleak_core.scenario import Scenario


def test_list_names_everything_there_is(command: Callable[..., Any]) -> None:
    ended = command("list")
    assert ended.status == 0
    words = ended.out.split()
    registries = (DATASETS, MODELS, ATTACKS, PRIORS, DISTANCES, SOLVERS, STRATEGIES)
    for name in (*(name for registry in registries for name in registry), "true", "untrained"):
        assert name in words, name


def test_list_names_the_settings_of_attacks(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    text = command("list").out
    for title, attack in ATTACKS.items():
        for name, limits in limits_of(attack.settings).items():
            if value := getattr(attack.settings, name):
                assert name in text
                assert limits.help in text
                assert f"{title}: {value}" in text


def test_list_names_trained_stages(
    command: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = target_model(Scenario(dataset="cifar100-samples", model="lenet"))
    checkpoints.save(trained, tmp_path / "lenet--cifar100--late.safetensors", epochs=5, accuracy=0.684)
    (tmp_path / "lenet--cifar10--early.safetensors").touch()
    monkeypatch.setattr(checkpoints, "CHECKPOINTS", tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    text = command("list").out
    assert "late: 5 epochs, 68 % accuracy (cifar100)" in text
    assert "early: unreadable" not in text
    assert "untrained" in text, "a broken file breaks no list"
