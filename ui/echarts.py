"""Curves drawn by ECharts: PSNR and residual of a finished run, label accuracy while points are added.

ECharts is part of Streamlit: with a key, a chart takes new data in place, where a Plotly figure is rebuilt in the
browser at every change. The curve of a run under way is the player's timeline (`ui.player`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from deepleak_core.runs.store import Moment
from deepleak_core.scoring.sentences import RECOVERED_DB
from deepleak_core.text import NEGLIGIBLE_RESIDUAL, shorten

HEIGHT = 360  # pixels
LEGEND_ROW = 24  # pixels of a row of the legend above a chart
POINTS = 300  # moments of a long run that are drawn
MOST_POWER = 300  # of ten, at the end of an axis: near the largest numbers there are
LINES = 8  # images of a larger batch that get a line of their own
MARK_PLACES = ("insideEndTop", "insideEndTop", "insideEndBottom")  # of names at level lines, which lie close together
SYMBOLS = ("circle", "rect", "triangle", "diamond", "emptyCircle", "emptyRect", "emptyTriangle")
MEAN, RESIDUAL, GREY = "#c2410c", "#2563eb", "#94a3b8"
PSNR_TITLE = "PSNR in dB: how close the images are"
RESIDUAL_TITLE = "Residual: what is not matched"

Point = tuple[float, float]


def run_curves(moments: Sequence[Moment], titles: Sequence[str], baselines: Mapping[str, float]) -> None:
    """PSNR of each image and their mean in dB, where there is a ground truth, and the residual, over seconds.

    `baselines` in dB, by name, are what is reached without any reconstruction.
    """
    drawn = _thinned(moments)
    images = [
        _line(shorten(title), GREY, 1, [(m.seconds, m.score.psnr[i]) for m in drawn if m.score])
        for i, title in enumerate(titles[:LINES])
    ]
    mean = _line("mean", MEAN, 4, _means(drawn))
    mean["z"] = 3  # above the lines of single images
    mean["markLine"] = {
        "symbol": "none",
        "silent": True,
        "label": {"formatter": "{b}", "fontSize": 12},
        "lineStyle": {"color": GREY},
        "data": [
            {"yAxis": value, "name": name, "label": {"position": place}}
            for (name, value), place in zip(
                {"photo quality": RECOVERED_DB, **baselines}.items(), MARK_PLACES, strict=False
            )
            if math.isfinite(value)
        ],
    }
    residual = _line("residual", RESIDUAL, 4, _residuals(drawn), axis=1)
    seconds = {"type": "value", "min": 0, "max": max((m.seconds for m in drawn), default=5.0)}
    _draw(
        {
            "title": [_title(PSNR_TITLE, 8), _title(RESIDUAL_TITLE, HEIGHT / 2 + 8)],
            "grid": [
                {"top": 38, "height": HEIGHT / 2 - 56, "left": 60, "right": 12},
                {"top": HEIGHT / 2 + 38, "height": HEIGHT / 2 - 62, "left": 60, "right": 12},
            ],
            "xAxis": [
                seconds | {"gridIndex": 0, "axisLabel": {"show": False}},
                seconds | {"gridIndex": 1, "axisLabel": {"formatter": "{value} s", "showMaxLabel": False}},
            ],
            "yAxis": [_decibels(drawn), _powers(residual["data"])],
            "tooltip": {"trigger": "axis"},
            "series": [*images, mean, residual],
        },
        HEIGHT,
        "curves",
        "PSNR and residual over the seconds of the attack",
    )


def accuracy(
    rates: Mapping[str, Sequence[tuple[str, float]]], places: Sequence[str], *, over: str, title: str, key: str
) -> None:
    """How often each strategy is right, 0 to 1, at each of the places along the bottom, while points are added.

    Lines differ by the shape of their points, not by colour alone; the legend above has both, so that no name covers
    the axes or takes their width. Points become smaller from one strategy to the next, so that all are visible where
    they coincide. The chart is as high as the one of `charts`, which takes its place at the end.
    """
    legend = LEGEND_ROW * math.ceil(len(rates) / 2)  # two entries fit a phone
    series = [
        {
            "type": "line",
            "name": name,
            "data": [(place, round(100 * rate, 1)) for place, rate in points if math.isfinite(100 * rate)],
            "symbol": SYMBOLS[n % len(SYMBOLS)],
            "symbolSize": 20 - 2 * n,
            "lineStyle": {"width": 4 if n else 9},
        }
        for n, (name, points) in enumerate(rates.items())
    ]
    _draw(
        {
            "title": [_title(f"Share of {title}", 8)],
            "legend": {
                "top": 34, "left": 0, "itemGap": 12, "itemHeight": 12, "padding": 0, "selectedMode": False,
                "textStyle": {"fontSize": 14, "lineHeight": LEGEND_ROW - 12}, "lineStyle": {"width": 3},
            },
            "grid": {"top": 44 + legend, "bottom": 32, "left": 8, "right": 16},
            "xAxis": {
                "type": "category", "data": list(places), "axisLabel": {"fontSize": 14, "interval": 0, "margin": 16},
                "name": over, "nameLocation": "middle", "nameGap": 38, "nameTextStyle": {"fontSize": 14},
            },
            "yAxis": {
                "type": "value", "min": 0, "max": 100, "interval": 25,
                "axisLabel": {"fontSize": 14, "formatter": "{value} %"},
            },
            "tooltip": {"trigger": "axis"},
            "series": series,
        },
        HEIGHT + legend,
        key,
        f"Share of {title} by {over.lower()}",
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------ the pieces


def _draw(option: dict[str, Any], height: int, key: str, alt: str) -> None:
    st.echarts_chart({"animation": False, **option}, height=height, key=key, alt=alt)


def _thinned(moments: Sequence[Moment]) -> list[Moment]:
    """As many moments of a long run as are drawn, the last one among them."""
    return [*moments[:: math.ceil(len(moments) / POINTS)], *moments[-1:]] if moments else []


def _means(moments: Sequence[Moment]) -> list[Point]:
    """Mean PSNR over seconds, of moments that have a ground truth."""
    return _finite([(m.seconds, m.score.mean_psnr) for m in moments if m.score])


def _residuals(moments: Sequence[Moment]) -> list[Point]:
    """Residuals over seconds, cut off where their exact size is not reported either."""
    return _finite([(m.seconds, max(m.residual, NEGLIGIBLE_RESIDUAL)) for m in moments])


def _finite(points: Sequence[Point]) -> list[Point]:
    """The points that can be drawn: an attack may diverge."""
    return [(x, y) for x, y in points if math.isfinite(y)]


def _decibels(moments: Sequence[Moment]) -> dict[str, Any]:
    """The axis of PSNR, from 0 to at least 40 dB."""
    top = max([40.0, *(mean + 5 for _, mean in _means(moments))])
    axis = {"showMaxLabel": False}
    return {"type": "value", "gridIndex": 0, "min": 0, "max": top, "interval": 20, "axisLabel": axis}


def _powers(points: Sequence[Point]) -> dict[str, Any]:
    """The axis of residuals: all of these points between powers of ten, with few enough labels to be read."""
    logs = [math.log10(residual) for _, residual in points] or [-2.0, 0.0]
    low, high = math.floor(min(logs)), min(MOST_POWER, math.ceil(max(logs)))
    step = math.ceil((high - low) / 4) or 1
    return {"type": "log", "gridIndex": 1, "min": 10.0 ** (high - 4 * step), "max": 10.0**high, "interval": step}


def _line(name: str, color: str, width: int, data: Sequence[Point], axis: int = 0) -> dict[str, Any]:
    """One line; values in three digits, which is all that a chart can show."""
    return {
        "type": "line",
        "name": name,
        "xAxisIndex": axis,
        "yAxisIndex": axis,
        "showSymbol": False,
        "lineStyle": {"width": width, "color": color},
        "itemStyle": {"color": color},
        "data": [(round(x, 2), float(f"{y:.3g}")) for x, y in _finite(data)],
    }


def _title(text: str, top: float) -> dict[str, Any]:
    return {"text": text, "top": top, "left": 0, "textStyle": {"fontSize": 14, "fontWeight": "normal"}}
