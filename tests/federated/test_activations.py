"""The table of activations against autograd: slope, inverse and floor, for any input."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from deepleak_core.federated.activations import ACTIVATIONS, activation_of, has_kinks, known_activations
from tests.helpers import floor_of

SAMPLES: list[nn.Module] = [
    nn.ReLU(),
    nn.ReLU6(),
    nn.ELU(),
    nn.ELU(alpha=0.3),
    nn.Sigmoid(),
    nn.Tanh(),
    nn.Softplus(),
    nn.Softplus(beta=3.0),
    nn.LeakyReLU(),
    nn.LeakyReLU(negative_slope=0.2),
]
INVERTIBLE = [module for module in SAMPLES if not isinstance(module, nn.ReLU6)]
values = st.lists(st.floats(-5, 8).filter(lambda x: abs(x) > 1e-3), min_size=4, max_size=4)


def test_every_entry_of_the_table_is_tried() -> None:
    assert {type(module) for module in SAMPLES} == set(ACTIVATIONS)
    assert all(kind.__name__ in known_activations() for kind in ACTIVATIONS)


def outputs_and_slopes(module: nn.Module, inputs: list[float]) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs x (2, 2), outputs a(x) and slopes a'(x) by autograd, in float64. Every row has a positive output."""
    x = torch.tensor(inputs, dtype=torch.float64).view(2, 2)
    x[:, 0] = x[:, 0].abs() + 0.1
    x.requires_grad_()
    y = module(x)
    (slope,) = torch.autograd.grad(y.sum(), x)
    return x.detach(), y.detach(), slope


@pytest.mark.parametrize("module", SAMPLES, ids=str)
@given(inputs=values)
def test_slopes_are_those_of_autograd(module: nn.Module, inputs: list[float]) -> None:
    _, y, slope = outputs_and_slopes(module, inputs)
    entry = activation_of(module)
    assert entry is not None
    torch.testing.assert_close(entry.slope(module, y), slope, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("module", INVERTIBLE, ids=str)
@given(inputs=values)
def test_inverses_give_the_inputs_back_where_they_are_known(module: nn.Module, inputs: list[float]) -> None:
    x, y, _ = outputs_and_slopes(module, inputs)
    entry = activation_of(module)
    assert entry is not None
    assert entry.inverse is not None
    found, known = entry.inverse(module, y)
    torch.testing.assert_close(found * known, x * known, rtol=1e-5, atol=1e-5)
    assert ((known == 1) | (x <= 0)).all(), "what is not known is at most zero"
    if not isinstance(module, nn.ReLU):
        assert known.all()


@pytest.mark.parametrize("module", SAMPLES, ids=str)
@given(inputs=values)
def test_no_output_is_below_the_floor(module: nn.Module, inputs: list[float]) -> None:
    _, y, _ = outputs_and_slopes(module, inputs)
    entry = activation_of(module)
    assert entry is not None
    floor = entry.floor(module)
    if floor is None:
        assert float(module(torch.tensor(-1e6))) < -1e3, "there is none indeed"
        return
    assert (y >= floor).all()
    deepest = float(module(torch.tensor(-30.0, dtype=torch.float64)))
    assert deepest == pytest.approx(floor, abs=1e-6), "it is the greatest lower bound"
    if entry.smooth:
        assert float(module(torch.tensor(-5.0, dtype=torch.float64))) > floor, "smooth ones approach it only"


@pytest.mark.parametrize("module", INVERTIBLE, ids=str)
def test_saturated_outputs_have_finite_inverses(module: nn.Module) -> None:
    inputs = torch.tensor([[-80.0, -20.0, 20.0, 80.0]])
    entry = activation_of(module)
    assert entry is not None
    assert entry.inverse is not None
    found, known = entry.inverse(module, module(inputs))
    assert found.isfinite().all()
    assert known.isfinite().all()


@pytest.mark.parametrize("module", SAMPLES, ids=str)
def test_smoothness_is_whether_there_is_a_kink_at_zero(module: nn.Module) -> None:
    """ELU with a scale other than one has a kink there too, yet approaches its floor like a smooth function."""
    around = torch.tensor([-1e-9, 1e-9], dtype=torch.float64, requires_grad=True)
    (slopes,) = torch.autograd.grad(module(around).sum(), around)
    entry = activation_of(module)
    assert entry is not None
    if not isinstance(module, nn.ELU):
        assert entry.smooth == bool((slopes[0] - slopes[1]).abs() < 1e-6)


# ------------------------------------------------------------------------------------------------ networks


def test_the_floor_of_a_body_is_that_of_its_last_activation() -> None:
    convolution = nn.Conv2d(3, 4, 3)
    for pooling in (nn.Identity(), nn.AvgPool2d(2), nn.MaxPool2d(2), nn.AdaptiveAvgPool2d(1)):
        assert floor_of(nn.Sequential(convolution, nn.Tanh(), pooling, nn.Flatten())) == (-1.0, True)
    assert floor_of(nn.Sequential(convolution, nn.ReLU(), nn.Flatten())) == (0.0, False)
    for last in (convolution, nn.GELU(), nn.BatchNorm2d(3), nn.LeakyReLU()):
        assert floor_of(nn.Sequential(last, nn.Flatten()))[0] is None


def test_activations_outside_the_table_are_none_and_nothing_is_assumed_of_them() -> None:
    class Odd(nn.ReLU):
        """A subclass may compute something else."""

    assert activation_of(nn.GELU()) is None
    assert activation_of(nn.Conv2d(1, 1, 1)) is None
    assert activation_of(Odd()) is None


def test_kinks() -> None:
    assert has_kinks(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()))
    assert has_kinks(nn.Sequential(nn.ELU(), nn.MaxPool2d(2)))
    assert not has_kinks(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ELU(), nn.AvgPool2d(2)))
