"""Generation: x̂ = D(E'(n), s), y = h(E'(n)), in blocks that any shard can make on its own.

Block b of a run draws from a generator seeded by (seed, b) alone, always has the same number of rows and is made by
one thread, so a row depends on the seed and its position and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

import pandas as pd
import torch
from torch import Tensor

from shared.canonical import restore
from shared.codec import Layout, decode, decode_images, sample, sample_level
from shared.decoder import Decoder
from shared.errors import VerificationFailure
from shared.limits import LIMITS
from shared.process_wide import ProcessWide
from shared.progress import Progress, quiet
from shared.schema import Schema
from shared.statistics import LatentStatistics
from shared.student import Student

TILE = 4096
"""Rows decoded at once: what one step makes is still in the processor's cache when the next step reads it."""
PICTURES = 256
"""The same of pictures, each of which is thousands of numbers."""

AT_ONCE = 2
"""Blocks made at once, each by a thread of its own, which bounds the memory that they take."""

BALANCE = 0.5
"""How far balanced rows go from recorded group shares (0) to equal ones (1): a model learns of small groups from more
rows, while z, and with it the label, stays independent of the group."""


class Writer(Protocol):
    """Takes rows, a block at a time."""

    def write(self, table: pd.DataFrame) -> None: ...


@dataclass(frozen=True)
class Synthesiser:
    """Everything that turns noise into rows."""

    schema: Schema
    decoder: Decoder
    statistics: LatentStatistics
    student: Student

    @property
    def block_rows(self) -> int:
        """Rows of a block: few of pictures, each of which is thousands of numbers."""
        return LIMITS.block_rows if self.schema.image is None else LIMITS.image_block_rows

    def latents(self, count: int, generator: torch.Generator) -> Tensor:
        """(count, latent) latents z'."""
        return self.statistics.strata.unwhiten(self.student.draw(count, generator), generator)

    @torch.inference_mode()
    def _block(self, seed: int, index: int, balanced: bool) -> pd.DataFrame:
        """Block `index` of run `seed` as a canonical table of `block_rows` rows.

        `balanced` draws groups `BALANCE` of the way to equally often; latents and labels stay the same.
        """
        generator = torch.Generator().manual_seed(block_seed(seed, index))
        rows = self.block_rows
        z = _finite(self.latents(rows, generator))
        shares = group_shares(self.schema)
        if balanced:
            shares = balanced_shares(shares)
        uniform = torch.rand(2, rows, generator=generator)
        group = sample_level(shares.log().expand(rows, -1), uniform[0])
        label = torch.cat([_finite(self.decoder.label(tile)) for tile in torch.split(z, TILE)])
        target = sample_level(label, uniform[1])
        membership = torch.nn.functional.one_hot(group, len(shares))
        if self.schema.image is not None:
            return decode_images(self.schema, pictures(self.decoder, z, membership), target, group)
        layout = Layout(self.schema)
        tiles = zip(torch.split(z, TILE), torch.split(membership, TILE), strict=True)
        links = self.decoder.gap_links
        drawn = torch.cat([sample(layout, _finite(self.decoder(*tile)), links, generator) for tile in tiles])
        return decode(self.schema, drawn, target, group)

    def table(self, seed: int, rows: int, balanced: bool = False) -> pd.DataFrame:
        """The first `rows` rows of run `seed` as one canonical table."""
        return pd.concat(self.rows(seed, 0, rows, balanced), ignore_index=True)

    def write(
        self, writer: Writer, seed: int, start: int, stop: int, balanced: bool = False, progress: Progress = quiet
    ) -> None:
        """Rows start..stop-1 of run `seed`, with the types and names that records have, one block while the next is
        made."""
        done = 0
        with ThreadPoolExecutor(1) as pool:
            written: Future[None] | None = None
            for block in self.rows(seed, start, stop, balanced):
                if written is not None:
                    written.result()
                written = pool.submit(lambda rows: writer.write(restore(rows, self.schema)), block)
                done += len(block)
                progress(done, stop - start, f"{done:,} rows")
            if written is not None:
                written.result()

    def rows(self, seed: int, start: int, stop: int, balanced: bool = False) -> Iterator[pd.DataFrame]:
        """Rows start..stop-1 of run `seed`, block by block."""
        size = self.block_rows
        first, end = start // size, -(-stop // size)
        with _workers() as pool:

            def begun(index: int) -> Future[pd.DataFrame]:
                return pool.submit(self._block, seed, index, balanced)

            ahead = deque(begun(index) for index in range(first, min(first + AT_ONCE, end)))
            for index in range(first, end):
                block = ahead.popleft().result()
                if index + AT_ONCE < end:
                    ahead.append(begun(index + AT_ONCE))
                low, high = max(start - index * size, 0), min(stop - index * size, size)
                yield block if (low, high) == (0, size) else block.iloc[low:high].reset_index(drop=True)


