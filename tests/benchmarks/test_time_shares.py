"""Shares of the time of an attack."""

from __future__ import annotations

import pytest

from benchmarks import time_shares
from deepleak_core.scenario import Scenario


def test_shares_add_up_and_a_convolutional_network_has_convolutions() -> None:
    shares = time_shares.measure(Scenario(indices=(0, 4), max_iterations=5, device="cpu"))
    assert sum(shares.values()) == pytest.approx(1)
    assert shares["convolutions"] > 0.1
    assert len(time_shares.row({"cell": "any", "shares": shares})) == len(time_shares.HEAD)


@pytest.mark.parametrize("cell", time_shares.CELLS)
def test_every_cell_is_a_scenario(cell: str) -> None:
    assert Scenario(**time_shares.CELLS[cell])
