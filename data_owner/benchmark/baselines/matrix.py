"""Tables as matrices for models that bring no encoding of their own: bins of numbers and categories, one-hot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import cross_entropy, gumbel_softmax, one_hot

from shared.codec import Layout, labels, positions, sample_level, with_sensitive
from shared.schema import CategoricalColumn, Schema

BINS = 8
"""As many as FairDisco's authors cut most numbers of Adult into."""


@dataclass(frozen=True)
class Bins:
    """A number's training values, ordered, in classes of about as many records each; gaps come after the last."""

    ordered: NDArray[np.float64]
    edges: NDArray[np.float64]

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Bins:
        """Of values (n,), some NaN. A value that many share is never cut apart, so there may be fewer than `BINS`."""
        ordered = np.sort(values[~np.isnan(values)])
        edges = np.unique(np.quantile(ordered, np.arange(1, BINS) / BINS, method="inverted_cdf"))
        return cls(ordered, edges[edges < ordered[-1]])

    def positions(self, values: NDArray[np.float64]) -> NDArray[np.int64]:
        """Of each value (n,), its bin."""
        return np.where(np.isnan(values), len(self.edges) + 1, np.searchsorted(self.edges, values, "left"))

    def draw(self, position: NDArray[np.int64], uniform: NDArray[np.float64]) -> NDArray[np.float64]:
        """A training value of each bin, or NaN, by uniform numbers (n,)."""
        first = np.searchsorted(self.ordered, self.edges, "right")
        start, stop = np.array([0, *first, 0]), np.array([*first, len(self.ordered), 1])
        chosen = start[position] + np.floor(uniform * (stop - start)[position]).astype(np.int64)
        return np.where(position > len(self.edges), np.nan, self.ordered[chosen])


@dataclass(frozen=True)
class Block:
    """Columns `part` of the matrix, the classes of one column. A last one may stand for missing."""

    name: str
    part: slice
    column: CategoricalColumn | Bins


class Matrix:
    """Features and target as a matrix (n, width) of zeros and ones, and groups as positions (n,)."""

    def __init__(self, schema: Schema, training: pd.DataFrame) -> None:
        self.schema = schema
        layout = Layout(schema)
        self.decimals = {column.name: column.decimals for column in layout.numeric}
        self.blocks: list[Block] = []
        for number in layout.numeric:
            bins = Bins.of(training[number.name].to_numpy(float))
            self._add(number.name, len(bins.edges) + 1 + number.optional, bins)
        for category in (*layout.categorical, schema.target):
            self._add(category.name, len(category.categories) + category.optional, category)
        shares = np.array([group.share for group in schema.groups])
        self.shares = torch.from_numpy(shares / shares.sum()).float()

    def _add(self, name: str, width: int, column: CategoricalColumn | Bins) -> None:
        self.blocks.append(Block(name, slice(self.width, self.width + width), column))

    @property
    def width(self) -> int:
        return self.blocks[-1].part.stop if self.blocks else 0

    def encode(self, table: pd.DataFrame) -> Tensor:
        """(n, width)."""
        parts = []
        for block in self.blocks:
            values = table[block.name]
            if isinstance(block.column, Bins):
                place = block.column.positions(values.to_numpy(float))
            else:
                place = positions(block.column, values)
            # gaps of a number that has too few for a class of their own count as its highest bin
            width = block.part.stop - block.part.start
            parts.append(one_hot(torch.from_numpy(place.clip(max=width - 1)), width))
        return torch.cat(parts, 1).float()

    def activate(self, outputs: Tensor, temperature: float) -> Tensor:
        """A generator's outputs with a differentiable draw of each class (Gumbel softmax)."""
        # split, for the gradient of each slice alone is a matrix as wide as all
        widths = [block.part.stop - block.part.start for block in self.blocks]
        parts = outputs.split(widths, 1)  # type: ignore[no-untyped-call]
        return torch.cat([gumbel_softmax(part, temperature) for part in parts], 1)

    def reconstruction(self, outputs: Tensor, truth: Tensor) -> Tensor:
        """Cross-entropy, summed over columns, mean over rows."""
        losses = [cross_entropy(outputs[:, block.part], truth[:, block.part]) for block in self.blocks]
        return torch.stack(losses).sum()

    def decode(self, outputs: Tensor, group: Tensor, generator: torch.Generator) -> pd.DataFrame:
        """A canonical table from logits (n, width) and group positions (n,)."""
        table: dict[str, Any] = {}
        for block in self.blocks:
            uniform = torch.rand(2, len(outputs), generator=generator)
            place = sample_level(outputs[:, block.part], uniform[0]).numpy()
            if isinstance(block.column, Bins):
                values = block.column.draw(place, uniform[1].double().numpy())
                table[block.name] = np.round(values, self.decimals[block.name]) + 0.0
            else:
                table[block.name] = labels(block.column, place)
        return with_sensitive(self.schema, table, group)

    def draw_groups(self, count: int, generator: torch.Generator) -> Tensor:
        """Group positions drawn by their shares, (count,)."""
        return torch.multinomial(self.shares, count, replacement=True, generator=generator)
