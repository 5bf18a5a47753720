"""Pictures for the reports: values in, SVG text out. Every picture is drawn on white and names its parts."""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.patches import Patch
from numpy.typing import NDArray

from shared.distances import column_distance
from shared.printable import printable
from shared.report import Figure, shown
from shared.schema import CategoricalColumn, NumericColumn, Schema
from shared.scores import Scores

# of names in letters that its font lacks, which would be quoted; tables beside the pictures have them whole
warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)

REAL, SYNTHETIC, FAINT, INK = "#8a93a0", "#1f5f8b", "#d4d8dd", "#1c2430"
COLOURS = (SYNTHETIC, "#b8741a", "#1b7f5c", "#8a5fb0")
STYLES: Mapping[str, Mapping[str, Any]] = {
    "synthetic": {"facecolor": SYNTHETIC},
    "predicted": {"facecolor": "white", "edgecolor": COLOURS[1], "hatch": "\\\\\\\\"},
    "ceiling": {"facecolor": "white", "edgecolor": INK, "hatch": "////"},
    "constant": {"facecolor": "white", "edgecolor": INK, "hatch": "...."},
}
"""Of bars, by the first word of what they are named; all others are of real rows."""
LINES = ("-", "--", "-.", ":")
"""Beside `COLOURS`, which not everyone tells apart."""
BELOW = -0.05
"""An association that bears a dash: in black and white its blue is the same grey as the red of its opposite."""
DASHED = 64
"""Columns at most in whose cells a dash can be seen."""
CATEGORIES = 8
"""Of a column, shown in a panel."""
ACROSS = 14
"""Characters that stand side by side below a panel."""
LARGEST = 3
"""Of what a picture shows, named in words."""
REFERENCE = re.compile(r'(href="|url\()#([^")]+)')
"""In SVG, to an id of the same picture."""

Floats = NDArray[np.float64]


def score_bars(scores: Mapping[str, Scores], alt: str) -> Figure:
    """Grouped bars, one look for each named set of scores."""
    canvas = Canvas(figsize=(9.2, 3.0))
    axes = canvas.subplots()
    heads, width = Scores.heads(), 0.8 / len(scores)
    for index, (name, each) in enumerate(scores.items()):
        places = np.arange(len(heads)) + (index - (len(scores) - 1) / 2) * width
        bars = axes.bar(places, each.cells(), width * 0.92, label=name, **_style(name))
        axes.bar_label(bars, fmt="%.2f", fontsize=7, padding=1, color="#5c6675")
    axes.set_xticks(np.arange(len(heads)), [head.replace(" ", "\n", 1) for head in heads], fontsize=8.5)
    axes.set_ylim(0, 1.12)
    axes.set_ylabel("score", fontsize=8)
    plain(axes)
    axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, 1.17))
    return as_svg(canvas, alt)


