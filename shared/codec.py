"""Between canonical tables and tensors, both ways, by the schema alone.

A canonical table holds numbers and dates as float64 (missing: NaN) and categories as text (missing: null).
Numbers go through their quantile table to ranks and normal scores: a value that many records share owns an
interval of ranks, and every rank in it decodes to exactly that value.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.errors import BadInput
from shared.image_codec import as_column, as_tensor
from shared.logistic import COMPONENTS, draw
from shared.schema import CategoricalColumn, NumericColumn, Quantiles, Schema

LEAST_WIDTH = 1.0 / 512.0
"""Ranks closer than this are not told apart."""

FAR = 1e4
"""The normal score that stands for rank 0 (negative) or rank 1."""


@dataclass(frozen=True)
class Layout:
    """Where each feature column sits among the decoder's outputs.

    First a mixture of logistics (3 x COMPONENTS parameters) per numeric column, then one missing-value logit
    per optional numeric column, then the category logits, column by column; an optional category has a last
    logit that means missing.
    """

    schema: Schema

    @cached_property
    def numeric(self) -> tuple[NumericColumn, ...]:
        return tuple(column for column in self.schema.features if isinstance(column, NumericColumn))

    @cached_property
    def categorical(self) -> tuple[CategoricalColumn, ...]:
        return tuple(column for column in self.schema.features if isinstance(column, CategoricalColumn))

    @cached_property
    def optional(self) -> tuple[int, ...]:
        """Positions, among the numeric columns, of those that may be missing."""
        return tuple(index for index, column in enumerate(self.numeric) if column.optional)

    @cached_property
    def widths(self) -> tuple[int, ...]:
        """How many outputs the numbers have, the missing-value logits, and each categorical column."""
        of_levels = (len(column.categories) + column.optional for column in self.categorical)
        return (3 * COMPONENTS * len(self.numeric), len(self.optional), *of_levels)

    @cached_property
    def width(self) -> int:
        """How many outputs the decoder has."""
        return sum(self.widths)

    @cached_property
    def inputs(self) -> int:
        """How wide the encoder's view of a record is: see `dense`."""
        return len(self.numeric) + sum(self.widths[1:])

    def split(self, outputs: Tensor) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Outputs (n, width) as mixtures (n, numeric, 3, COMPONENTS), missing-value logits (n, optional) and the logits
        of each categorical column.

        All at once: backward, slices would each fill a gradient as wide as the outputs.
        """
        numbers, flags, *levels = outputs.split(self.widths, 1)  # type: ignore[no-untyped-call]
        return numbers.view(len(outputs), len(self.numeric), 3, COMPONENTS), flags, levels


@dataclass(frozen=True)
class Encoded:
    """n records as tensors.

    low, high: normal scores of each number's rank interval, (n, numeric); score: of the middle of it, zero
    where missing. absent: missing flags, (n, numeric) bool.
    levels: category positions, (n, categorical). target, group: (n,).
    pixels: of a picture, (n, channels, height, width) uint8; (n, 0) in a table without one.
    """

    low: Tensor
    high: Tensor
    score: Tensor
    absent: Tensor
    levels: Tensor
    target: Tensor
    group: Tensor
    pixels: Tensor

    def __len__(self) -> int:
        return len(self.target)

    def __getitem__(self, rows: Tensor) -> Encoded:
        return Encoded(*(value[rows] for value in vars(self).values()))

    def to(self, device: torch.device) -> Encoded:
        return Encoded(*(value.to(device) for value in vars(self).values()))


def encode(schema: Schema, table: pd.DataFrame) -> Encoded:
    """Encode a canonical table. Raises `BadInput` naming a column whose categories the schema does not know."""
    layout = Layout(schema)
    rows = len(table)
    low = np.zeros((rows, len(layout.numeric)))
    high = np.zeros_like(low)
    absent = np.zeros(low.shape, bool)
    for index, column in enumerate(layout.numeric):
        values = table[column.name].to_numpy(float, na_value=np.nan)
        absent[:, index] = np.isnan(values)
        low[:, index], high[:, index] = rank_interval(column.quantiles, np.nan_to_num(values))
    levels = np.zeros((rows, len(layout.categorical)), np.int64)
    for index, category in enumerate(layout.categorical):
        levels[:, index] = positions(category, table[category.name])
    return Encoded(
        normal_score(low),
        normal_score(high),
        normal_score((low + high) / 2.0).masked_fill(torch.from_numpy(absent), 0.0),
        torch.from_numpy(absent),
        torch.from_numpy(levels),
        torch.from_numpy(positions(schema.target, table[schema.target.name])),
        torch.from_numpy(group_positions(schema, table)),
        torch.empty(rows, 0, dtype=torch.uint8)
        if schema.image is None
        else as_tensor(table[schema.image.name], schema.image),
    )


def positions(column: CategoricalColumn, values: pd.Series) -> NDArray[np.int64]:
    """Position of each value among the column's categories, (n,); a missing value comes after the last.

    Raises `BadInput` for a value it does not know, or a gap where it has none.
    """
    found = pd.Index(column.categories).get_indexer(pd.Index(values))
    missing = values.isna().to_numpy()
    if (~missing & (found < 0)).any() or (missing.any() and not column.optional):
        raise BadInput(
            "the table has a category, or a missing value, that the schema does not know",
            field=column.name,
            remedy="leave out or recode those rows; an owner can declare it and train again",
        )
    return np.where(missing, len(column.categories), found).astype(np.int64)


def group_positions(schema: Schema, table: pd.DataFrame) -> NDArray[np.int64]:
    """Position of each record's joint sensitive group, (n,). Raises `BadInput` for values that are no group."""
    names = [column.name for column in schema.sensitive]
    known = pd.MultiIndex.from_tuples([group.values for group in schema.groups], names=names)
    found = known.get_indexer(pd.MultiIndex.from_frame(table[names]))
    if (found < 0).any():
        raise BadInput(
            "the table has a combination of sensitive values that the schema does not know",
            field=", ".join(names),
            remedy="leave out or recode those rows; an owner can train again on records that contain it",
        )
    return found.astype(np.int64)


