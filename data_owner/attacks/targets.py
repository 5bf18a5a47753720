"""Who is attacked: members, from whom weights were learned, and control records, which training never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import adaptive_avg_pool2d

from data_owner.attacks.outcome import Flags, Floats
from shared.codec import Encoded, Layout, dense, encode
from shared.schema import Schema

MOST = 2000
"""Members and control records that are attacked, each at most: enough for a false positive rate of .1 %."""

MOST_PICTURES = 300
"""Fewer of pictures, each of which is thousands of numbers."""

GRID = 8
NEIGHBOURS = 10
RAREST = "rarest decile"


@dataclass(frozen=True)
class Targets:
    """Encoded records with the parts they belong to: each sensitive group, and the rarest decile.

    `member_rows` and `control_rows` say which rows of training and held-out records they are.
    """

    schema: Schema
    members: Encoded
    control: Encoded
    member_parts: Mapping[str, Flags]
    control_parts: Mapping[str, Flags]
    member_rows: torch.Tensor
    control_rows: torch.Tensor

    def with_reference(self) -> tuple[Encoded, Targets]:
        """Half of the control records, for the attacker to know people in general by, and the targets without them."""
        half = len(self.control) // 2
        everyone, rest = torch.arange(len(self.members)), torch.arange(half, len(self.control))
        return self.control[torch.arange(half)], self._those(everyone, rest)

    def in_groups_of(self, least: int) -> Targets:
        """Those whose group has at least `least` members and as many control records."""
        sizes = [torch.bincount(side.group, minlength=len(self.schema.groups)) for side in (self.members, self.control)]
        large = torch.minimum(*sizes) >= least
        return self._those(*(large[side.group].nonzero()[:, 0] for side in (self.members, self.control)))

    def _those(self, members: torch.Tensor, control: torch.Tensor) -> Targets:
        """Members and control records at these places, (m,) and (c,)."""
        return Targets(
            self.schema,
            self.members[members],
            self.control[control],
            {part: flags[members.numpy()] for part, flags in self.member_parts.items()},
            {part: flags[control.numpy()] for part, flags in self.control_parts.items()},
            self.member_rows[members],
            self.control_rows[control],
        )

    @property
    def both(self) -> Encoded:
        """Members, then control records."""
        pairs = zip(vars(self.members).values(), vars(self.control).values(), strict=True)
        return Encoded(*(torch.cat(pair) for pair in pairs))


def draw(schema: Schema, training: pd.DataFrame, held_out: pd.DataFrame, seed: int, most: int = MOST) -> Targets:
    """At most `most` of each, drawn by seed from canonical tables."""
    most = min(most, MOST_PICTURES) if schema.image is not None else most
    generator = torch.Generator().manual_seed(seed)
    rows = [torch.randperm(len(table), generator=generator)[:most] for table in (training, held_out)]
    members, control = (
        encode(schema, table.iloc[drawn.numpy()]) for table, drawn in zip((training, held_out), rows, strict=True)
    )
    rare = rarest(np.concatenate([features(schema, members), features(schema, control)]))
    member_parts = parts(schema, members, rare[: len(members)])
    control_parts = parts(schema, control, rare[len(members) :])
    return Targets(schema, members, control, member_parts, control_parts, rows[0], rows[1])


def features(schema: Schema, records: Encoded) -> Floats:
    """Records as points: normal scores, one-hot categories (weighted so that two that differ are one apart) and the
    target, (n, width). Of a picture, its intensities on a coarse grid."""
    if schema.image is not None:
        points = adaptive_avg_pool2d(records.pixels.float() / 255.0, GRID).flatten(1)
    else:
        layout = Layout(schema)
        points = dense(layout, records)
        points[:, len(layout.numeric) :] /= 2.0**0.5
    target = torch.nn.functional.one_hot(records.target, len(schema.target.categories)) / 2.0**0.5
    return torch.cat([points, target], 1).double().numpy()


def distances(rows: Floats, points: Floats) -> Floats:
    """Of each of `points` (n, width) to the nearest of `rows` (k, width), (n,)."""
    return np.asarray(NearestNeighbors(n_neighbors=1).fit(rows).kneighbors(points)[0][:, 0])


def rarest(points: Floats) -> Flags:
    """The tenth of points (n, width) that lie farthest from their nearest others; none that has equals all around."""
    count = min(NEIGHBOURS, len(points) - 1)
    distance = NearestNeighbors(n_neighbors=count).fit(points).kneighbors()[0][:, -1]
    return np.asarray((distance >= np.quantile(distance, 0.9)) & (distance > 0.0))


def parts(schema: Schema, records: Encoded, rare: Flags) -> dict[str, Flags]:
    """The parts that records (n,) belong to, of whom `rare` (n,) are the rarest."""
    group = records.group.numpy()
    groups = {f"group {each.label}": group == index for index, each in enumerate(schema.groups)}
    return {**groups, RAREST: rare}
