"""Figures of finished results, to be explored and exported: label accuracy, sweeps, bars, points, shapes.

Drawn by Plotly, which reads some HTML in names and titles: foreign ones go through `as_text`. Figures that grow during
a computation are drawn by `echarts`, which updates in place.
"""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from typing import Any

import plotly.graph_objects as go
import streamlit as st

from deepleak_core.text import shorten
from ui.echarts import HEIGHT, LEGEND_ROW

with suppress(ImportError):  # Plotly asks it of every value once it is there, and fails on a half-imported one:
    import_module("pandas")  # Streamlit may be importing it for another visitor at the same moment

SHORT = 280  # pixels of a figure below pictures or beside text
BAR = 28  # pixels of a horizontal bar and the gap below it
MEAN, RESIDUAL, THIRD, GREY = "#c2410c", "#2563eb", "#15803d", "#94a3b8"
COLORS = (GREY, RESIDUAL, MEAN)
PALETTE = ("#c2410c", "#1d4ed8", "#0f766e", "#7c3aed", "#a16207", "#be185d", "#475569")  # as .streamlit/config.toml
SYMBOLS = ("circle", "square", "triangle-up", "diamond", "circle-open", "square-open", "triangle-up-open")
DASHES = ("dash", "dot")  # of baselines
CONFIG = {"displaylogo": False, "modeBarButtonsToRemove": ["select2d", "lasso2d"]}

Line = tuple[str, Sequence[tuple[int, Sequence[float]]]]  # a name, and values at whole numbers


def accuracy(
    rates: Mapping[str, Sequence[tuple[str, float]]], places: Sequence[str], *, over: str, title: str, key: str
) -> None:
    """How often each strategy is right, 0 to 1, at each of the places along the bottom.

    Lines differ by the shape of their points, not by colour alone; points become smaller from one strategy to the
    next, so that all are visible where they coincide.
    """
    figure = go.Figure()
    for n, (name, points) in enumerate(rates.items()):
        figure.add_scatter(
            x=[as_text(place) for place, _ in points],
            y=[rate for _, rate in points],
            name=as_text(name),
            mode="lines+markers",
            marker={"symbol": SYMBOLS[n % len(SYMBOLS)], "size": 18 - 2 * n},
            line={"width": 7 if not n else 3, "color": PALETTE[n % len(PALETTE)]},
        )
    figure.update_xaxes(type="category", categoryarray=[*map(as_text, places)], categoryorder="array", title=over)
    figure.update_yaxes(range=[-0.04, 1.06], tickformat=".0%", tickvals=[0, 0.25, 0.5, 0.75, 1])
    _draw(figure, f"Share of {title}", HEIGHT, key)


def sweep(lines: Sequence[Line], places: range, baselines: Mapping[str, float], *, axis: str, key: str) -> None:
    """Mean PSNR in dB at each whole number of `places` that is known, and of a single line each image too.

    `baselines` in dB, by name, are what is reached without any reconstruction.
    """
    figure = go.Figure()
    known = [(name, [(x, kept) for x, values in points if (kept := _finite(values))]) for name, points in lines]
    for n, (name, points) in enumerate(known):
        single = len(lines) == 1
        if single:
            dots = [(x, value) for x, values in points for value in values]
            look = {"color": GREY, "size": 8}
            xs, ys = [x for x, _ in dots], [y for _, y in dots]
            figure.add_scatter(x=xs, y=ys, name="each image", mode="markers", marker=look)
        figure.add_scatter(
            x=[x for x, _ in points],
            y=[sum(values) / len(values) for _, values in points],
            name=name,
            mode="lines+markers",
            marker={"size": 10, "symbol": SYMBOLS[n % len(SYMBOLS)]},
            line={"width": 4, "color": PALETTE[n % len(PALETTE)]},  # as in the player
        )
    for (name, value), dash in zip(baselines.items(), DASHES, strict=False):
        ends = [places.start - 0.2, places.stop - 0.8]
        figure.add_scatter(x=ends, y=[value] * 2, name=name, mode="lines", line={"color": GREY, "dash": dash})
    top = max([40.0, *(value + 2 for _, points in known for _, values in points for value in values)])
    figure.update_xaxes(range=[places.start - 0.2, places.stop - 0.8], dtick=1, title=axis)
    figure.update_yaxes(range=[0, top])
    _draw(figure, "PSNR in dB", SHORT, key)


