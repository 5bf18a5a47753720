"""Pictures of a comparison alone: fairness against accuracy, and what a model relies on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import cycle

from matplotlib.figure import Figure as Canvas

from shared.plots import COLOURS, LINES, as_svg, horizontal_bars, largest, plain
from shared.report import Figure

MARKERS = "osD^vP*X"


def frontier(
    lines: Mapping[str, Sequence[tuple[float, float]]],
    points: Mapping[str, tuple[float, float]],
    ratio: str,
    alt: str,
) -> Figure:
    """Fairness (up, a `ratio`) against accuracy (right): named lines and named points of (accuracy, ratio)."""
    canvas = Canvas(figsize=(9.2, 4.6))
    axes = canvas.subplots()
    for colour, line, (name, places) in zip(cycle(COLOURS), cycle(LINES), lines.items(), strict=False):
        across, up = zip(*places, strict=True)
        axes.plot(across, up, line, color=colour, marker=".", markersize=4, linewidth=1.2, label=name)
    for index, (name, (x, y)) in enumerate(points.items()):
        marker = MARKERS[(index + index // len(MARKERS)) % len(MARKERS)]  # no two of 32 look alike
        axes.scatter([x], [y], s=46, marker=marker, color=COLOURS[index % len(COLOURS)], label=name)
    axes.set_xlabel("accuracy on real held-out rows", fontsize=8)
    axes.set_ylabel(ratio, fontsize=8)
    axes.set_ylim(top=1.02)
    axes.tick_params(labelsize=8)
    plain(axes)
    if lines or points:
        axes.legend(frameon=False, fontsize=7.5, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return as_svg(canvas, alt)


def importance_bars(importance: Mapping[str, Mapping[str, float]], alt: str) -> Figure:
    """Importance of each feature to a model: {what it was trained on: {feature: loss of accuracy}}. The words say the
    largest."""
    canvas, _ = horizontal_bars(importance, "%.3f", "accuracy lost when the column is permuted")
    said = (f" Trained on {name} the largest are {largest(each, 3)}." for name, each in importance.items())
    return as_svg(canvas, alt + "".join(said))
