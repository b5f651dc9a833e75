"""Charts by ECharts: what is drawn where, as far as it is known without a browser."""

from __future__ import annotations

from typing import Any

import pytest
import streamlit as st

from ui import charts, echarts

NAMES = ("one", "two", "three", "four", "five", "six")
RATES = {name: [("untrained", 0.0)] for name in NAMES}
PHONE = 358  # pixels that a chart has in a window of 390


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The options and the height of the chart of six strategies that all fail at the first of four places."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(st, "echarts_chart", lambda option, **given: found.update(option, **given))
    echarts.accuracy(RATES, ["untrained", "early", "late", "pretrained"], over="Stage", title="batches", key="k")
    return found


def test_names_of_strategies_stand_above_the_plot(drawn: dict[str, Any]) -> None:
    assert [line["name"] for line in drawn["series"]] == list(NAMES)
    assert not any(line.get(label) for line in drawn["series"] for label in ("label", "endLabel"))
    assert drawn["legend"]["top"] + echarts.LEGEND_ROW * len(NAMES) / 2 <= drawn["grid"]["top"]


def test_the_plot_takes_most_of_a_phone(drawn: dict[str, Any]) -> None:
    assert drawn["grid"]["left"] + drawn["grid"]["right"] < PHONE / 4


def test_what_is_drawn_at_the_end_of_a_computation_is_as_high(
    drawn: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures: list[Any] = []
    monkeypatch.setattr(st, "plotly_chart", lambda figure, **_: figures.append(figure))
    charts.accuracy(RATES, ["untrained", "early", "late", "pretrained"], over="Stage", title="batches", key="k")
    assert drawn["height"] == figures[0].layout.height
