"""Small groups share the weights of large ones: what a decoder has of its own for a few dozen, it learns by heart.

The first layer of D(z, s) adds a vector w_c for group c. Large groups learn theirs freely. That of a small group is
held, after each step, to the affine span of theirs: it may lie anywhere among what tells large groups apart, and has
all else in common with them. So it has one free number fewer than there are large groups. The two largest are always
free: all else would make every group alike.
"""

from __future__ import annotations

import torch
from torch import Tensor


def are_large(group: Tensor, groups: int, least: int) -> Tensor:
    """Which groups have at least `least` of the records, or are one of the two largest: (groups,) bool.

    group: of each record, (n,).
    """
    sizes = torch.bincount(group, minlength=groups)
    return (sizes >= least) | (sizes >= sizes.topk(min(2, groups)).values[-1])


@torch.no_grad()
def share_weights(weights: Tensor, large: Tensor) -> None:
    """Move small groups' columns of weights (width, groups) to the nearest points of the large ones' affine span, in
    place. large: (groups,) bool."""
    own = weights[:, large]
    origin, directions = own[:, :1], torch.linalg.qr(own[:, 1:] - own[:, :1]).Q
    weights[:, ~large] = origin + directions @ (directions.T @ (weights[:, ~large] - origin))
