"""The objective: its distances and priors against NumPy, its gradients against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deepleak_core.attack.objectives import (
    DISTANCES,
    BatchNormPrior,
    Comparison,
    Matching,
    group_consistency,
    total_variation,
)
from deepleak_core.federated.client import LocalTraining, share
from deepleak_core.federated.models import build
from deepleak_core.federated.target_model import TargetModel

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
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matching(local: LocalTraining | None = None, **settings: Any) -> tuple[Matching, Tensor]:
    """An objective on the update of three images, and those images as the first layer sees them."""
    model = target()
    images = random(3, 3, 32, 32)
    update = share(model, images, LABELS, local)
    objective = Matching(model=model, update=update, labels=LABELS, **{"distance": "squared-l2", **settings})
    return objective, model.normalise(images)


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


# ---------------------------------------------------------------------------------------------------- priors


def test_total_variation() -> None:
    x = random(2, 3, 5, 7).numpy()
    expected = np.abs(np.diff(x, axis=-1)).mean() + np.abs(np.diff(x, axis=-2)).mean()
    assert float(total_variation(torch.tensor(x))) == pytest.approx(expected)


def test_group_consistency() -> None:
    x = random(4, 2, 3, 5, 5)
    assert float(group_consistency(x)) == pytest.approx(np.mean((x.numpy() - x.numpy().mean(0)) ** 2))
    assert float(group_consistency(x[:1].expand(3, -1, -1, -1, -1))) == pytest.approx(0, abs=1e-30)


def test_batchnorm_prior_is_the_distance_from_the_running_statistics() -> None:
    """Checked at the first layer's input by hand, at all others with inputs caught on the way."""
    model, images = target("convnet"), random(2, 3, 32, 32)
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    caught: list[np.ndarray] = []
    for i, norm in enumerate(norms):
        norm.running_mean += 0.1 * i
        norm.register_forward_pre_hook(lambda _, inputs: caught.append(inputs[0].detach().numpy()))
    prior = BatchNormPrior(model)
    model(images)
    first = model.body[0](model.normalise(images)).detach().numpy()
    assert np.allclose(caught[0], first)
    expected = sum(
        np.linalg.norm(x.mean((0, 2, 3)) - norm.running_mean.numpy())
        + np.linalg.norm(x.var((0, 2, 3)) - norm.running_var.numpy())
        for x, norm in zip(caught, norms, strict=True)
    )
    assert len(caught) == 8
    assert torch.as_tensor(prior.collect()).item() == pytest.approx(expected)
    assert prior.collect() == 0, "what was collected is not counted again"


# ----------------------------------------------------------------------------------------- the whole objective


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("local", "fedavg"), METHODS)
def test_gradients_by_finite_differences(local: LocalTraining | None, fedavg: str, distance: str) -> None:
    objective, _ = matching(
        local, fedavg=fedavg, distance=distance, total_variation=1e-2, l2=1e-2, group_consistency=1e-1
    )
    point, direction = random(2, 3, 3, 32, 32, seed=1), random(2, 3, 3, 32, 32, seed=2) - 0.5
    moving = point.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(objective(moving).loss, moving)
    step = 1e-6
    with torch.enable_grad():
        difference = (objective(point + step * direction).loss - objective(point - step * direction).loss) / (2 * step)
    assert float((gradient * direction).sum()) == pytest.approx(difference.item(), rel=1e-4)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize(("local", "fedavg"), [(None, "averaged"), (LOCAL, "simulated")])
def test_the_true_images_explain_the_update(local: LocalTraining | None, fedavg: str, distance: str) -> None:
    """Nothing is left at the truth where the update is simulated as it was made; elsewhere there is."""
    objective, truth = matching(local, fedavg=fedavg, distance=distance)
    value = objective(torch.stack([truth, random(*truth.shape)]))
    assert float(value.residuals[0]) < 1e-20 and float(value.residuals[1]) > 1e-3
    assert float(objective(truth[None]).loss.detach()) < 1e-7


def test_averaging_several_steps_is_only_an_approximation() -> None:
    objective, truth = matching(LOCAL, fedavg="averaged")
    assert float(objective(truth[None]).residuals[0]) > 1e-6


def test_surrogate_at_its_ends_is_the_gradient_at_the_weights_before_and_after() -> None:
    objective, truth = matching(LOCAL, fedavg="surrogate")
    (mixing,) = objective.parameters()
    after = target()
    after.load_state_dict(objective.update.tensors)
    images = objective.model.denormalise(truth)
    for place, model in ((0.0, objective.model), (1.0, after)):
        mixing.data.fill_(place)
        expected = share(model, images, LABELS).tensors
        assert all(torch.allclose(t, expected[n]) for n, t in objective.simulate(truth).items())


def test_only_the_surrogate_learns_beside_the_pixels() -> None:
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
