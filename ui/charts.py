"""Curves: how close the pictures of a run come, what they leave unexplained, how often labels are right.

Drawn by ECharts, which Streamlit brings along: given a key, a live chart takes new data in place, where a Plotly
figure is built anew in the browser with every change.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from deepleak_core.runs.store import Moment
from deepleak_core.text import NEGLIGIBLE_RESIDUAL
from ui.markup import CLEAR, PHOTOGRAPH

HEIGHT = 360  # pixels
SHORT = 260  # pixels of a chart below the pictures
POINTS = 300  # moments of a long run that are drawn
LINES = 8  # images of a larger batch that get a line of their own
SYMBOLS = ("circle", "rect", "triangle", "diamond", "emptyCircle", "emptyRect", "emptyTriangle")
MEAN, RESIDUAL, THIRD, ONE = "#c2410c", "#2563eb", "#15803d", "#94a3b8"

Line = tuple[str, Sequence[tuple[int, Sequence[float]]]]  # a name, and values at whole numbers


def curves(moments: Sequence[Moment], titles: Sequence[str]) -> None:
    """PSNR of each image and their mean in dB, and the residual, over seconds of attack time."""
    drawn = _thinned(moments)
    images = [_line(title, ONE, 1, [(m.seconds, m.psnr[i]) for m in drawn]) for i, title in enumerate(titles[:LINES])]
    mean = _line("mean", MEAN, 4, [(m.seconds, m.mean_psnr) for m in drawn])
    mean["z"] = 3  # above the lines of the single images
    mean["markLine"] = {
        "symbol": "none",
        "silent": True,
        "label": {"formatter": "{b}", "fontSize": 12},
        "lineStyle": {"color": ONE},
        "data": [
            {"yAxis": CLEAR, "name": "recognisable", "label": {"position": "insideEndBottom"}},
            {"yAxis": PHOTOGRAPH, "name": "like a photograph", "label": {"position": "insideEndTop"}},
        ],
    }
    residual = _line("residual", RESIDUAL, 4, _residuals(drawn), axis=1)
    seconds = {"type": "value", "min": 0, "max": max((m.seconds for m in drawn), default=5.0)}
    st.echarts_chart(
        {
            "animation": False,
            "title": [
                _title("PSNR in dB: how close the pictures are", 8),
                _title("Residual: what they leave unexplained", HEIGHT / 2 + 8),
            ],
            "grid": [
                {"top": 38, "height": HEIGHT / 2 - 56, "left": 60, "right": 12},
                {"top": HEIGHT / 2 + 38, "height": HEIGHT / 2 - 62, "left": 60, "right": 12},
            ],
            "xAxis": [
                seconds | {"gridIndex": 0, "axisLabel": {"show": False}},
                seconds | {"gridIndex": 1, "axisLabel": {"formatter": "{value} s", "showMaxLabel": False}},
            ],
            "yAxis": [
                {"type": "value", "gridIndex": 0, "min": 0, "max": max([40.0, *(m.mean_psnr + 5 for m in drawn)]),
                 "interval": 20, "axisLabel": {"showMaxLabel": False}},
                _powers(residual["data"]),
            ],
            "tooltip": {"trigger": "axis"},
            "series": [*images, mean, residual],
        },
        height=HEIGHT,
        key="curves",
        alt="PSNR and residual over the seconds of the attack",
    )  # fmt: skip


def accuracy(
    rates: Mapping[str, Sequence[tuple[str, float]]], places: Sequence[str], *, over: str, title: str, key: str
) -> None:
    """How often each strategy is right, 0 to 1, at each of the places along the bottom; the first is the thickest.

    Lines are told apart by the name at their end and by the shape of their points, not by colour alone. Points become
    smaller from one strategy to the next, so that all are seen where they fall together.
    """
    series = []
    for n, (name, points) in enumerate(rates.items()):
        series.append(
            {
                "type": "line",
                "name": name,
                "data": [(place, round(100 * rate, 1)) for place, rate in points],
                "symbol": SYMBOLS[n % len(SYMBOLS)],
                "symbolSize": 20 - 2 * n,
                "lineStyle": {"width": 4 if n else 9},
                "endLabel": {
                    "show": True,
                    "formatter": "{a}",
                    "fontSize": 14,
                    "color": "inherit",
                    "distance": 18,
                    "lineHeight": 20,
                },
                "labelLayout": {"moveOverlap": "shiftY"},
            }
        )
    st.echarts_chart(
        {
            "animation": False,
            "title": [_title(f"Share of {title}", 8)],
            "grid": {"top": 48, "bottom": 60, "left": 56, "right": 190},
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
        height=HEIGHT,
        key=key,
        alt=f"Share of {title} by {over.lower()}",
    )  # fmt: skip


def compared(named: Sequence[tuple[str, Sequence[Moment]]], key: str) -> None:
    """Mean PSNR and residual of several runs over the same axis of seconds."""
    colors = (RESIDUAL, MEAN, THIRD)
    psnr, residual = [], []
    for (name, moments), color in zip(named, colors, strict=False):
        drawn = _thinned(moments)
        psnr.append(_line(name, color, 4, [(m.seconds, m.mean_psnr) for m in drawn]))
        residual.append(_line(name, color, 4, _residuals(drawn), axis=1))
    last = max((moments[-1].seconds for _, moments in named if moments), default=5.0)
    best = max((m.mean_psnr for _, moments in named for m in moments), default=0.0)
    seconds = {"type": "value", "min": 0, "max": last, "axisLabel": {"formatter": "{value} s", "showMaxLabel": False}}
    st.echarts_chart(
        {
            "animation": False,
            "legend": {"bottom": 0, "left": "center", "data": [name for name, _ in named]},
            "title": [
                _title("Mean PSNR in dB: how close the pictures are", 8),
                _title("Residual: what stays unexplained", 8) | {"left": "52%"},
            ],
            "grid": [
                {"top": 44, "bottom": 56, "left": 44, "right": "52%"},
                {"top": 44, "bottom": 56, "left": "56%", "right": 12},
            ],
            "xAxis": [seconds | {"gridIndex": 0}, seconds | {"gridIndex": 1}],
            "yAxis": [
                {"type": "value", "gridIndex": 0, "min": 0, "max": max(40.0, best + 5), "interval": 20,
                 "axisLabel": {"showMaxLabel": False}},
                _powers([point for line in residual for point in line["data"]]),
            ],
            "tooltip": {"trigger": "axis"},
            "series": [*psnr, *residual],
        },
        height=SHORT,
        key=key,
        alt="Mean PSNR and residual of these runs over the seconds of the attack",
    )  # fmt: skip


def _thinned(moments: Sequence[Moment]) -> list[Moment]:
    """As many moments of a long run as are drawn, the last one among them."""
    return [*moments[:: math.ceil(len(moments) / POINTS)], *moments[-1:]] if moments else []


def _residuals(moments: Sequence[Moment]) -> list[tuple[float, float]]:
    """Residuals over seconds, no smaller than their size matters: an axis down to rounding has no room for labels."""
    return [(m.seconds, max(m.residual, NEGLIGIBLE_RESIDUAL)) for m in moments]


def _powers(points: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The axis of residuals: all of these points between powers of ten, with few enough labels to be read."""
    logs = [math.log10(residual) for _, residual in points] or [-2.0, 0.0]
    low, high = math.floor(min(logs)), math.ceil(max(logs))
    step = math.ceil((high - low) / 4) or 1
    return {"type": "log", "gridIndex": 1, "min": 10.0 ** (high - 4 * step), "max": 10.0**high, "interval": step}


