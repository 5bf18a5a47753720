"""Small groups share the weights of large ones, and large groups learn as if there were none."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from hypothesis import given
from hypothesis import strategies as st

from data_owner.learning.group_weights import are_large, share_weights
from data_owner.learning.training import train_teacher
from shared.codec import encode, group_sizes
from shared.decoder import Decoder
from shared.schema import Schema
from tests.conftest import QUICK

Disclosed = tuple[Schema, pd.DataFrame]


def outside_the_span(weights: torch.Tensor, large: torch.Tensor) -> float:
    """How far small groups' columns lie from the affine span of the large ones', at most."""
    own = weights[:, large].double()
    directions, apart = own[:, 1:] - own[:, :1], weights[:, ~large].double() - own[:, :1]
    nearest = directions @ torch.linalg.lstsq(directions, apart).solution
    return float((apart - nearest).abs().max())


@given(st.integers(2, 5), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_small_columns_move_to_the_nearest_point_of_the_span_of_large_ones(large: int, small: int, seed: int) -> None:
    before = torch.randn(16, large + small, generator=torch.Generator().manual_seed(seed))
    flags = torch.tensor([True] * large + [False] * small)[torch.randperm(large + small)]
    after = before.clone()
    share_weights(after, flags)
    assert torch.equal(after[:, flags], before[:, flags])
    assert outside_the_span(after, flags) < 1e-4
    own = before[:, flags].double()
    moved = (before - after)[:, ~flags].double()
    assert float((own[:, 1:] - own[:, :1]).T.matmul(moved).abs().max()) < 1e-3, "not the nearest point"
    again = after.clone()
    share_weights(again, flags)
    assert torch.allclose(again, after, atol=1e-5)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.integers(1, 80))
def test_large_groups_have_enough_records_or_are_the_two_largest(sizes: list[int], least: int) -> None:
    shares = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
    large = are_large(shares, sum(sizes), least - 0.5).tolist()
    enough = [size >= least for size in sizes]
    assert sum(large) == max(2, sum(enough))
    assert all(found for found, has in zip(large, enough, strict=True) if has)
    rest = [size for size, found in zip(sizes, large, strict=True) if not found]
    assert max(rest, default=0) <= min(size for size, found in zip(sizes, large, strict=True) if found)


@given(st.lists(st.integers(1, 60), min_size=2, max_size=8), st.integers(2, 5))
def test_a_group_is_large_in_a_part_of_the_records_where_it_is_in_all_of_them(sizes: list[int], parts: int) -> None:
    shares, records = torch.tensor(sizes, dtype=torch.float64) / sum(sizes), 60 * sum(sizes)
    whole = are_large(shares, records, 1000.5)
    assert torch.equal(whole, are_large(shares, records // parts, 1000.5 / parts))


def group_weights(disclosed: Disclosed, large_group: int) -> tuple[torch.Tensor, bytes]:
    """Of a teacher's released decoder, and its bytes."""
    schema, table = disclosed
    encoded = encode(schema, table)
    labels = torch.nn.functional.one_hot(encoded.target, 2).float()
    teacher = train_teacher(schema, encoded, labels, replace(QUICK, large_group=large_group), 0).teacher
    data = teacher.decoder.to_bytes()
    return Decoder.from_bytes(data, schema).group_weights.detach().float(), data


def test_a_released_decoder_has_nothing_of_its_own_for_a_small_group(disclosed: Disclosed) -> None:
    schema, table = disclosed
    sizes = group_sizes(schema, table)
    large = torch.from_numpy(sizes > sizes.min())
    shared, _ = group_weights(disclosed, 10_000)
    free, _ = group_weights(disclosed, 1)
    half_precision = 1e-2
    assert outside_the_span(shared, large) < half_precision < outside_the_span(free, large)


def test_where_every_group_is_large_training_is_as_if_there_were_no_such_rule(disclosed: Disclosed) -> None:
    schema, table = disclosed
    fewest = int(np.min(group_sizes(schema, table)))
    assert group_weights(disclosed, 1)[1] == group_weights(disclosed, fewest // 2)[1]