def parse_release(schema: bytes, decoder: bytes, statistics: bytes) -> tuple[Schema, Decoder, LatentStatistics]:
    """The three that training made, from their bytes. Raises `BadContent` if they do not fit each other."""
    parsed = Schema.from_bytes(schema)
    model = Decoder.from_bytes(decoder, parsed)
    latent, groups, classes = model.architecture.latent, len(parsed.groups), len(parsed.target.categories)
    return parsed, model, LatentStatistics.from_bytes(statistics, latent, groups, classes)


def pictures(decoder: Decoder, z: Tensor, membership: Tensor) -> Tensor:
    """The mean picture D(z, s) of latents (n, latent) and one-hot groups, (n, channels, height, width) uint8.

    In parts of a size that bounds memory by the limit on one picture's activations.
    """
    parts = zip(torch.split(z, PICTURES), torch.split(membership, PICTURES), strict=True)
    with torch.inference_mode():
        means = (torch.sigmoid(_finite(decoder(*part))) for part in parts)
        return torch.cat([(mean * 255.0).round().to(torch.uint8) for mean in means])


def _finite(values: Tensor) -> Tensor:
    """Raises `VerificationFailure` where weights or moments, all finite, are so large that products are not."""
    if not all(bool(torch.isfinite(end)) for end in torch.aminmax(values)):  # the ends are NaN where any is
        raise VerificationFailure(
            "the release makes values that are not finite", field="decoder", remedy="ask the owner for a new release"
        )
    return values


_THREADS = ProcessWide(torch.get_num_threads, torch.set_num_threads)


@contextmanager
def _workers() -> Iterator[ThreadPoolExecutor]:
    """`AT_ONCE` workers, or one where torch may use one thread, in each of which torch uses one.

    Where it divides a tensor among threads, SiLU and sigmoid round the last numbers of each part in another way.
    """
    with (
        _THREADS.changed() as threads,  # a worker's one is also that of threads that start after it
        ThreadPoolExecutor(min(AT_ONCE, threads), initializer=torch.set_num_threads, initargs=(1,)) as pool,
    ):
        yield pool


def group_shares(schema: Schema) -> Tensor:
    """The released shares of the groups, adding up to 1, (groups,)."""
    shares = torch.tensor([group.share for group in schema.groups])
    return shares / shares.sum()


def balanced_shares(shares: Tensor) -> Tensor:
    """Shares of the groups in balanced rows, of those that were recorded, (groups,) each."""
    return shares.lerp(torch.full_like(shares, 1.0 / len(shares)), BALANCE)


def block_seed(seed: int, index: int) -> int:
    """A 63-bit generator seed, distinct for every (seed, block)."""
    digest = hashlib.sha256(f"fair4free block {seed} {index}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def shard_bounds(rows: int, shard: int, shards: int) -> tuple[int, int]:
    """First row and end row of shard `shard` (from 1) of `shards`: together they are exactly the whole."""
    return rows * (shard - 1) // shards, rows * shard // shards
