"""The objective: its distances against NumPy, its gradients against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from deepleak_core.attack import memory
from deepleak_core.attack.comparison import Comparison
from deepleak_core.attack.matching import terms
from deepleak_core.attack.objectives import DISTANCES, Matching
from deepleak_core.federated.client import LocalTraining, share
from deepleak_core.federated.models import build
from deepleak_core.federated.target_model import TargetModel
from tests.helpers import case_of, random_images

LABELS = torch.tensor([1, 1, 4])
LOCAL = LocalTraining(epochs=2, batch_size=2, lr=0.05)
METHODS: list[tuple[LocalTraining | None, str]] = [
    (None, "averaged"),
    (LOCAL, "averaged"),
    (LOCAL, "surrogate"),
    (LOCAL, "simulated"),
]


def target(name: str = "lenet", **changed: Any) -> TargetModel:
    model = build(name, classes=5, image_size=32, mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3), **changed)
    return model.double()


def random(*shape: int, seed: int = 0) -> Tensor:
    return random_images(*shape, seed=seed).double()


def matching(local: LocalTraining | None = None, priors: Any = (), **settings: Any) -> tuple[Matching, Tensor]:
    """An objective on the update of three images, and those images as the first layer sees them."""
    images = random(3, 3, 32, 32)
    case = case_of(target(), images, LABELS, local)
    objective = Matching(case=case, labels=LABELS, priors=terms(case, priors), **{"distance": "squared-l2", **settings})
    return objective, case.model.normalise(images)


# ------------------------------------------------------------------------------------------------- distances

vectors = st.lists(st.floats(-10, 10), min_size=6, max_size=6).filter(lambda v: np.linalg.norm(v) > 1e-3)


@given(vectors, vectors)
def test_distances_are_those_of_the_flattened_updates(simulated: list[float], shared: list[float]) -> None:
    s, u = np.array(simulated), np.array(shared)

    def layers(v: np.ndarray) -> dict[str, Tensor]:
        return {"weight": torch.tensor(v[:4]).view(2, 2), "bias": torch.tensor(v[4:])}

    comparison = Comparison.of(layers(s), layers(u))
    assert float(DISTANCES["squared-l2"](comparison)) == pytest.approx(np.sum((s - u) ** 2) / np.sum(u**2))
    cosine = 1 - s @ u / np.linalg.norm(s) / np.linalg.norm(u)
    assert float(DISTANCES["cosine"](comparison)) == pytest.approx(cosine, abs=1e-9)


# ----------------------------------------------------------------------------------------- the whole objective


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("local", "fedavg"), METHODS)
def test_gradients_by_finite_differences(local: LocalTraining | None, fedavg: str, distance: str) -> None:
    priors = (("total-variation", 1e-2), ("l2", 1e-2), ("group-consistency", 1e-1))
    features = random(3, target().head.in_features, seed=3)
    objective, _ = matching(local, priors, fedavg=fedavg, distance=distance, features=features, feature_weight=1e-2)
    point, direction = random(2, 3, 3, 32, 32, seed=1), random(2, 3, 3, 32, 32, seed=2) - 0.5
    moving = point.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(moving).loss, moving)
    step = 1e-6
    difference = (objective(point + step * direction).loss - objective(point - step * direction).loss) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(difference.item(), rel=1e-4)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("local", "fedavg"), [(None, "averaged"), (LOCAL, "simulated")])
def test_the_true_images_explain_the_update(local: LocalTraining | None, fedavg: str, distance: str) -> None:
    """The residual is zero at the private batch where the update is simulated as it was made, and elsewhere not."""
    objective, truth = matching(local, fedavg=fedavg, distance=distance)
    value = objective(torch.stack([truth, random(*truth.shape)]))
    assert float(value.residuals[0]) < 1e-20
    assert float(value.residuals[1]) > 1e-3
    assert float(objective(truth[None]).loss.detach()) < 1e-7


@pytest.mark.parametrize("fedavg", ["simulated", "corrected"])
def test_a_corrected_reading_is_a_simulated_one_where_it_was_renewed(fedavg: str) -> None:
    """Uneven mini-batches with momentum: values agree, gradients nearly."""
    local = LocalTraining(epochs=2, batch_size=2, lr=1e-4, momentum=0.5)
    objective, truth = matching(local, fedavg=fedavg)
    reference, _ = matching(local, fedavg="simulated")
    point = random(1, *truth.shape, seed=1).requires_grad_()
    assert objective.renew(point, 0) == (fedavg == "corrected")
    assert not objective.renew(point, 1)
    value, expected = objective(point), reference(point)
    assert value.loss.item() == pytest.approx(expected.loss.item(), rel=1e-9)
    (found,), (gradient,) = torch.autograd.grad(value.loss, point), torch.autograd.grad(expected.loss, point)
    assert (found - gradient).norm() < 0.05 * gradient.norm()
    assert objective.residual(truth) < 1e-20, "the residual is that of simulated steps"


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_steps_that_are_computed_twice_give_the_same(momentum: float, monkeypatch: pytest.MonkeyPatch) -> None:
    local = LocalTraining(epochs=2, batch_size=2, lr=0.05, momentum=momentum)
    kept, truth = matching(local, fedavg="simulated")
    assert kept.remark is None
    monkeypatch.setattr(memory, "free_memory", lambda device: 10)
    twice, _ = matching(local, fedavg="simulated")
    assert twice.remark is not None
    point = random(1, *truth.shape, seed=1).requires_grad_()
    (expected,) = torch.autograd.grad(kept(point).loss, point)
    (found,) = torch.autograd.grad(twice(point).loss, point)
    assert torch.allclose(found, expected, rtol=1e-6, atol=1e-9 * float(expected.abs().max()))


def test_averaging_several_steps_is_only_an_approximation() -> None:
    objective, truth = matching(LOCAL, fedavg="averaged")
    assert float(objective(truth[None]).residuals[0]) > 1e-6


def test_surrogate_at_its_ends_is_the_gradient_at_the_weights_before_and_after() -> None:
    objective, truth = matching(LOCAL, fedavg="surrogate")
    case = objective.case
    (mixing,) = objective.parameters()
    after = target()
    after.load_state_dict(case.update.tensors)
    images = case.model.denormalise(truth)
    for place, model in ((0.0, case.model), (1.0, after)):
        mixing.data.fill_(place)
        expected = share(model, images, LABELS).tensors
        assert all(torch.allclose(t, expected[n]) for n, t in objective.simulate(truth).items())


def test_only_the_surrogate_has_unknowns_beside_the_pixels() -> None:
    for local, fedavg in METHODS:
        parameters = matching(local, fedavg=fedavg)[0].parameters()
        assert len(parameters) == (fedavg == "surrogate")


def test_residuals_belong_to_their_restart() -> None:
    objective, truth = matching()
    starts = torch.stack([truth, random(*truth.shape), truth + 0.1])
    together = objective(starts).residuals
    alone = torch.cat([objective(start[None]).residuals for start in starts])
    assert torch.allclose(together, alone, rtol=1e-10, atol=1e-25)


def test_wrong_labels_leave_a_residual() -> None:
    objective, truth = matching()
    objective.labels = torch.tensor([1, 2, 4])
    assert float(objective(truth[None]).residuals[0]) > 1e-2


def test_the_feature_distance_is_relative_and_the_mean_over_the_images() -> None:
    objective, truth = matching()
    with torch.no_grad():
        true = objective.case.model.body(truth)
    objective.features = true
    assert float(objective.feature_distance(truth[None]).detach()) < 1e-20
    objective.features = true / 2
    assert float(objective.feature_distance(torch.stack([truth, truth])).detach()) == pytest.approx(2.0)
