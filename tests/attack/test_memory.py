"""Memory is estimated before an attack, and local steps are computed twice where they would take too much of it."""

from __future__ import annotations

import pytest

from deepleak_core.attack import memory
from deepleak_core.attack.memory import Needed, activations_of
from deepleak_core.attack.run import reconstruct
from deepleak_core.events import Stage
from deepleak_core.federated.case import observe
from deepleak_core.federated.client import LocalTraining
from deepleak_core.scenario import Scenario
from tests.helpers import all_of

SHAPE = (3, 32, 32)


def needed(epochs: int = 1, images: int = 8, fedavg: str = "simulated") -> Needed:
    case, _ = observe(Scenario(indices=(0, 4)))
    local = LocalTraining(epochs=epochs, batch_size=4, lr=0.1)
    return Needed.of(case.model, SHAPE, images, local=local, fedavg=fedavg)  # type: ignore[arg-type]


def test_only_steps_that_are_differentiated_through_take_more_memory() -> None:
    one, ten = needed(), needed(epochs=10)
    assert ten.whole == 10 * one.whole
    assert ten.recomputed < ten.whole / 2
    for reading in ("averaged", "surrogate", "corrected"):
        assert needed(epochs=10, fedavg=reading) == needed(fedavg=reading)


def test_activations_are_counted_for_one_image() -> None:
    case, _ = observe(Scenario(indices=(0, 4)))
    assert activations_of(case.model, SHAPE) == 2 * 64 * (16 * 16 + 8 * 8 + 8 * 8) + 64 * 8 * 8


@pytest.mark.parametrize("attack", ["general-deep-leakage", "exact"])
@pytest.mark.parametrize("free", [10**12, 10**6])
def test_a_run_says_that_steps_are_computed_twice(attack: str, free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_memory", lambda device: free)
    case, truth = observe(Scenario(indices=(0, 4), mode="fedavg", local_epochs=3))
    labels = truth.labels.tolist()
    events = list(reconstruct(case, attack, labels=labels, fedavg="simulated", iterations=2))
    said = [stage.sentence for stage in all_of(Stage, events) if "computed twice" in stage.name]
    assert bool(said) == (free == 10**6)


def test_every_restart_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    case, truth = observe(Scenario(indices=(0, 4), mode="fedavg", local_epochs=3))
    one, three = (
        Needed.of(case.model, SHAPE, 2, restarts=restarts, local=case.update.local, fedavg="simulated").whole
        for restarts in (1, 3)
    )
    monkeypatch.setattr(memory, "free_memory", lambda device: one + three)  # half of it lies between the two
    labels, settings = truth.labels.tolist(), {"fedavg": "simulated", "iterations": 1}
    said = [
        any(
            "computed twice" in stage.name
            for stage in all_of(Stage, reconstruct(case, labels=labels, **settings, restarts=n))
        )
        for n in (1, 3)
    ]
    assert said == [False, True]
