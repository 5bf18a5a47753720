"""Pictures for the reports: values in, SVG text out. Every picture is drawn on white and names its parts."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from numpy.typing import NDArray

from shared.report import Figure
from shared.schema import CategoricalColumn, NumericColumn, Schema
from shared.scores import Scores

REAL, SYNTHETIC, FAINT = "#8a93a0", "#1f5f8b", "#d4d8dd"
COLOURS = (SYNTHETIC, "#d08a2e", "#1b7f5c", "#8a5fb0")
CATEGORIES = 8
"""Of a column, shown in a panel."""
MARKERS = "osD^vP*X"
METRICS = {
    "demographic_parity_ratio": "demographic\nparity ratio",
    "equalized_odds_ratio": "equalized\nodds ratio",
    "accuracy": "accuracy",
    "recall": "recall",
    "f1": "F1",
}

Floats = NDArray[np.float64]


def score_bars(scores: Mapping[str, Scores], alt: str) -> Figure:
    """Grouped bars, one colour for each named set of scores."""
    canvas = Canvas(figsize=(9.2, 3.0))
    axes = canvas.subplots()
    width = 0.8 / len(scores)
    for index, (name, each) in enumerate(scores.items()):
        values = [getattr(each, metric) for metric in METRICS]
        places = np.arange(len(METRICS)) + (index - (len(scores) - 1) / 2) * width
        colour = (SYNTHETIC, REAL, FAINT, "#eef0f2")[index % 4]
        bars = axes.bar(places, values, width * 0.92, color=colour, label=name)
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1, color="#5c6675")
    axes.set_xticks(np.arange(len(METRICS)), list(METRICS.values()), fontsize=8.5)
    axes.set_ylim(0, 1.12)
    plain(axes)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.17))
    return as_svg(canvas, alt)


def marginals(schema: Schema, tables: Mapping[str, pd.DataFrame], alt: str) -> Figure:
    """Small multiples, a panel for each column: histogram outlines of numbers, bars of the first categories.

    Of two tables the first, which the second is held to, is a shape in grey.
    """
    columns, across = schema.tabular, 5
    colours = (FAINT, SYNTHETIC)[-len(tables) :]
    down = -(-len(columns) // across)
    canvas = Canvas(figsize=(9.2, 1.55 * down))
    panels = canvas.subplots(down, across, squeeze=False).ravel()
    for axes in panels[len(columns) :]:
        axes.set_visible(False)
    for axes, column in zip(panels, columns, strict=False):
        if isinstance(column, NumericColumn):
            low, high = column.quantiles.values[0], column.quantiles.values[-1]
            edges = np.linspace(low, high, 25) if high > low else np.linspace(low - 0.5, low + 0.5, 3)
            for colour, table in zip(colours, tables.values(), strict=True):
                values = np.clip(table[column.name].dropna().to_numpy(float), low, high)
                axes.hist(
                    values,
                    edges,
                    density=True,
                    histtype="stepfilled" if colour == FAINT else "step",
                    color=colour,
                    linewidth=1.2,
                )
        else:
            shown = column.categories[:CATEGORIES]
            for index, (colour, table) in enumerate(zip(colours, tables.values(), strict=True)):
                share = table[column.name].value_counts(normalize=True).reindex(list(shown)).fillna(0.0)
                width = 0.8 / len(tables)
                places = np.arange(len(shown)) + (index - (len(tables) - 1) / 2) * width
                axes.bar(places, share.to_numpy(), width, color=colour)
        names = column.categories if isinstance(column, CategoricalColumn) else ()
        part = f", {CATEGORIES} of {len(names)}" if len(names) > CATEGORIES else ""
        axes.set_title(short(column.name) + part, fontsize=7.5, color="#1c2430")
        axes.set_xticks([])
        axes.set_yticks([])
        plain(axes)
    canvas.tight_layout(pad=0.6)
    named = [Patch(color=colour, label=name) for colour, name in zip(colours, tables, strict=True)]
    canvas.legend(handles=named, frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return as_svg(canvas, alt)


def correlations(named: Mapping[str, Floats], alt: str) -> Figure:
    """Heat maps of correlation matrices side by side, on one scale from -1 to 1."""
    canvas = Canvas(figsize=(9.2, 3.1))
    for axes, (name, matrix) in zip(canvas.subplots(1, len(named), squeeze=False)[0], named.items(), strict=True):
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        axes.set_title(name, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
        canvas.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    return as_svg(canvas, alt)


def curves(steps: Sequence[float], named: Mapping[str, Sequence[float]], alt: str, *, log: bool = False) -> Figure:
    """Lines over training steps."""
    canvas = Canvas(figsize=(9.2, 2.6))
    axes = canvas.subplots()
    for colour, (name, values) in zip(cycle(COLOURS), named.items(), strict=False):
        axes.plot(steps, values, color=colour, linewidth=1.4, label=name)
    if log:
        axes.set_yscale("log")
    axes.set_xlabel("step", fontsize=8)
    axes.tick_params(labelsize=8)
    plain(axes)
    axes.legend(frameon=False, fontsize=8)
    return as_svg(canvas, alt)


def group_bars(rates: Mapping[str, Mapping[str, float]], alt: str) -> Figure:
    """Positive rate in each group: {series: {group: rate}}."""
    canvas, axes = _horizontal_bars(rates, "%.2f")
    axes.set_xlim(0, 1)
    return as_svg(canvas, alt)


def importance_bars(importance: Mapping[str, Mapping[str, float]], alt: str) -> Figure:
    """Importance of each feature to a model: {what it was trained on: {feature: loss of accuracy}}."""
    canvas, axes = _horizontal_bars(importance, "%.3f")
    axes.set_xlabel("accuracy lost when the column is permuted", fontsize=8)
    return as_svg(canvas, alt)


def _horizontal_bars(named: Mapping[str, Mapping[str, float]], label: str) -> tuple[Canvas, Axes]:
    """{series: {name: value}}, a bar for each series under each name."""
    names = list(dict.fromkeys(name for series in named.values() for name in series))
    canvas = Canvas(figsize=(9.2, 0.9 + (0.1 + 0.16 * len(named)) * len(names)))
    axes = canvas.subplots()
    height, colours = 0.8 / len(named), (REAL, *COLOURS)
    for index, (title, series) in enumerate(named.items()):
        places = [names.index(name) + (index - (len(named) - 1) / 2) * height for name in series]
        bars = axes.barh(places, list(series.values()), height * 0.9, color=colours[index % len(colours)], label=title)
        axes.bar_label(bars, fmt=label, fontsize=7.5, padding=2)
    axes.set_yticks(np.arange(len(names)), [short(name) for name in names], fontsize=8.5)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=8)
    plain(axes)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return canvas, axes


def intervals(found: Mapping[str, tuple[float, float, float]], limits: Mapping[str, float], alt: str) -> Figure:
    """A line for each name from low to high with a dot at its value (value, low, high), and a bar at its limit."""
    canvas = Canvas(figsize=(9.2, 0.9 + 0.34 * len(found)))
    axes = canvas.subplots()
    for place, (name, (value, low, high)) in enumerate(found.items()):
        axes.plot([low, high], [place, place], color=REAL, linewidth=2)
        axes.plot([limits[name]] * 2, [place - 0.3, place + 0.3], color="#b3261e", linewidth=1.6)
        axes.scatter([value], [place], s=28, color=SYNTHETIC, zorder=3)
    axes.axvline(0.0, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(found)), list(found), fontsize=8)
    axes.invert_yaxis()
    axes.tick_params(axis="x", labelsize=8)
    plain(axes)
    return as_svg(canvas, alt)


def frontier(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    points: Mapping[str, tuple[float, float]],
    ratio: str,
    alt: str,
) -> Figure:
    """Fairness (up, a `ratio`) against accuracy (right): named lines and named points of (accuracy, ratio)."""
    canvas = Canvas(figsize=(9.2, 4.6))
    axes = canvas.subplots()
    for colour, (name, places) in zip(cycle(COLOURS), lines.items(), strict=False):
        axes.plot(*zip(*places, strict=True), color=colour, marker=".", markersize=4, linewidth=1.2, label=name)
    for index, (name, (across, up)) in enumerate(points.items()):
        marker = MARKERS[(index + index // len(MARKERS)) % len(MARKERS)]  # no two of 32 look alike
        axes.scatter([across], [up], s=46, marker=marker, color=COLOURS[index % len(COLOURS)], label=name)
    axes.set_xlabel("accuracy on real held-out rows", fontsize=8)
    axes.set_ylabel(ratio, fontsize=8)
    axes.set_ylim(top=1.02)
    axes.tick_params(labelsize=8)
    plain(axes)
    if lines or points:
        axes.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return as_svg(canvas, alt)


def plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def short(text: str) -> str:
    """A name of somebody's column, class or group as it stands in a picture; a dollar sign begins no formula."""
    text = text if len(text) <= 24 else text[:23] + "…"
    return text.replace("$", r"\$")


def as_svg(canvas: Canvas, alt: str) -> Figure:
    """SVG text without the XML prologue, whose document type names an address on the network."""
    buffer = io.StringIO()
    canvas.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return Figure(svg[svg.index("<svg") :], alt)
