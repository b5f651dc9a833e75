"""Image priors against NumPy, and what they do to a caller's model."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deepleak_core.attack.matching import MatchingSettings, match_update, terms
from deepleak_core.attack.objectives import Matching
from deepleak_core.attack.priors import PRIORS, group_consistency, l2, total_variation
from deepleak_core.attack.run import reconstruct
from deepleak_core.events import Finished
from deepleak_core.federated.case import Case
from deepleak_core.federated.models import build
from tests.helpers import case_of, random_images

LABELS = torch.tensor([1, 4])


def case(name: str, *, trained: bool = True, **changed: Any) -> Case:
    settings: dict[str, Any] = {"classes": 5, "image_size": 32, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)}
    model = build(name, **(settings | changed))
    for i, norm in enumerate(norms_of(model)):
        norm.running_mean += 0.1 * i
    return case_of(model, random_images(2, 3, 32, 32), LABELS, trained=trained)


def norms_of(model: nn.Module) -> list[Any]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def hooks_of(model: nn.Module) -> int:
    """Number of hooks anywhere in a model."""
    tables = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(module, table)) for module in model.modules() for table in tables)


shapes = st.tuples(st.integers(1, 3), st.integers(1, 2), st.sampled_from([1, 3]), st.integers(2, 6), st.integers(2, 6))


@given(shapes, st.integers(0, 99))
def test_total_variation(shape: tuple[int, ...], seed: int) -> None:
    x = random_images(*shape, seed=seed).double().numpy()
    expected = sum(np.abs(np.diff(r, axis=-1)).mean() + np.abs(np.diff(r, axis=-2)).mean() for r in x)
    assert float(total_variation(torch.tensor(x))) == pytest.approx(expected)


@given(shapes, st.integers(0, 99))
def test_group_consistency_and_l2(shape: tuple[int, ...], seed: int) -> None:
    x = random_images(*shape, seed=seed).double()
    assert float(group_consistency(x)) == pytest.approx(np.mean((x.numpy() - x.numpy().mean(0)) ** 2))
    assert float(group_consistency(x[:1].expand(3, *shape[1:]))) == pytest.approx(0, abs=1e-30)
    assert float(l2(x)) == pytest.approx(np.mean(x.numpy() ** 2))


def test_the_batchnorm_prior_is_the_distance_from_the_running_statistics() -> None:
    """Checked at the first layer's input by hand, at all others with inputs caught by hooks."""
    server, inputs = case("convnet"), torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    caught: list[np.ndarray] = []
    hooks = [
        n.register_forward_pre_hook(lambda _, i: caught.append(i[0].detach().numpy())) for n in norms_of(server.model)
    ]
    server.model.body(inputs)
    for hook in hooks:
        hook.remove()
    assert len(caught) == 8
    assert np.allclose(caught[0], server.model.body[0](inputs).detach().numpy())
    expected = sum(
        np.linalg.norm(x.mean((0, 2, 3)) - norm.running_mean.numpy())
        + np.linalg.norm(x.var((0, 2, 3)) - norm.running_var.numpy())
        for x, norm in zip(caught, norms_of(server.model), strict=True)
    )
    term = PRIORS["batchnorm"].term(server)
    assert term is not None
    assert float(term(inputs[None]).detach()) == pytest.approx(expected, rel=1e-4)
    assert float(term(torch.stack([inputs, inputs])).detach()) == pytest.approx(2 * expected, rel=1e-4)


def test_there_is_no_batchnorm_prior_where_there_are_no_statistics() -> None:
    assert PRIORS["batchnorm"].term(case("convnet", trained=False)) is None
    assert PRIORS["batchnorm"].term(case("lenet")) is None
    assert terms(case("lenet"), (("batchnorm", 1.0), ("l2", 0.0), ("total-variation", 0.5))) == [(0.5, total_variation)]


@pytest.mark.parametrize("name", ["convnet", "resnet20", "resnet18"])
def test_an_attack_leaves_no_hooks_on_a_callers_model(name: str) -> None:
    server = case(name)
    before = {n: t.clone() for n, t in server.model.state_dict().items()}
    for _ in range(2):
        *_, end = reconstruct(server, "gradinversion", restarts=1, max_iterations=1)
        assert isinstance(end, Finished)
        assert hooks_of(server.model) == 0
    assert all(torch.equal(t, before[n]) for n, t in server.model.state_dict().items())


def test_an_attack_that_is_dropped_halfway_leaves_no_hooks() -> None:
    server = case("resnet20")
    attack = match_update(server, LABELS.tolist(), MatchingSettings(priors=(("batchnorm", 0.1),)))
    next(attack)
    next(attack)
    attack.close()
    assert hooks_of(server.model) == 0


def test_a_forward_pass_that_fails_leaves_no_hooks() -> None:
    server = case("resnet20")
    term = PRIORS["batchnorm"].term(server)
    assert term is not None
    with pytest.raises(RuntimeError):
        term(torch.zeros(1, 2, 4, 32, 32))
    assert hooks_of(server.model) == 0


@pytest.mark.parametrize("name", PRIORS)
def test_every_prior_adds_its_weight_times_its_value(name: str) -> None:
    server, inputs = case("resnet20"), torch.randn(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(2))

    def loss(weight: float) -> Tensor:
        return Matching(case=server, labels=LABELS, distance="squared-l2", priors=terms(server, ((name, weight),)))(
            inputs
        ).loss.detach()

    term = PRIORS[name].term(server)
    assert term is not None
    assert float(loss(2.0) - loss(0.0)) == pytest.approx(2 * float(term(inputs).detach()), rel=1e-3)
