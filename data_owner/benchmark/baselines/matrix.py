"""Tables as matrices for models that bring no encoding of their own: standardised numbers, one-hot categories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, gumbel_softmax, mse_loss, one_hot

from shared.codec import Layout, labels, positions, sample_level
from shared.schema import CategoricalColumn, Schema


@dataclass(frozen=True)
class Block:
    """Columns start..stop-1 of the matrix. A category's last place may stand for missing."""

    name: str
    start: int
    stop: int
    column: CategoricalColumn | None
    """None for a number."""


class Matrix:
    """Features and target as a matrix (n, width), and groups as positions (n,).

    A missing number is its column's mean with a two-place category beside it that says so.
    """

    def __init__(self, schema: Schema, training: pd.DataFrame) -> None:
        self.schema = schema
        numeric = Layout(schema).numeric
        values = training[[column.name for column in numeric]].to_numpy(float)
        self.centre, self.spread = np.nanmean(values, 0), np.nanstd(values, 0) + 1e-9
        self.low, self.high = np.nanmin(values, 0), np.nanmax(values, 0)
        self.numeric = numeric
        self.optional = [index for index, column in enumerate(numeric) if column.optional]
        widths: list[tuple[str, int, CategoricalColumn | None]] = [(column.name, 1, None) for column in numeric]
        widths += [(numeric[index].name, 2, None) for index in self.optional]
        self.categorical = (*Layout(schema).categorical, schema.target)
        widths += [(column.name, len(column.categories) + column.optional, column) for column in self.categorical]
        self.blocks, start = [], 0
        for name, width, column in widths:
            self.blocks.append(Block(name, start, start + width, column))
            start += width
        self.width = start
        shares = np.array([group.share for group in schema.groups])
        self.shares = torch.from_numpy(shares / shares.sum()).float()

    @property
    def levels(self) -> list[Block]:
        """Every block of more than one place, missing flags first, the target last."""
        return self.blocks[len(self.numeric) :]

    def encode(self, table: pd.DataFrame) -> Tensor:
        """(n, width)."""
        values = table[[column.name for column in self.numeric]].to_numpy(float)
        missing = np.isnan(values)
        parts = [torch.from_numpy(np.where(missing, 0.0, (values - self.centre) / self.spread))]
        parts += [one_hot(torch.from_numpy(missing[:, index].astype(np.int64)), 2) for index in self.optional]
        for block in self.levels[len(self.optional) :]:
            assert block.column is not None
            place = torch.from_numpy(positions(block.column, table[block.name]))
            parts.append(one_hot(place, block.stop - block.start))
        return torch.cat([part.float() for part in parts], 1)

    def activate(self, outputs: Tensor, temperature: float) -> Tensor:
        """A generator's outputs with a differentiable draw of each category (Gumbel softmax)."""
        parts = [outputs[:, : len(self.numeric)]]
        parts += [gumbel_softmax(outputs[:, block.start : block.stop], temperature) for block in self.levels]
        return torch.cat(parts, 1)

    def reconstruction(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Squared error of numbers plus cross-entropy of categories, summed over columns, mean over rows."""
        loss = outputs.new_zeros(())
        if self.numeric:
            count = len(self.numeric)
            loss = loss + count * mse_loss(outputs[:, :count], truth[:, :count])
        for block in self.levels:
            part = slice(block.start, block.stop)
            loss = loss + cross_entropy(outputs[:, part], truth[:, part])
        return loss

    def decode(self, outputs: Tensor, group: Tensor, generator: torch.Generator) -> pd.DataFrame:
        """A canonical table from logits and standardised numbers (n, width) and group positions (n,)."""
        values = outputs[:, : len(self.numeric)].double().numpy() * self.spread + self.centre
        values = np.clip(values, self.low, self.high)
        drawn = [
            sample_level(outputs[:, block.start : block.stop], torch.rand(len(outputs), generator=generator))
            for block in self.levels
        ]
        columns = {
            column.name: np.round(values[:, index], column.decimals) + 0.0 for index, column in enumerate(self.numeric)
        }
        for index, missing in zip(self.optional, drawn, strict=False):
            name = self.numeric[index].name
            columns[name] = np.where(missing.numpy() == 1, np.nan, columns[name])
        for category, place in zip(self.categorical, drawn[len(self.optional) :], strict=True):
            columns[category.name] = labels(category, place.numpy())
        return with_groups(self.schema, pd.DataFrame(columns), group)

    def draw_groups(self, count: int, generator: torch.Generator) -> Tensor:
        """Group positions drawn by their shares, (count,)."""
        return torch.multinomial(self.shares, count, replacement=True, generator=generator)


def with_groups(schema: Schema, table: pd.DataFrame, group: Tensor) -> pd.DataFrame:
    """The table with the sensitive columns of each row's group, in schema order."""
    for index, column in enumerate(schema.sensitive):
        places = np.array([column.categories.index(entry.values[index]) for entry in schema.groups])
        table[column.name] = labels(column, places[group.numpy()])
    return table[list(schema.names)]