def marginals(schema: Schema, tables: Mapping[str, pd.DataFrame], alt: str) -> Figure:
    """Small multiples, a panel for each column: histograms of numbers, bars of the first categories.

    What "synthetic" is held to is a shape in grey. Of two tables the words say which columns are furthest apart.
    """
    columns, across = schema.tabular, 5
    down = -(-len(columns) // across)
    canvas = Canvas(figsize=(9.2, 1.55 * down))
    panels = canvas.subplots(down, across, squeeze=False).ravel()
    for axes in panels[len(columns) :]:
        axes.set_visible(False)
    for axes, column in zip(panels, columns, strict=False):
        if isinstance(column, NumericColumn):
            _histogram(axes, column, tables)
        else:
            _shares(axes, column, tables)
        axes.tick_params(labelsize=7, length=2, color=REAL)
        plain(axes)
    canvas.tight_layout(pad=0.6)
    named = [Patch(label=name, **_style(name)) for name in tables]
    canvas.legend(handles=named, frameon=False, fontsize=8, ncols=2, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    alt += " Of a number from the lowest to the highest value released, of a category the share of rows."
    if len(tables) == 2:
        first, second = tables.values()
        apart = {column.name: column_distance(column, first[column.name], second[column.name]) for column in columns}
        alt += f" Furthest apart, where 0 is equal and 1 as far as can be, are {largest(apart)} (Kolmogorov's distance "
        alt += "of numbers, total variation of categories)."
    return as_svg(canvas, alt)


def _histogram(axes: Axes, column: NumericColumn, tables: Mapping[str, pd.DataFrame]) -> None:
    low, high = column.quantiles.values[0], column.quantiles.values[-1]
    edges = np.linspace(low, high, 25) if high > low else np.linspace(low - 0.5, low + 0.5, 3)
    for name, table in tables.items():
        values = np.clip(table[column.name].dropna().to_numpy(float), low, high)
        fill = "none" if name == "synthetic" else FAINT  # an outline, so that both are seen
        edge = _style(name)["facecolor"]
        axes.hist(
            values, edges.tolist(), density=True, histtype="stepfilled", facecolor=fill, edgecolor=edge, linewidth=1.2
        )
    axes.set_title(short(column.name), fontsize=7.5, color=INK)
    ends = sorted({low, high})
    written = [_written(value, column) for value in ends]
    if len("".join(written)) > ACROSS:
        written[-1] = f"\n{written[-1]}"
    axes.set_xticks(ends, written)
    axes.get_xticklabels()[0].set_horizontalalignment("left")
    axes.get_xticklabels()[-1].set_horizontalalignment("right")
    axes.set_yticks([])


def _written(value: float, column: NumericColumn) -> str:
    """A value of the column, of a time its day."""
    if column.kind == "date":
        return str(np.float64(value).astype(f"datetime64[{column.unit}]").astype("datetime64[D]"))
    return f"{value:,.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:z.4g}"


def _shares(axes: Axes, column: CategoricalColumn, tables: Mapping[str, pd.DataFrame]) -> None:
    shown = list(column.categories[:CATEGORIES])
    height, top = 0.8 / len(tables), 0.0
    for index, (name, table) in enumerate(tables.items()):
        share = table[column.name].value_counts(normalize=True).reindex(shown).fillna(0.0)
        places = np.arange(len(shown)) + (index - (len(tables) - 1) / 2) * height
        axes.barh(places, share.to_numpy(), height, **_style(name))
        top = max(top, share.max())
    part = f", {CATEGORIES} of {len(column.categories)}" if len(column.categories) > CATEGORIES else ""
    axes.set_title(short(column.name) + part, fontsize=7.5, color=INK)
    axes.set_yticks(np.arange(len(shown)), [short(name, 11) for name in shown])
    axes.invert_yaxis()
    axes.set_xticks([0.0, top], ["0", f"{top:.0%}"])


def correlations(columns: Sequence[str], named: Mapping[str, Floats], alt: str) -> Figure:
    """Heat maps of correlation matrices (columns, columns) side by side, on one scale from -1 to 1.

    Rows are named at the first. Of two matrices the words say where they differ most, of one where it is strongest.
    """
    canvas = Canvas(figsize=(9.2, 4.2), layout="constrained")
    panels, dashed = canvas.subplots(1, len(named), squeeze=False)[0], len(columns) <= DASHED
    for axes, (name, matrix) in zip(panels, named.items(), strict=True):
        image = axes.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1, interpolation="nearest")
        for colour, least, below in (("white", -1.0, -0.5), (INK, -0.5, BELOW)) if dashed else ():
            down, across = np.nonzero((matrix >= least) & (matrix < below))
            gaps = np.full(len(down), np.nan)  # one path for all
            ends = np.ravel([across - 0.25, across + 0.25, gaps], "F"), np.ravel([down, down, gaps], "F")
            axes.plot(*ends, color=colour, linewidth=0.7, scalex=False, scaley=False)
        axes.set_title(name, fontsize=9)
        axes.set_xticks([])
        axes.set_yticks([])
    canvas.colorbar(image, ax=list(panels), shrink=0.7).ax.tick_params(labelsize=8)
    panels[0].set_yticks(range(len(columns)), [short(column) for column in columns], fontsize=8)
    canvas.draw_without_rendering()
    high = panels[0].bbox.height / canvas.dpi * 72 / len(columns)
    panels[0].tick_params(length=0, labelsize=min(8.0, high))  # as high as a row, so that no two overlap
    alt += " Columns of a picture stand in the order of its rows."
    alt += f" What is below {BELOW} bears a dash." if dashed else ""
    first, *others = named.values()
    most = np.triu(np.abs(first - others[0] if others else first), 1)
    row, at = divmod(int(most.argmax()), len(columns))
    if most[row, at] > 0.0:
        said = " and ".join(f"{each[row, at]:z.2f}" for each in named.values())
        alt += f" {'Furthest apart' if others else 'Closest'} are {columns[row]} and {columns[at]}: {said}."
    return as_svg(canvas, alt)


def curves(
    steps: Sequence[float], named: Mapping[str, Sequence[float]], value: str, alt: str, *, log: bool = False
) -> Figure:
    """Lines of a `value` over training steps."""
    canvas = Canvas(figsize=(9.2, 2.6))
    axes = canvas.subplots()
    for colour, line, (name, values) in zip(cycle(COLOURS), cycle(LINES), named.items(), strict=False):
        axes.plot(steps, values, color=colour, linestyle=line, linewidth=1.4, label=name)
    if log:
        axes.set_yscale("log")
    axes.set_xlabel("step", fontsize=8)
    axes.set_ylabel(value, fontsize=8)
    axes.tick_params(labelsize=8)
    plain(axes)
    axes.legend(frameon=False, fontsize=8)
    ends = ", ".join(f"{name} {shown(values[0])} and {shown(values[-1])}" for name, values in named.items() if values)
    return as_svg(canvas, f"{alt} First and last: {ends}." if ends else alt)


def group_bars(rates: Mapping[str, Mapping[str, float]], alt: str) -> Figure:
    """Positive rate in each group: {series: {group: rate}}. The words say the lowest and the highest."""
    canvas, axes = horizontal_bars(rates, "%.2f", "share that is positive")
    axes.set_xlim(0, 1)
    ends = [(name, each.values()) for name, each in rates.items() if each]
    said = ", ".join(f"{name} {min(values):.2f} and {max(values):.2f}" for name, values in ends)
    return as_svg(canvas, f"{alt} Lowest and highest: {said}." if said else alt)


def horizontal_bars(named: Mapping[str, Mapping[str, float]], label: str, value: str) -> tuple[Canvas, Axes]:
    """{series: {name: value}}, a bar for each series under each name."""
    names = list(dict.fromkeys(name for series in named.values() for name in series))
    canvas = Canvas(figsize=(9.2, 0.9 + (0.1 + 0.16 * len(named)) * len(names)))
    axes = canvas.subplots()
    height = 0.8 / len(named)
    for index, (title, series) in enumerate(named.items()):
        places = [names.index(name) + (index - (len(named) - 1) / 2) * height for name in series]
        bars = axes.barh(places, list(series.values()), height * 0.9, label=title, **_style(title))
        axes.bar_label(bars, fmt=label, fontsize=7.5, padding=2)
    axes.set_yticks(np.arange(len(names)), [short(name) for name in names], fontsize=8.5)
    axes.invert_yaxis()
    axes.set_xlabel(value, fontsize=8)
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
    axes.set_xlabel("risk (0: no more is found out about members than about others)", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    plain(axes)
    if found:
        worst = max(found, key=lambda name: found[name][0])
        alt += f" The highest is {found[worst][0]:z.3f}, {worst}; its limit is {limits[worst]:.3f}."
    return as_svg(canvas, alt)


def largest(found: Mapping[str, float], decimals: int = 2) -> str:
    """The largest few of named figures, in words."""
    names = sorted(found, key=lambda name: -found[name])[:LARGEST]
    return ", ".join(f"{name} {found[name]:z.{decimals}f}" for name in names)


def _style(name: str) -> Mapping[str, Any]:
    return STYLES.get(name.split()[0], {"facecolor": REAL})


def plain(axes: Axes) -> None:
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(FAINT)


def short(text: str, characters: int = 24) -> str:
    """A name of somebody's column, class or group as it stands in a picture; a dollar sign begins no formula."""
    text = printable(text)
    text = text if len(text) <= characters else text[: characters - 1] + "…"
    return text.replace("$", r"\$")


def as_svg(canvas: Canvas, alt: str) -> Figure:
    """SVG text without the XML prologue, whose document type names an address on the network.

    The same for the same picture, and no id in it is one of another picture. Screen readers hear `alt` alone.
    """
    buffer = io.StringIO()
    with rc_context({"svg.hashsalt": ""}):
        canvas.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    referred, own = {name for _, name in REFERENCE.findall(svg)}, hashlib.sha256(svg.encode()).hexdigest()[:8]
    svg = re.sub(r' id="([^"]*)"', lambda of: f' id="f{own}-{of[1]}"' if of[1] in referred else "", svg)
    svg = REFERENCE.sub(rf"\1#f{own}-\2", svg)
    svg = re.sub("<path(?![^>]* d=)", '<path d=""', svg)  # a blank, which HTML wants drawn too
    return Figure(svg[svg.index("<svg") :].replace("<svg", '<svg aria-hidden="true"', 1), alt)