def group_sizes(schema: Schema, table: pd.DataFrame) -> NDArray[np.int64]:
    """Rows of each group, (groups,)."""
    return np.bincount(group_positions(schema, table), minlength=len(schema.groups))


def rank_interval(quantiles: Quantiles, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The lowest and highest rank that decode to each value (n,), (n,) each, at least `LEAST_WIDTH` apart."""
    ranks, points = np.asarray(quantiles.ranks), np.asarray(quantiles.values)
    values = np.clip(values, points[0], points[-1])
    first = np.searchsorted(points, values, "left")
    last = np.searchsorted(points, values, "right")
    exact = first < last
    between = np.interp(values, points, ranks)
    low = np.where(exact, ranks[np.minimum(first, len(points) - 1)], between)
    high = np.where(exact, ranks[np.maximum(last - 1, 0)], between)
    middle = np.clip((low + high) / 2.0, LEAST_WIDTH / 2.0, 1.0 - LEAST_WIDTH / 2.0)
    return np.minimum(low, middle - LEAST_WIDTH / 2.0), np.maximum(high, middle + LEAST_WIDTH / 2.0)


def normal_score(rank: NDArray[np.float64]) -> Tensor:
    """Normal scores of ranks, in single precision, with the two ends `FAR` away."""
    return torch.special.ndtri(torch.from_numpy(rank)).clamp(-FAR, FAR).float()


def dense(layout: Layout, encoded: Encoded) -> Tensor:
    """The encoder's view of records: scores, missing flags and one-hot categories, (n, layout.inputs)."""
    parts = [encoded.score, encoded.absent[:, list(layout.optional)].float()]
    for index, width in enumerate(layout.widths[2:]):
        parts.append(torch.nn.functional.one_hot(encoded.levels[:, index], width).float())
    return torch.cat(parts, 1)


def gap_logits(absent: Tensor, flags: Tensor, links: Tensor | None) -> Tensor:
    """Log-odds of gaps in each record's numbers (n, optional), given those before them: what is measured together is
    missing together. absent: what z and s say of them; flags: the gaps, 0 or 1, or how likely; links: the decoder's
    `gap_links`."""
    return absent if links is None else absent + flags @ links.T


def sample(layout: Layout, outputs: Tensor, links: Tensor | None, generator: torch.Generator) -> Tensor:
    """Draw feature values from decoder outputs (n, layout.width) and the decoder's `gap_links`.

    Returns (n, numeric + optional + categorical): normal scores, missing flags (0/1) and category positions.
    """
    numeric = len(layout.numeric)
    uniform = torch.rand(len(outputs), len(layout.optional) + len(layout.categorical), generator=generator)
    drawn = torch.empty(len(outputs), numeric + uniform.shape[1])
    mixtures, absent, levels = layout.split(outputs)
    drawn[:, :numeric] = draw(mixtures, generator)
    flags = len(layout.optional)
    drawn[:, numeric : numeric + flags] = _draw_gaps(absent, links, uniform[:, :flags])
    for index, logits in enumerate(levels):
        drawn[:, numeric + flags + index] = sample_level(logits, uniform[:, flags + index])
    return drawn


def _draw_gaps(absent: Tensor, links: Tensor | None, uniform: Tensor) -> Tensor:
    """Gaps by their log-odds, 0 or 1, (n, optional): each, where they are linked, after those before it."""
    if links is None:
        return (uniform < torch.sigmoid(absent)).float()
    gaps = torch.zeros_like(absent)
    for place in range(absent.shape[1]):
        logit = absent[:, place] + gaps[:, :place] @ links[place, :place]
        gaps[:, place] = uniform[:, place] < torch.sigmoid(logit)
    return gaps


def sample_level(logits: Tensor, uniform: Tensor) -> Tensor:
    """Inverse-distribution draw of a category: logits (n, k), uniform (n,) to positions (n,)."""
    logits = logits.contiguous()
    cumulative = (logits - logits.amax(1, keepdim=True)).exp().cumsum(1)
    below = torch.searchsorted(cumulative, uniform.unsqueeze(1) * cumulative[:, -1:], right=True).squeeze(1)
    return below.clamp_max(logits.shape[1] - 1)


def decode(schema: Schema, drawn: Tensor, target: Tensor, group: Tensor) -> pd.DataFrame:
    """A canonical table, columns in schema order, from what `sample` drew, (n, numeric + optional + categorical), and
    positions of class and group, (n,) each."""
    layout = Layout(schema)
    numeric, flags = len(layout.numeric), len(layout.optional)
    ranks = torch.special.ndtr(drawn[:, :numeric].double()).numpy()
    rest = drawn[:, numeric:].numpy()
    columns: dict[str, Any] = {}
    for index, column in enumerate(layout.numeric):
        values = np.interp(ranks[:, index], column.quantiles.ranks, column.quantiles.values)
        columns[column.name] = np.round(values, column.decimals) + 0.0
    for position, index in enumerate(layout.optional):
        name = layout.numeric[index].name
        columns[name] = np.where(rest[:, position] > 0, np.nan, columns[name])
    for index, category in enumerate(layout.categorical):
        columns[category.name] = labels(category, rest[:, flags + index].astype(np.int64))
    return _with_roles(schema, columns, target, group)


def decode_images(schema: Schema, pixels: Tensor, target: Tensor, group: Tensor) -> pd.DataFrame:
    """A canonical table of pictures (n, channels, height, width) uint8, columns in schema order."""
    assert schema.image is not None
    return _with_roles(schema, {schema.image.name: as_column(pixels)}, target, group)


def _with_roles(schema: Schema, columns: dict[str, Any], target: Tensor, group: Tensor) -> pd.DataFrame:
    """The feature columns with target and sensitive ones, by class and group positions (n,)."""
    columns[schema.target.name] = labels(schema.target, target.numpy())
    return with_sensitive(schema, columns, group)


def with_sensitive(schema: Schema, columns: dict[str, Any], group: Tensor) -> pd.DataFrame:
    """A canonical table, columns in schema order, of all but the sensitive ones and group positions (n,)."""
    for index, category in enumerate(schema.sensitive):
        places = [category.categories.index(entry.values[index]) for entry in schema.groups]
        columns[category.name] = labels(category, np.asarray(places)[group.numpy()])
    return pd.DataFrame({name: columns[name] for name in schema.names})


def labels(column: CategoricalColumn, position: NDArray[np.int64]) -> pd.Series:
    """Category names by position (n,); the position after the last is missing."""
    names = pd.array([*column.categories, None], dtype="str")
    return pd.Series(names.take(position))
