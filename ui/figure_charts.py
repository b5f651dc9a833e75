"""Charts of numbers that stand still: bars, bars in groups, points on a logarithmic scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from ui.charts import MEAN, ONE, RESIDUAL, SYMBOLS

HEIGHT, LINE, FONT = 260, 30, 14  # pixels: of a chart, of a lying bar, of letters
COLORS = (ONE, RESIDUAL, MEAN)


def bars(
    values: Mapping[str, float],
    *,
    title: str,
    floor: tuple[str, float],
    alt: str,
    key: str,
    lying: bool = False,
) -> None:
    """A bar for each value with the value at its end, and a line, by name, at what no information at all gives."""
    names = {"type": "category", "data": list(values), "axisLabel": {"fontSize": FONT, "interval": 0}}
    sizes = {"type": "value", "min": 0, "axisLabel": {"fontSize": FONT}, "splitNumber": 4}
    line = {
        "symbol": "none",
        "silent": True,
        "lineStyle": {"color": ONE, "width": 2},
        "label": {"formatter": floor[0], "fontSize": FONT, "position": "start" if lying else "end", "color": ONE},
        "data": [{"xAxis" if lying else "yAxis": floor[1]}],
    }
    series = {
        "type": "bar",
        "data": [round(value, 1) for value in values.values()],
        "barMaxWidth": 60,
        "label": {"show": True, "position": "right" if lying else "top", "fontSize": FONT, "color": "inherit"},
        "markLine": line,
    }
    _draw(
        {
            "title": {"text": title, "top": 4, "left": 0, "textStyle": {"fontSize": FONT, "fontWeight": "normal"}},
            "grid": {"top": 60, "bottom": 8, "left": 8, "right": 48},
            "xAxis": sizes if lying else names,
            "yAxis": names | {"inverse": True} if lying else sizes,
            "series": [series],
        },
        HEIGHT if not lying else 80 + LINE * len(values),
        alt,
        key,
    )


def groups(series: Mapping[str, Sequence[float]], places: Sequence[str], *, alt: str, key: str) -> None:
    """Bars side by side at each of the places, one of each series."""
    drawn = [
        {"type": "bar", "name": name, "data": [round(v, 2) for v in values], "itemStyle": {"color": color}}
        for (name, values), color in zip(series.items(), COLORS, strict=False)
    ]
    _draw(
        {
            "legend": {"top": 0, "left": 0, "textStyle": {"fontSize": FONT}},
            "grid": {"top": 40, "bottom": 8, "left": 8, "right": 8},
            "xAxis": {
                "type": "category",
                "data": list(places),
                "axisLabel": {"fontSize": FONT, "interval": 0, "rotate": 45},
                "axisTick": {"alignWithLabel": True},
            },
            "yAxis": {"type": "value", "axisLabel": {"fontSize": FONT}},
            "tooltip": {"trigger": "axis"},
            "series": drawn,
        },
        HEIGHT + LINE,
        alt,
        key,
    )


def points(series: Mapping[str, tuple[float, Sequence[float]]], *, alt: str, key: str) -> None:
    """For each series what is right, large, and beside it all that is wrong, ascending; powers of ten."""
    drawn = []
    for n, (name, (right, wrong)) in enumerate(series.items()):
        first = {"value": [0, _power(right)], "symbolSize": 22}
        others = [{"value": [place, _power(value)]} for place, value in enumerate(wrong, 1)]
        look = {"symbol": SYMBOLS[n], "symbolSize": 11, "symbolOffset": [6 * n, 0]}
        drawn.append(
            {"type": "scatter", "name": name, "data": [first, *others], "itemStyle": {"color": COLORS[1 + n]}, **look}
        )
    last = max(len(wrong) for _, wrong in series.values())
    _draw(
        {
            "legend": {"top": 0, "left": 0, "textStyle": {"fontSize": FONT}},
            "grid": {"top": 40, "bottom": 30, "left": 8, "right": 16},
            "xAxis": {
                "type": "value",
                "min": -1,
                "max": last + 1,
                "splitLine": {"show": False},
                "axisLabel": {"show": False},
                "axisTick": {"show": False},
                "name": "right counts first, then every wrong one",
                "nameLocation": "middle",
                "nameGap": 14,
                "nameTextStyle": {"fontSize": FONT},
            },
            "yAxis": {
                "type": "value",
                "min": -16,
                "max": 4,
                "interval": 4,
                "axisLabel": {"fontSize": FONT, "formatter": "1e{value}"},
            },
            "series": drawn,
        },
        HEIGHT,
        alt,
        key,
    )


def plane(shapes: Mapping[str, Sequence[tuple[float, float]]], *, title: str, alt: str, key: str) -> None:
    """Shapes by name: the first a closed outline, the second large rings, others dots."""
    (name, corners), *others = shapes.items()
    line = {"symbol": "none", "lineStyle": {"color": MEAN, "width": 3}, "itemStyle": {"color": MEAN}, "silent": True}
    drawn: list[dict[str, Any]] = [{"type": "line", "name": name, "data": [*corners, corners[0]], **line}]
    for n, (name, places) in enumerate(others):
        look = {"symbol": "circle", "symbolSize": 12 if n else 26}
        paint = {"color": COLORS[n]} if n else {"color": "transparent", "borderColor": COLORS[n], "borderWidth": 3}
        drawn.append({"type": "scatter", "name": name, "data": list(places), "itemStyle": paint, **look})
    bare = {"type": "value", "scale": True, "splitLine": {"show": False}, "axisLabel": {"show": False}}
    bare |= {"axisTick": {"show": False}, "axisLine": {"show": False}, "boundaryGap": ["8%", "8%"]}
    _draw(
        {
            "title": {"text": title, "top": 4, "left": 0, "textStyle": {"fontSize": FONT, "fontWeight": "normal"}},
            "legend": {"top": 28, "left": 0, "textStyle": {"fontSize": FONT}, "itemGap": 6, "itemWidth": 16},
            "grid": {"top": 88, "bottom": 8, "left": 8, "right": 8},
            "xAxis": bare,
            "yAxis": bare,
            "series": drawn,
        },
        HEIGHT + 3 * LINE,
        alt,
        key,
    )


def _power(value: float) -> float:
    """
    >>> _power(0.01)
    -2.0
    """
    return round(math.log10(value), 2)


def _draw(option: dict[str, Any], height: int, alt: str, key: str) -> None:
    st.echarts_chart({"animation": False, **option}, height=height, key=f"figure-{key}", alt=alt)
