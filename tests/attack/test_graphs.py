"""Iterations are replayable: what a graph repeats gives what the iteration itself gives.

No GPU is needed: a tape in place of a CUDA graph records and repeats the operations of an iteration on the CPU.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from deepleak_core.attack import factored, graphs, priors
from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.graphs import LOOK_EVERY, WARM_UP, Replayed
from deepleak_core.attack.matching import MatchingSettings, match_update
from deepleak_core.attack.prior import Prior
from deepleak_core.attack.run import reconstruct
from deepleak_core.attack.settings import changed
from deepleak_core.attack.solvers import SOLVERS, Iterate
from deepleak_core.events import Finished, Snapshot, Stage
from deepleak_core.federated.case import Case
from deepleak_core.federated.client import LocalTraining
from deepleak_core.federated.models import MODELS, build
from tests.attack.tape import Tape
from tests.helpers import all_of, case_of, random_images

CPU = torch.device("cpu")
LABELS = [1, 6]
STEPS = LOOK_EVERY + 3


@pytest.fixture
def tapes(monkeypatch: pytest.MonkeyPatch) -> list[Tape]:
    """The tapes that are made while the CPU is a device with graphs."""
    made: list[Tape] = []

    def make(device: torch.device) -> Tape:
        made.append(Tape(device))
        return made[-1]

    monkeypatch.setitem(graphs.GRAPHS, "cpu", make)
    return made


def case(model: str = "lenet", local: LocalTraining | None = None, *, trained: bool = False) -> Case:
    network = build(model, classes=10, image_size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return case_of(network, random_images(2, 3, 16, 16), torch.tensor(LABELS), local, trained=trained)


def iterates(of: Case, **values: Any) -> dict[int, tuple[Tensor, float, Tensor]]:
    """Inputs, loss and residuals by iteration."""
    settings = changed(MatchingSettings(iterations=STEPS), values)
    reached = {}
    for item in match_update(of, LABELS, settings):
        if isinstance(item, Iterate):
            assert item.step - item.since == max(reached, default=-1)
            reached[item.step] = (item.inputs.clone(), item.loss, item.residuals)
    return reached


def same_as_without(of: Case, monkeypatch: pytest.MonkeyPatch, **values: Any) -> None:
    """With graphs some iterates are left out; the others are the same to rounding."""
    replayed = iterates(of, **values)
    monkeypatch.delitem(graphs.GRAPHS, "cpu")
    plain = iterates(of, **values)
    assert list(plain) == list(range(STEPS + 1))
    assert list(replayed) == [0, LOOK_EVERY, STEPS]
    for step, figures in replayed.items():
        torch.testing.assert_close(figures, plain[step], rtol=1e-5, atol=1e-5)
    assert not torch.equal(plain[0][0], plain[STEPS][0])


QUICK = [name for name in MODELS if name not in ("convnet", "resnet18", "mobilenet-v2", "strided")]


@pytest.mark.parametrize("model", [*QUICK, pytest.param("mobilenet-v2", marks=pytest.mark.slow)])
def test_iterations_of_every_network_are_replayed(
    model: str, tapes: list[Tape], monkeypatch: pytest.MonkeyPatch
) -> None:
    same_as_without(case(model), monkeypatch)
    assert [(tape.warm_ups, tape.replays) for tape in tapes] == [(WARM_UP, STEPS - WARM_UP)]


@pytest.mark.parametrize("solver", [name for name, solver in SOLVERS.items() if solver.takes_learning_rate])
@pytest.mark.parametrize("distance", ["cosine", "squared-l2"])
def test_first_order_solvers_are_replayed(
    solver: str, distance: str, tapes: list[Tape], monkeypatch: pytest.MonkeyPatch
) -> None:
    same_as_without(case(), monkeypatch, solver=solver, distance=distance, restarts=3)
    assert tapes[0].replays


@pytest.mark.parametrize("fedavg", ["averaged", "surrogate", "simulated"])
def test_every_reading_of_fedavg_is_replayed(fedavg: str, tapes: list[Tape], monkeypatch: pytest.MonkeyPatch) -> None:
    same_as_without(case(local=LocalTraining(epochs=2, batch_size=1, lr=0.1)), monkeypatch, fedavg=fedavg)
    assert tapes[0].replays


def test_priors_and_features_are_replayed(tapes: list[Tape], monkeypatch: pytest.MonkeyPatch) -> None:
    of = case("resnet20", trained=True)
    with torch.no_grad():
        for name, statistics in of.model.named_buffers():
            if "running" in name:
                statistics.copy_(random_images(*statistics.shape) + 0.5)
    everything = tuple((name, 0.1) for name in priors.PRIORS)
    settings = MatchingSettings(
        iterations=STEPS, priors=everything, feature_weight=1.0, restarts=2, start="independent"
    )
    replayed = [item for item in match_update(of, LABELS, settings) if isinstance(item, Iterate)]
    kept = replayed[-1].inputs.clone()
    assert tapes[0].replays
    monkeypatch.delitem(graphs.GRAPHS, "cpu")
    plain = [item for item in match_update(of, LABELS, settings) if isinstance(item, Iterate)]
    torch.testing.assert_close(kept, plain[-1].inputs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("fedavg", [None, "averaged", "surrogate", "simulated"])
def test_a_last_layer_in_factors_is_replayed(
    fedavg: str | None, tapes: list[Tape], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(factored, "LARGE", 0)
    local = LocalTraining(epochs=2, batch_size=2, lr=0.1) if fedavg else None
    same_as_without(case("lenet64-elu", local), monkeypatch, **({"fedavg": fedavg} if fedavg else {}))
    assert tapes[0].replays


@pytest.mark.parametrize("attack", [name for name in ATTACKS if isinstance(ATTACKS[name].settings, MatchingSettings)])
def test_a_preset_is_replayed_or_says_why_not(attack: str, tapes: list[Tape]) -> None:
    events = list(reconstruct(case(), attack, iterations=12, labels=LABELS))
    told = [stage.sentence for stage in all_of(Stage, events) if stage.name == "No CUDA graph"]
    if SOLVERS[ATTACKS[attack].settings.solver].takes_learning_rate:
        assert not told
        assert tapes[0].replays
    else:
        assert len(told) == 1


def test_snapshots_and_the_end_are_those_of_the_iterations(tapes: list[Tape]) -> None:
    events = list(reconstruct(case(), iterations=12, labels=LABELS))
    snapshots = all_of(Snapshot, events)
    assert isinstance(events[-1], Finished)
    assert snapshots[0].step == 0
    assert snapshots[-1].step == events[-1].step == 12
    assert events[-1].reason == "iterations"


def test_what_cannot_be_captured_is_told_and_goes_on(tapes: list[Tape], monkeypatch: pytest.MonkeyPatch) -> None:
    """A prior that looks at its values on the host."""

    def of_bright_images(inputs: Tensor) -> Tensor:
        return inputs.square().mean() if float(inputs.detach().mean()) > -9 else inputs.sum()

    prior = Prior(title="t", summary="s", source="s", term=lambda case: of_bright_images)
    monkeypatch.setitem(priors.PRIORS, "bright", prior)
    of = case()
    settings = MatchingSettings(iterations=STEPS, priors=(("bright", 0.1),))
    items = list(match_update(of, LABELS, settings))
    (told,) = [item for item in items if isinstance(item, Stage)]
    assert "_local_scalar_dense" in told.sentence
    reached = [item for item in items if isinstance(item, Iterate)][-1]
    assert reached.step == STEPS
    assert tapes[0].replays == 0
    monkeypatch.delitem(graphs.GRAPHS, "cpu")
    plain = [item for item in match_update(of, LABELS, settings) if isinstance(item, Iterate)][-1]
    assert torch.equal(reached.inputs, plain.inputs)


def test_a_device_without_graphs_runs_the_step_and_tells_nothing() -> None:
    count = torch.zeros(())
    run = Replayed(lambda: count.add_(1) and None, CPU)
    for _ in range(5):
        run()
    assert count == 5
    assert run.every == 1
    assert run.refused is None
    assert not [item for item in match_update(case(), LABELS, MatchingSettings(solver="lbfgs", iterations=2))
                if isinstance(item, Stage)]  # fmt: skip


def test_a_step_runs_once_a_call_whether_captured_or_not(tapes: list[Tape]) -> None:
    count, reads = torch.zeros(()), torch.zeros(())
    calls = 0

    def readable() -> None:
        nonlocal calls
        calls += 1
        count.add_(1)

    def unreadable() -> None:
        reads.add_(1)
        reads.item()

    good, bad = Replayed(readable, CPU), Replayed(unreadable, CPU)
    for _ in range(10):
        good()
        bad()
    assert count == reads == 10
    assert calls == WARM_UP + 1
    assert good.refused is None
    assert bad.refused
