"""DP-SGD as it is compared: Poisson samples that are drawn, and noise of the size that is accounted for."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from data_owner.benchmark.baselines import private_training
from data_owner.benchmark.baselines.private_training import BATCH, CLIP, SIZES, private_steps
from data_owner.benchmark.cells import Study, split
from data_owner.benchmark.systems import Fold
from data_owner.learning.teacher import Teacher
from data_owner.privacy.histogram import Integers
from shared.codec import Encoded, encode
from shared.schema import Schema

Loader = DataLoader[Any]
RATE = 0.1


@pytest.fixture
def encoded(disclosed: tuple[Schema, pd.DataFrame]) -> Encoded:
    return encode(*disclosed)


def is_poisson_sampled(loader: Loader, records: int, passes: int = 12) -> bool:
    """Whether sizes of samples vary as Binomial(records, RATE); a partition into batches has no such spread."""
    sizes = np.array([len(batch[0]) for _ in range(passes) for batch in loader])
    mean, variance = records * RATE, records * RATE * (1.0 - RATE)
    return abs(sizes.mean() - mean) < 5.0 * np.sqrt(variance / len(sizes)) and 0.5 < sizes.var() / variance < 1.7


def test_samples_are_poisson_and_a_partition_is_caught(
    disclosed: tuple[Schema, pd.DataFrame], encoded: Encoded
) -> None:
    torch.manual_seed(0)
    _, loader = private_steps(Teacher(disclosed[0], SIZES), encoded, RATE, 1.0)
    assert is_poisson_sampled(loader, len(encoded))
    partition: Loader = DataLoader(
        TensorDataset(*vars(encoded).values()), batch_size=round(RATE * len(encoded)), shuffle=True
    )
    assert not is_poisson_sampled(partition, len(encoded))


def noise_of_a_step(schema: Schema, encoded: Encoded, noise: float) -> float:
    """Standard deviation of a step's gradients where noise drowns every record."""
    torch.manual_seed(0)
    teacher = Teacher(schema, SIZES)
    private, loader = private_steps(teacher, encoded, RATE, noise)
    teacher.losses(Encoded(*next(iter(loader)))).total(SIZES).backward()  # type: ignore[no-untyped-call]
    private.pre_step()
    grads = [weights.grad.flatten() for weights in teacher.parameters() if weights.grad is not None]
    return float(torch.cat(grads).std())


def test_noise_is_of_the_accounted_size_and_one_off_by_the_batch_size_is_not(
    disclosed: tuple[Schema, pd.DataFrame], encoded: Encoded
) -> None:
    noise, batch = 300.0, round(RATE * len(encoded))
    expected = noise * CLIP / batch
    assert noise_of_a_step(disclosed[0], encoded, noise) == pytest.approx(expected, rel=0.05)
    assert noise_of_a_step(disclosed[0], encoded, noise / batch) != pytest.approx(expected, rel=0.5)


def test_the_chosen_noise_spends_the_budget_and_not_more() -> None:
    from data_owner.privacy.accounting import Query, guarantee

    histograms = Query(what="histograms", noise_multiplier=40.0, count=14)
    rate = BATCH / 5000
    noise = private_training._noise(histograms, rate, 300, 1.0)
    steps = Query(what="gradients", noise_multiplier=noise, count=300, sampling=rate)
    assert 0.98 < guarantee([histograms, steps], 1e-5).epsilon <= 1.0


def test_noise_where_no_record_has_a_gap_makes_no_group_of_gaps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def a_few_gaps(counts: Integers, scale: float) -> Integers:
        return np.append(counts[:-1], counts[-1] + 5)

    monkeypatch.setattr(private_training, "discrete_gaussian", a_few_gaps)
    study = Study(dataset="compas", sensitive=("sex",), folds=5)
    schema, training, held_out = split(study, 0, 0)
    fold = Fold("compas", schema, training, held_out, seed=0, effort=0.01, scratch=tmp_path)
    assert set(private_training.epsilon_1(fold)["sex"]) == {"Female", "Male"}
