"""Snapshots come in order with the images of their moment, however late these arrive, and none is lost."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from deepleak_core.attack import run as attack_run
from deepleak_core.attack import snapshots
from deepleak_core.attack.run import reconstruct
from deepleak_core.attack.snapshots import HostCopy, Snapshots
from deepleak_core.attack.solvers import Iterate
from deepleak_core.events import Finished, Snapshot
from deepleak_core.federated.case import Case, observe
from deepleak_core.scenario import Scenario
from tests.helpers import all_of


@pytest.fixture(scope="module")
def case() -> Case:
    return observe(Scenario(indices=(0, 4), device="cpu"))[0]


def iterate(case: Case, step: int, levels: tuple[float, ...], residuals: tuple[float, ...]) -> Iterate:
    """Restarts of even images, in [0, 1]."""
    images = torch.stack([torch.full((2, 3, 32, 32), level) for level in levels])
    return Iterate(step, case.model.normalise(images), 0.5, torch.tensor(residuals), 1.0, 0.0, labels=(3, 6))


def test_the_restart_with_the_smallest_residual_is_shown(case: Case) -> None:
    taken = Snapshots(case)
    taken.take(iterate(case, 7, (0.2, 0.8), (0.4, 0.1)), 1.5, 0.25)
    (snapshot,) = taken.arrived()
    np.testing.assert_allclose(snapshot.images, 0.8, atol=1e-6)
    assert (snapshot.step, snapshot.seconds, snapshot.progress) == (7, 1.5, 0.25)
    assert snapshot.residual == pytest.approx(0.1)
    assert list(taken.all()) == []


def test_a_restart_that_diverged_is_not_shown_beside_one_that_did_not(case: Case) -> None:
    taken = Snapshots(case)
    taken.take(iterate(case, 7, (float("nan"), 0.8, 0.2), (float("nan"), 0.1, 0.4)), 1.5, 0.25)
    taken.take(iterate(case, 8, (0.2,), (float("nan"),)), 1.5, 0.25)
    found, diverged = taken.arrived()
    np.testing.assert_allclose(found.images, 0.8, atol=1e-6)
    assert found.residual == pytest.approx(0.1)
    assert np.isnan(diverged.residual)


def test_later_changes_of_the_solvers_memory_do_not_show(case: Case) -> None:
    taken = Snapshots(case)
    shown = iterate(case, 0, (0.2,), (0.4,))
    taken.take(shown, 0.0, 0.0)
    shown.inputs.zero_()
    (snapshot,) = taken.all()
    np.testing.assert_allclose(snapshot.images, 0.2, atol=1e-6)


class Late(HostCopy):
    """A copy that has not arrived unless somebody waits for it, as on a busy device."""

    def __init__(self, tensor: Tensor) -> None:
        super().__init__(tensor)
        self._waited = False

    @property
    def arrived(self) -> bool:
        """Whether somebody has waited."""
        return self._waited

    def wait(self) -> Tensor:
        """Wait."""
        self._waited = True
        return super().wait()


def test_nothing_is_lost_where_images_arrive_late(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attack_run, "SNAPSHOT_SECONDS", 0.0)
    on_time = list(reconstruct(case, iterations=6))
    monkeypatch.setattr(snapshots, "HostCopy", Late)
    late = list(reconstruct(case, iterations=6))
    assert isinstance(late[-1], Finished)
    assert len(all_of(Snapshot, late)) == 7
    for one, other in zip(all_of(Snapshot, on_time), all_of(Snapshot, late), strict=True):
        assert one.step == other.step
        assert np.array_equal(one.images, other.images)
