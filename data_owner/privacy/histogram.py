"""A noisy histogram that looks closer only where records are, and the bins made of it.

All of a column's cells are counted in at most `BRANCHES` parts; a part that is well above the noise is counted again
in parts of its own, down to single cells. Every level counts each record once. So the zeros of a skewed column come
back as a cell of their own, and an empty stretch of its range as one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]
AddNoise = Callable[[Integers], Integers]

BRANCHES = 32
SPLIT_ABOVE, KEEP_ABOVE = 4.0, 3.0
"""In noise scales: above which a part is counted again, and a category or missing keeps a bin of its own."""


@dataclass(frozen=True)
class Histogram:
    """Leaves in order: first cell, number of cells and estimated records of each, (leaves,)."""

    starts: Integers
    widths: Integers
    records: Floats

    @property
    def total(self) -> float:
        return float(self.records.sum())


@dataclass(frozen=True)
class Bins:
    """A bin for every leaf, (leaves,), numbered from 0."""

    histogram: Histogram
    of_leaf: Integers

    @property
    def count(self) -> int:
        return int(self.of_leaf.max()) + 1

    def encode(self, cells: Integers) -> Integers:
        """Bin of each cell, (n,)."""
        return self.of_leaf[np.searchsorted(self.histogram.starts, cells, "right") - 1]

    def decode(self, bins: Integers, generator: np.random.Generator) -> Integers:
        """A cell in each bin (n,): its leaves by their records, then any cell of the leaf alike."""
        cells = np.empty(len(bins), np.int64)
        for one in np.unique(bins):
            inside, leaves = np.flatnonzero(bins == one), np.flatnonzero(self.of_leaf == one)
            weights = self.histogram.records[leaves]
            weights = weights if weights.sum() > 0.0 else np.ones(len(leaves))
            chosen = leaves[generator.choice(len(leaves), len(inside), p=weights / weights.sum())]
            cells[inside] = self.histogram.starts[chosen] + generator.integers(self.histogram.widths[chosen])
        return cells


def levels(cells: int, *, ordered: bool) -> int:
    """How many times `count` counts: once where cells have no order, else once a power of `BRANCHES`."""
    found, width = 1, 1
    while ordered and width * BRANCHES < cells - 1:
        found, width = found + 1, width * BRANCHES
    return found


def count(
    values: Integers, cells: int, *, ordered: bool, has_missing: bool, noise: AddNoise, scale: float
) -> Histogram:
    """The histogram of `values` (n,), each in [0, cells); with `has_missing` the last cell stands apart for that.

    `noise` adds noise of `scale` to counts; it is called `levels(cells)` times at most, each time with counts among
    which every record is once.
    """
    width = BRANCHES ** (levels(cells, ordered=ordered) - 1)
    leaves: list[tuple[int, int, int]] = []
    parts = [(0, cells - has_missing)]
    missing = [(cells - 1, 1)] if has_missing else []
    while parts:
        pieces = [(start, min(width, end - start)) for first, end in parts for start in range(first, end, width)]
        pieces, missing = [*pieces, *missing], []
        starts = np.array([start for start, _ in pieces])
        place = np.searchsorted(starts, values, "right") - 1
        inside = (place >= 0) & (values < starts[place] + np.array([size for _, size in pieces])[place])
        counts = noise(np.bincount(place[inside], minlength=len(pieces)))
        parts = []
        for (start, size), records in zip(pieces, counts.tolist(), strict=True):
            if size > 1 and records > SPLIT_ABOVE * scale:
                parts.append((start, start + size))
            else:
                leaves.append((start, size, records))
        width //= BRANCHES
    found = np.array(sorted(leaves), np.int64)
    return Histogram(found[:, 0], found[:, 1], _nonnegative(found[:, 2].astype(np.float64)))


def neighbours(found: Histogram, least: float, scale: float) -> Bins:
    """Bins of neighbouring leaves that hold `least` records together, where there are so many."""
    of_leaf = np.zeros(len(found.starts), np.int64)
    bin_, held = 0, 0.0
    for leaf, records in enumerate(found.records[:-1]):
        if held > 0.0 and (held >= least or records >= least):
            bin_, held = bin_ + 1, 0.0
        of_leaf[leaf] = bin_
        held += records
    return _with_missing(found, of_leaf, scale)


def classes(found: Histogram) -> Bins:
    """A bin a class of the target, which is never missing."""
    return Bins(found, np.arange(len(found.starts)))


def categories(found: Histogram, scale: float) -> Bins:
    """A bin a category, and one for all that do not stand out of the noise."""
    clear = found.records[:-1] > KEEP_ABOVE * scale
    of_leaf = np.where(clear, np.cumsum(clear) - 1, clear.sum())
    return _with_missing(found, np.append(of_leaf, 0), scale)


def _with_missing(found: Histogram, of_leaf: Integers, scale: float) -> Bins:
    """Missing has a bin of its own if it stands out of the noise; else it joins the largest and never comes back."""
    records = found.records.copy()
    if records[-1] > KEEP_ABOVE * scale:
        of_leaf[-1] = of_leaf[:-1].max() + 1
    else:
        records[-1] = 0.0
        of_leaf[-1] = of_leaf[int(records.argmax())]
    return Bins(Histogram(found.starts, found.widths, records), of_leaf)


def _nonnegative(counts: Floats) -> Floats:
    """The nearest counts, none below zero, of the same sum (projection to the simplex)."""
    total = max(float(counts.sum()), 1.0)
    falling = np.sort(counts)[::-1]
    excess = (np.cumsum(falling) - total) / np.arange(1, len(counts) + 1)
    return np.maximum(counts - excess[np.flatnonzero(falling > excess)[-1]], 0.0)
