"""Scores on people drawn anew: against drawing them one by one."""

import numpy as np
import pytest
from numpy.typing import NDArray

from data_owner.benchmark.resampling import LEVEL, Interval, Resampled, intervals
from shared.metrics import Integers, score


def people(count: int, seed: int = 0) -> tuple[Integers, Integers, Integers]:
    """Classes, predictions that follow class and group, and three groups."""
    generator = np.random.default_rng(seed)
    groups = generator.choice(3, count, p=(0.5, 0.3, 0.2))
    truth = (generator.random(count) < 0.4).astype(np.int64)
    predicted = (generator.random(count) < 0.2 + 0.4 * truth + 0.1 * groups).astype(np.int64)
    return truth, predicted, groups.astype(np.int64)


def scored(truth: Integers, predicted: Integers, groups: Integers) -> tuple[float, float, float]:
    """In the order of `Resampled`, of many people in every group and class."""

    def ratio(where: NDArray[np.bool_]) -> float:
        rates = [predicted[where & (groups == group)].mean() for group in np.unique(groups)]
        return float(min(rates) / max(rates))

    odds = min(ratio(truth == 1), ratio(truth == 0))
    return ratio(np.full(len(truth), True)), odds, float((truth == predicted).mean())


def test_intervals_are_those_of_drawing_people_one_by_one() -> None:
    truth, predicted, groups = people(2000)
    generator = np.random.default_rng(1)
    draws = [generator.integers(len(truth), size=len(truth)) for _ in range(1000)]
    slow = np.array([scored(truth[who], predicted[who], groups[who]) for who in draws])
    found = intervals(truth, predicted, groups, np.random.default_rng(2))
    once, point = scored(truth, predicted, groups), score(truth, predicted, groups)
    for index, name in enumerate(Resampled.model_fields):
        assert once[index] == pytest.approx(getattr(point, name)), "or it would be no oracle"
        expected, interval = Interval.of(slow[:, index]), getattr(found, name)
        assert interval.low == pytest.approx(expected.low, abs=0.02), name
        assert interval.high == pytest.approx(expected.high, abs=0.02), name


def test_four_times_as_many_people_halve_an_interval() -> None:
    few, many = (intervals(*people(count), np.random.default_rng(0)).accuracy for count in (1000, 4000))
    assert (few.high - few.low) / (many.high - many.low) == pytest.approx(2.0, rel=0.15)


def test_the_level_is_the_share_of_studies_whose_interval_holds_the_truth() -> None:
    truth, predicted, _ = people(400_000)
    accuracy = float((truth == predicted).mean())
    studies = [intervals(*people(500, seed), np.random.default_rng(seed)).accuracy for seed in range(200)]
    held = np.mean([study.low <= accuracy <= study.high for study in studies])
    assert held == pytest.approx(LEVEL, abs=0.05)


@pytest.mark.parametrize("predicted", [np.zeros(6, np.int64), np.ones(6, np.int64)])
def test_groups_of_one_and_classes_that_nobody_has_leave_ratios_whole(predicted: Integers) -> None:
    found = intervals(np.zeros(6, np.int64), predicted, np.array([0, 1, 1, 2, 2, 2]), np.random.default_rng(0))
    assert found.demographic_parity_ratio == found.equalized_odds_ratio == Interval(low=1.0, high=1.0)
    assert found.accuracy == Interval(low=float(1 - predicted[0]), high=float(1 - predicted[0]))
