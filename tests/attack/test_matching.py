"""Gradient matching: where images that share a label start, and that they stay together from there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.attack.attacks import ATTACKS
from deepleak_core.attack.matching import MatchingSettings, match_update, starting_points
from deepleak_core.attack.settings import changed
from deepleak_core.attack.solvers import SOLVERS, Iterate
from deepleak_core.federated.case import Case
from deepleak_core.federated.client import LocalTraining
from deepleak_core.federated.models import build
from tests.helpers import case_of, random_images


def case(labels: Sequence[int], local: LocalTraining | None = None) -> Case:
    """A server's case of so many images of 16 x 16 pixels."""
    model = build("lenet64-elu", classes=10, image_size=16, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
    return case_of(model, random_images(len(labels), 3, 16, 16), torch.tensor(labels), local)


def points(case: Case, believed: Sequence[int], **values: Any) -> list[Tensor]:
    """The inputs (R, B, C, H, W) of every iterate."""
    few = changed(MatchingSettings(), {"iterations": 12} | values)
    return [item.inputs.clone() for item in match_update(case, believed, few) if isinstance(item, Iterate)]


def together(inputs: Tensor, believed: Sequence[int]) -> list[bool]:
    """For each image whether it equals the first one of its label, in every restart."""
    return [torch.equal(inputs[:, i], inputs[:, believed.index(label)]) for i, label in enumerate(believed)]


@settings(deadline=None, max_examples=12)
@given(st.lists(st.integers(0, 9), min_size=2, max_size=5).map(sorted), st.sampled_from(sorted(SOLVERS)))
def test_images_that_share_a_label_stay_equal(believed: list[int], solver: str) -> None:
    """Whether the believed labels are right or not."""
    reached = points(case([0, 1, 2, 3, 4][: len(believed)]), believed, solver=solver, iterations=6)
    assert all(all(together(inputs, believed)) for inputs in reached)
    assert not torch.equal(reached[0], reached[-1]), "they have moved"


@pytest.mark.parametrize("fedavg", ["averaged", "surrogate", "simulated"])
def test_they_stay_equal_under_every_reading_of_full_batch_steps(fedavg: str) -> None:
    believed = [1, 6, 6, 6]
    local = LocalTraining(epochs=2, batch_size=4, lr=0.01)
    reached = points(case(believed, local), believed, fedavg=fedavg, restarts=2)
    assert all(all(together(inputs, believed)) for inputs in reached)


def test_priors_leave_them_equal() -> None:
    believed = [6, 6]
    of = case(believed)
    for prior in ("total-variation", "l2", "group-consistency"):
        weighted = MatchingSettings(iterations=5, restarts=2, priors=((prior, 0.1),))
        *_, last = match_update(of, believed, weighted)
        assert isinstance(last, Iterate)
        assert all(together(last.inputs, believed))


def test_mini_batches_and_separated_features_tell_them_apart() -> None:
    believed = [1, 6, 6, 6]
    local = LocalTraining(epochs=1, batch_size=2, lr=0.1)
    simulated = points(case(believed, local), believed, fedavg="simulated")[-1]
    assert together(simulated, believed) == [True, True, False, False]
    assert together(points(case(believed), believed, feature_weight=1.0)[-1], believed) == [True, True, False, False]


def test_from_independent_points_they_stay_apart() -> None:
    believed = [1, 6, 6]
    reached = points(case(believed), believed, start="independent")
    assert together(reached[0], believed) == together(reached[-1], believed) == [True, True, False]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=6).map(sorted), st.integers(1, 3), st.integers(0, 9))
@settings(deadline=None, max_examples=20)
def test_labels_that_do_not_repeat_start_alike_either_way(believed: list[int], restarts: int, seed: int) -> None:
    of = case(believed)
    shared, own = (starting_points(of, believed, restarts, start, seed=seed) for start in ("shared", "independent"))
    assert shared.shape == (restarts, len(believed), 3, 16, 16)
    firsts = [believed.index(label) for label in set(believed)]
    assert torch.equal(shared[:, firsts], own[:, firsts])
    assert together(shared, believed) == [True] * len(believed)
    assert len({float(point.sum()) for point in own.flatten(0, 1)}) == restarts * len(believed)


def test_published_attacks_start_as_their_papers_say() -> None:
    starts = {name: getattr(attack.settings, "start", None) for name, attack in ATTACKS.items()}
    assert starts["general-deep-leakage"] == MatchingSettings().start == "shared"
    assert {starts[name] for name in ("dlg", "inverting-gradients", "gradinversion")} == {"independent"}
    assert starts["exact"] is None
