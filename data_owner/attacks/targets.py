"""Who is attacked: members, from whom weights were learned, and control records, which training never saw."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from sklearn.neighbors import NearestNeighbors
from torch.nn.functional import adaptive_avg_pool2d

from data_owner.attacks.outcome import LEAST_TRIALS, SMALL_GROUPS, Flags, Floats, group_part
from shared.codec import Encoded, Layout, dense, encode
from shared.schema import Schema

MOST = 2000
"""Members and control records that are attacked, each at most: enough for a false positive rate of about .1 %."""

MOST_PICTURES = 300
"""Fewer of pictures, each of which is thousands of numbers."""

GRID = 8
NEIGHBOURS = 10
RAREST = "rarest tenth"


@dataclass(frozen=True)
class Targets:
    """Encoded records with the parts they belong to: each sensitive group, the small ones together, the rarest tenth.

    `member_rare` (m,) and `control_rare` (c,) say who is among the rarest; `member_rows` and `control_rows` say which
    rows of training and held-out records they are.
    """

    schema: Schema
    members: Encoded
    control: Encoded
    member_rare: Flags
    control_rare: Flags
    member_rows: torch.Tensor
    control_rows: torch.Tensor

    @property
    def member_parts(self) -> Mapping[str, Flags]:
        return parts(self.schema, self.members, self.member_rare, self._least_sizes)

    @property
    def control_parts(self) -> Mapping[str, Flags]:
        return parts(self.schema, self.control, self.control_rare, self._least_sizes)

    def with_reference(self) -> tuple[Encoded, Targets]:
        """Half of the control records, for the attacker to know people in general by, and the targets without them."""
        half = len(self.control) // 2
        everyone, rest = torch.arange(len(self.members)), torch.arange(half, len(self.control))
        return self.control[torch.arange(half)], self._those(everyone, rest)

    def in_groups_of(self, least: int) -> Targets:
        """Those whose group has at least `least` members and as many control records."""
        large = self._least_sizes >= least
        return self._those(*(large[side.group].nonzero()[:, 0] for side in (self.members, self.control)))

    def _those(self, members: torch.Tensor, control: torch.Tensor) -> Targets:
        """Members and control records at these places, (m,) and (c,)."""
        return Targets(
            self.schema,
            self.members[members],
            self.control[control],
            self.member_rare[members.numpy()],
            self.control_rare[control.numpy()],
            self.member_rows[members],
            self.control_rows[control],
        )

    @property
    def _least_sizes(self) -> torch.Tensor:
        return least_sizes(self.schema, self.members, self.control)

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
    return Targets(schema, members, control, rare[: len(members)], rare[len(members) :], *rows)


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


def least_sizes(schema: Schema, *sides: Encoded) -> torch.Tensor:
    """How many of each group there are on the side that has fewest, (groups,)."""
    return torch.stack([torch.bincount(side.group, minlength=len(schema.groups)) for side in sides]).amin(0)


def parts(schema: Schema, records: Encoded, rare: Flags, sizes: torch.Tensor) -> dict[str, Flags]:
    """The parts that records (n,) belong to, of whom `rare` (n,) are the rarest. `sizes`: of each group, (groups,)."""
    group = records.group.numpy()
    groups = {group_part(each.label): group == index for index, each in enumerate(schema.groups)}
    return {**groups, SMALL_GROUPS: (sizes < LEAST_TRIALS).numpy()[group], RAREST: rare}