def steps(lines: Sequence[Line], span: range, noise: float | None, axis: str, key: str) -> None:
    """Mean PSNR at each whole number of `span`, as far as it is known, and of a single line each image too.

    `noise` in dB is drawn as a base line.
    """
    dots = [(x, value) for _, points in lines for x, values in points for value in values]
    drawn = []
    for (name, points), color in zip(lines, (MEAN,) if len(lines) == 1 else (RESIDUAL, MEAN), strict=True):
        line = _line(name, color, 4, [(x, sum(values) / len(values)) for x, values in points])
        drawn.append(line | {"showSymbol": True, "symbolSize": 9, "z": 3})
    if noise is not None:
        drawn[0]["markLine"] = {
            "symbol": "none", "silent": True, "lineStyle": {"color": ONE},
            "label": {"position": "insideStartTop", "formatter": "{b}", "fontSize": 12},
            "data": [{"yAxis": round(noise, 1), "name": "pure noise"}],
        }  # fmt: skip
    if len(lines) == 1:
        color = {"color": ONE}
        drawn.append({"type": "scatter", "name": "each image", "symbolSize": 7, "itemStyle": color, "data": dots})
    top = max([40.0, *(y + 2 for _, y in dots)])
    st.echarts_chart(
        {
            "animation": False,
            "legend": {"top": 4, "right": 0},
            "title": [_title("PSNR in dB", 8)],
            "grid": [{"top": 44, "bottom": 44, "left": 44, "right": 12}],
            "xAxis": [{"type": "value", "min": span.start, "max": span.stop - 1, "interval": 1, "name": axis,
                       "nameLocation": "middle", "nameGap": 26}],
            "yAxis": [{"type": "value", "min": 0, "max": top, "interval": 10, "axisLabel": {"showMaxLabel": False}}],
            "series": drawn,
        },
        height=SHORT,
        key=key,
        alt=f"PSNR by {axis}",
    )  # fmt: skip


def _line(name: str, color: str, width: int, data: list[tuple[float, float]], axis: int = 0) -> dict[str, Any]:
    """One line; values in three digits, which is all that a chart can show."""
    return {
        "type": "line",
        "name": name,
        "xAxisIndex": axis,
        "yAxisIndex": axis,
        "showSymbol": False,
        "lineStyle": {"width": width, "color": color},
        "itemStyle": {"color": color},
        "data": [(round(x, 2), float(f"{y:.3g}")) for x, y in data],
    }


def _title(text: str, top: float) -> dict[str, Any]:
    return {"text": text, "top": top, "left": 0, "textStyle": {"fontSize": 14, "fontWeight": "normal"}}
