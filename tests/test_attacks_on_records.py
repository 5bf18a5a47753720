"""Attacks on whole records: who is told for a member by a score, and whom it leaves alone."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_owner import attack_gate
from data_owner.attacks import density_ratio, nearest_record, score
from data_owner.attacks.battery import Battery
from data_owner.attacks.targets import draw
from data_owner.records.disclosure import disclose
from data_owner.records.ingest import ingest
from data_owner.settings import AttackLimits
from shared.schema import Schema
from tests.conftest import patients, settings_for

Disclosed = tuple[Schema, pd.DataFrame]


@pytest.fixture(scope="module")
def many() -> Disclosed:
    """1,200 patients, hardly two alike."""
    table = patients(1200)
    return disclose(ingest(table, settings_for(table)), 10)


# scores that tie


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 100), min_size=1, max_size=5), st.sampled_from([0.001, 0.01, 0.1]), st.integers(0, 10_000)
)
def test_about_the_rate_of_members_and_controls_pass_however_their_scores_tie(
    frequencies: list[int], rate: float, seed: int
) -> None:
    """One list of frequencies for both: the scores tell nothing, and where there is one value they are all equal."""
    count, draw_ = 4000, np.random.default_rng(seed)
    shares = np.array(frequencies) / sum(frequencies)
    member, control = draw_.choice(len(shares), (2, count), p=shares).astype(float)
    told, false = score.called_members(member, control, rate, draw_)
    chance = 6.0 * (2.0 * rate / count) ** 0.5
    assert false.mean() == pytest.approx(rate, abs=chance)
    assert told.mean() == pytest.approx(rate, abs=chance)


@pytest.mark.parametrize("rate", score.RATES.values())
def test_scores_that_do_not_tie_are_called_by_the_threshold_of_the_other_half_alone(rate: float) -> None:
    draw_ = np.random.default_rng(0)
    scores = draw_.normal(1.0, 1.0, 4000), draw_.normal(0.0, 1.0, 4000)
    generator = np.random.default_rng(1)
    halves = [generator.permutation(4000) % 2 == 0 for _ in scores]
    limits = [score.threshold(scores[1][halves[1] != side], rate) for side in (False, True)]
    called = score.called_members(*scores, rate, np.random.default_rng(1))
    for each, half, told in zip(scores, halves, called, strict=True):
        assert (told == (each > np.where(half, limits[1], limits[0]))).all()


def test_copies_are_found_by_nearest_record_though_some_others_have_twins(many: Disclosed) -> None:
    schema, table = many
    training, held_out = table.iloc[:800], table.iloc[800:].copy()
    held_out.iloc[:8] = training.iloc[:8].to_numpy()
    found, _ = nearest_record.attack(draw(schema, training, held_out, 0), training, 0)
    low, _ = found.overall.risk_interval
    assert low > 0.3
    assert found.overall.control.share < 0.03


# densities


def test_the_ratio_of_densities_is_high_where_rows_are_and_people_are_not() -> None:
    """In the plane the rows are nine times as dense amid them: distances to the nearest are a third."""
    draw_ = np.random.default_rng(0)
    synthetic, reference = draw_.normal(0.0, 1.0, (2000, 2)), draw_.normal(0.0, 3.0, (2000, 2))
    amid, beyond = draw_.normal(0.0, 0.3, (1000, 2)), draw_.normal(6.0, 0.3, (1000, 2))
    ratio, reference_only = density_ratio.density_ratios(synthetic, reference, np.concatenate([amid, beyond]))
    assert ratio[:1000].mean() == pytest.approx(np.log(3.0), abs=0.1)
    assert ratio[1000:].mean() < -1.0
    assert reference_only[1000:].mean() > reference_only[:1000].mean()


FEW_VALUES = ["age", "lactate", "ventilated", "région", "died"]
"""Columns in which many people are alike."""


@pytest.mark.parametrize("columns", [list(patients(1)), FEW_VALUES])
def test_who_is_copied_is_told_by_the_density_of_rows_and_nobody_by_rows_of_other_people(
    columns: list[str],
) -> None:
    table = patients(2000)[columns]
    schema, table = disclose(ingest(table, settings_for(table)), 10)
    members, control, others = table.iloc[:800], table.iloc[800:1200], table.iloc[1200:]
    people = draw(schema, members, control, seed=0)

    def attacked(rows: pd.DataFrame) -> Battery:
        return Battery(release="r", results=density_ratio.attack(people, rows, 0))

    copied, fresh = attacked(members), attacked(others)
    assert copied.results[0].overall.risk_interval[0] > AttackLimits().density_ratio
    assert [each.finding for each in attack_gate.verdicts(copied, AttackLimits())] == ["succeeded"]
    assert attack_gate.exceeding(fresh, AttackLimits()) == ()