def bars(
    values: Mapping[str, float], *, title: str, baseline: tuple[str, float], key: str, horizontal: bool = False
) -> None:
    """A bar for each value with the value at its end, and a named line at what is reached without information."""
    names, sizes, words = list(values), list(values.values()), [f"{value:.1f}" for value in values.values()]
    look = {"text": words, "textposition": "outside", "cliponaxis": False, "marker_color": RESIDUAL}
    name, floor = baseline
    line = {"color": GREY, "dash": "dash", "width": 2}
    if horizontal:
        figure = go.Figure(go.Bar(x=sizes, y=names, orientation="h", **look))
        figure.update_yaxes(autorange="reversed")
        figure.update_xaxes(range=[0, 1.12 * max(sizes)])  # room for the values
        figure.add_vline(x=floor, line=line, annotation_text=name, annotation_position="top")
    else:
        figure = go.Figure(go.Bar(x=names, y=sizes, **look))
        figure.update_xaxes(type="category")
        figure.add_hline(y=floor, line=line, annotation_text=name)
    _draw(figure, title, SHORT if not horizontal else 90 + BAR * len(values), key)


def groups(series: Mapping[str, Sequence[float]], places: Sequence[str], *, title: str, key: str) -> None:
    """Bars side by side at each of the places, one of each series."""
    figure = go.Figure()
    for (name, values), color in zip(series.items(), COLORS, strict=False):
        figure.add_bar(x=list(places), y=[round(value, 2) for value in values], name=name, marker_color=color)
    figure.update_layout(barmode="group")
    _draw(figure, title, SHORT, key)


def ranked(series: Mapping[str, tuple[float, Sequence[float]]], *, title: str, axis: str, key: str) -> None:
    """For each series one value, large, and beside it all others, ascending, on a logarithmic scale."""
    figure = go.Figure()
    for n, (name, (first, others)) in enumerate(series.items()):
        values = [first, *others]
        look = {"symbol": SYMBOLS[n], "size": [20, *[9] * len(others)], "color": COLORS[1 + n]}
        figure.add_scatter(x=list(range(len(values))), y=values, name=name, mode="markers", marker=look)
    figure.update_xaxes(showticklabels=False, showgrid=False, zeroline=False, title=axis)
    figure.update_yaxes(type="log", exponentformat="power", dtick=4)
    _draw(figure, title, SHORT, key)


def plane(shapes: Mapping[str, Sequence[tuple[float, float]]], *, title: str, key: str) -> None:
    """Shapes by name: the first a closed outline, the second large rings, others dots."""
    (outline, vertices), *others = shapes.items()
    figure = go.Figure()
    closed = [*vertices, vertices[0]]
    _add_places(figure, outline, closed, mode="lines", line={"color": MEAN, "width": 3})
    for n, (name, places) in enumerate(others):
        ring = {"symbol": "circle-open", "size": 24, "color": COLORS[n], "line": {"width": 3}}
        _add_places(figure, name, places, mode="markers", marker={"size": 11, "color": COLORS[n]} if n else ring)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    _draw(figure, title, SHORT + 40, key, legend_below=True)


def _finite(values: Sequence[float]) -> list[float]:
    return [value for value in values if math.isfinite(value)]


def as_text(words: str) -> str:
    """Words as Plotly draws them: no tag in them takes effect.

    >>> as_text("<b>late</b>")
    '&lt;b&gt;late&lt;/b&gt;'
    """
    return html.escape(shorten(words), quote=False)


def _add_places(figure: go.Figure, name: str, places: Sequence[tuple[float, float]], **look: Any) -> None:
    figure.add_scatter(x=[x for x, _ in places], y=[y for _, y in places], name=name, **look)


def _draw(figure: go.Figure, title: str, height: int, key: str, *, legend_below: bool = False) -> None:
    side = {"y": -0.02, "yanchor": "top"} if legend_below else {"y": 1.0, "yanchor": "bottom"}
    named = sum(trace.name is not None for trace in figure.data)
    legend = LEGEND_ROW * math.ceil(named / 2) if named > 1 and not legend_below else 0  # two entries fit a phone
    figure.update_layout(
        title={
            "text": title,
            "font": {"size": 15, "weight": "normal"},
            "x": 0,
            "xanchor": "left",
            "y": 1,
            "yanchor": "top",
            "yref": "container",
            "pad": {"t": 8},
        },
        height=height + legend,
        margin={"l": 8, "r": 8, "t": 44 + legend, "b": 8},
        legend={"orientation": "v" if legend_below else "h", "x": 0, **side},
    )
    st.plotly_chart(figure, key=key, config=CONFIG)
