"""Figures by Plotly: what is drawn, as far as it is known."""

from __future__ import annotations

import json
from typing import Any

import pytest
import streamlit as st

from ui import charts

BASELINES = {"flat grey image": 13.0, "random noise": 8.0}


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The figures that are drawn, as plain values."""
    figures: list[dict[str, Any]] = []
    monkeypatch.setattr(st, "plotly_chart", lambda figure, **_: figures.append(json.loads(figure.to_json())))
    return figures


def test_a_sweep_shows_the_points_that_are_known(drawn: list[dict[str, Any]]) -> None:
    charts.sweep([("mean", [(0, (40.0, 50.0)), (1, (10.0, 20.0))])], range(3), BASELINES, axis="wrong labels", key="k")
    dots, mean, *levels = drawn[0]["data"]
    assert {level["name"]: level["y"] for level in levels} == {"flat grey image": [13.0] * 2, "random noise": [8.0] * 2}
    assert len({level["line"]["dash"] for level in levels}) == 2, "not told apart by colour alone"
    assert (mean["x"], mean["y"]) == ([0, 1], [45.0, 15.0])
    assert (dots["x"], dots["y"]) == ([0, 0, 1, 1], [40.0, 50.0, 10.0, 20.0])
    assert drawn[0]["layout"]["xaxis"]["range"][1] >= 2, "room for the point that is missing"


def test_a_sweep_without_any_point_is_an_empty_figure(drawn: list[dict[str, Any]]) -> None:
    charts.sweep([("one", []), ("other", [])], range(2), {}, axis="wrong labels", key="k")
    assert [line["x"] for line in drawn[0]["data"]] == [[], []]


def test_strategies_differ_by_shape(drawn: list[dict[str, Any]]) -> None:
    rates = {name: [("1", 1.0), ("2", 0.5)] for name in ("one", "two", "three")}
    charts.accuracy(rates, ["1", "2"], over="Batch size", title="batches", key="k")
    assert len({line["marker"]["symbol"] for line in drawn[0]["data"]}) == 3
