"""Small groups share the weights of large ones: what a decoder has of its own for a few dozen, it learns by heart.

The first layer of D(z, s) adds a vector w_c for group c. Large groups learn theirs freely. That of a small group is
held, after each step, to the affine span of theirs: it may lie anywhere among what tells large groups apart, and has
all else in common with them. So it has one free number fewer than there are large groups. The two largest are always
free: all else would make every group alike.
"""

from __future__ import annotations

import torch
from torch import Tensor


def are_large(shares: Tensor, records: int, least: float) -> Tensor:
    """Which groups of these shares of so many records have at least `least`, or are the two largest: (groups,) bool.

    By the shares in the schema and not by a count: so they are the same in each half that shadows are trained on.
    """
    large = shares * records >= least
    large[shares.topk(min(2, len(shares))).indices] = True
    return large


@torch.no_grad()
def share_weights(weights: Tensor, large: Tensor) -> None:
    """Move small groups' columns of weights (width, groups) to the nearest points of the large ones' affine span, in
    place. large: (groups,) bool."""
    own = weights[:, large]
    origin, directions = own[:, :1], torch.linalg.qr(own[:, 1:] - own[:, :1]).Q
    weights[:, ~large] = origin + directions @ (directions.T @ (weights[:, ~large] - origin))
