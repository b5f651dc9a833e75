"""The equations of pixels behind known layer outputs: closed-form Jacobian products against automatic ones."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from deepleak_core.attack.peeling import Level, Peeled, chain
from deepleak_core.attack.pixels import ChainEquations
from deepleak_core.federated.models import build
from deepleak_core.federated.networks.lenet import lenet
from deepleak_core.federated.networks.network import Network
from tests.helpers import Equations, use_networks

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"elu": nn.ELU, "relu": nn.ReLU, "tanh": nn.Tanh}


@pytest.mark.parametrize("activation", ACTIVATIONS.values(), ids=ACTIVATIONS.keys())
@pytest.mark.parametrize("partly", [False, True])
def test_jacobian_products_equal_automatic_ones(
    activation: Callable[[], nn.Module], partly: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Network(title="T", summary="T.", source="none", body=lenet(6, activation), features=activation())
    use_networks(monkeypatch, test_network=network)
    model = build("test-network", classes=10, image_size=32, mean=(0.5,) * 3, std=(0.25,) * 3).double()
    links = chain(model, (3, 32, 32))
    assert not isinstance(links, str)
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    truth, levels = normal(3, 3, 32, 32), []
    flowing = truth
    for link in links[:2]:
        flowing = link.activation(link.forward(flowing)).detach()
        known = torch.rand(flowing.shape, generator=generator) < (0.5 if partly else 2)
        levels.append(Level(link=link, outputs=flowing, known=known))
    equations = ChainEquations.of(Peeled(links=links[:2], levels=tuple(levels)), torch.float64)
    active = torch.tensor([0, 2])
    assert equations.residuals(truth[active], active).abs().max() < 1e-5
    point = normal(2, 3, 32, 32)
    closed, automatic = (e.linearised(point, active) for e in (equations, Equations(equations.residuals)))
    step, residuals = normal(2, 3, 32, 32), torch.randn_like(closed.values)
    torch.testing.assert_close(closed.values, equations.residuals(point, active))
    torch.testing.assert_close(closed.push(step), automatic.push(step), rtol=1e-4, atol=1e-9)
    torch.testing.assert_close(closed.pull(residuals), automatic.pull(residuals), rtol=1e-4, atol=1e-9)
