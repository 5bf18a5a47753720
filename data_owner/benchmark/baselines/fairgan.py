"""FairGAN (Xu et al., IEEE Big Data 2018) on tables: one discriminator for realism, one that must not find s.

The generator makes x and y given s. The first discriminator sees x, y and s; the second tries to tell s from the
x and y that were made, and the generator is rewarded where it fails. Without the paper's autoencoder, and in one
phase where it has two: `STEPS` of `BATCH` records, 415 epochs of COMPAS, 281 of SUPPORT2 and 52 of Adult.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pandas as pd
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from data_owner.benchmark.baselines.matrix import Matrix
from data_owner.benchmark.systems import Fold
from shared.codec import group_positions

NOISE = 64
HIDDEN = 256
BATCH = 512
STEPS = 4000
FAIRNESS = 1.0
TEMPERATURE = 0.5


def generate(fold: Fold) -> pd.DataFrame:
    matrix = Matrix(fold.schema, fold.training)
    records = matrix.encode(fold.training)
    group = torch.from_numpy(group_positions(fold.schema, fold.training))
    groups = len(fold.schema.groups)
    draw = torch.Generator().manual_seed(fold.seed)
    with torch.random.fork_rng(devices=[]), _flushing_denormals():
        torch.manual_seed(fold.seed)
        maker = _perceptron(NOISE + groups, matrix.width)
        realism = _perceptron(matrix.width + groups, 1)
        finder = _perceptron(matrix.width, groups)
        makers, realists, finders = (
            torch.optim.Adam(model.parameters(), 2e-4, betas=(0.5, 0.999)) for model in (maker, realism, finder)
        )
        ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
        for _ in range(fold.steps(STEPS)):
            rows = torch.randint(len(records), (BATCH,))
            member = one_hot(group[rows], groups).float()
            made = matrix.activate(maker(torch.cat([torch.randn(BATCH, NOISE), member], 1)), TEMPERATURE)
            apart = made.detach()
            loss = binary_cross_entropy_with_logits(realism(torch.cat([records[rows], member], 1)), ones)
            loss = loss + binary_cross_entropy_with_logits(realism(torch.cat([apart, member], 1)), zeros)
            realists.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            realists.step()
            finders.zero_grad()
            cross_entropy(finder(apart), group[rows]).backward()  # type: ignore[no-untyped-call]
            finders.step()
            loss = binary_cross_entropy_with_logits(realism(torch.cat([made, member], 1)), ones)
            loss = loss - FAIRNESS * cross_entropy(finder(made), group[rows])
            makers.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            makers.step()
        drawn = matrix.draw_groups(fold.rows, draw)
        with torch.no_grad():
            outputs = maker(torch.cat([torch.randn(fold.rows, NOISE), one_hot(drawn, groups)], 1))
    return matrix.decode(outputs, drawn, draw)


@contextmanager
def _flushing_denormals() -> Iterator[None]:
    """Draws that are all but certain leave numbers so small that a processor computes many times slower with them."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN),
        nn.LeakyReLU(0.2),
        nn.Linear(HIDDEN, HIDDEN),
        nn.LeakyReLU(0.2),
        nn.Linear(HIDDEN, outputs),
    )
