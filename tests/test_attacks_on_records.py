"""Attacks on whole records: who is told for a member by a score, and whom it leaves alone."""

from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from data_owner import attack_gate
from data_owner.attacks import density_ratio, nearest_record, reconstruction, score, singling_out
from data_owner.attacks.attack import Attack
from data_owner.attacks.battery import Battery
from data_owner.attacks.outcome import LEAST_TRIALS, SMALL_GROUPS, Result, group_part
from data_owner.attacks.search import Released
from data_owner.attacks.targets import Targets, draw
from data_owner.records.disclosure import disclose
from data_owner.records.ingest import ingest
from data_owner.reports.privacy_report import _parts
from data_owner.settings import AttackLimits
from shared.codec import encode
from shared.schema import Schema
from tests.conftest import patients, settings_for, with_merged_groups
from tests.overfitted import LABORATORY, by_heart, laboratory_patients

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
    count, times, draw_ = 4000, 25, np.random.default_rng(seed)
    shares = np.array(frequencies) / sum(frequencies)
    told, false = np.mean(
        [
            score.called_members(*draw_.choice(len(shares), (2, count), p=shares) * 1.0, rate, draw_)
            for _ in range(times)
        ],
        axis=(0, 2),
    )
    rank = int(rate * count / 2) + 1  # of the threshold, from above, among a half of the control records
    chance = 6.0 * 2.0 * rank**0.5 / count / times**0.5
    for found in (told, false):
        assert found == pytest.approx(rank / (count / 2 + 1), abs=chance)


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


# own group against another

Attacked = tuple[Released, Targets]


@pytest.fixture(scope="module")
def small_group() -> Attacked:
    """A release of 490 patients, 25 of the east, trained too long. Whom few values were measured of is easy to say."""
    table = laboratory_patients(1200, seed=0)
    measured = np.random.default_rng(0).integers(0, LABORATORY + 1, (len(table), 1))
    values = [name for name in table if name.startswith("laboratory")]
    table[values] = table[values].where(np.arange(LABORATORY) < measured)
    east = table.index[table["région"] == "east"]
    table = table.drop(index=[row for row in east if row < 600][25:])
    schema, table = disclose(ingest(table, settings_for(table)), 10)
    training, held_out = table.iloc[:-600], table.iloc[-600:]
    return Released.of(by_heart(schema, training, steps=200)), draw(schema, training, held_out, seed=0)


def over_the_limit(*results: Result) -> set[str]:
    """Parts on which they succeed."""
    found = attack_gate.exceeding(Battery(release="r", results=results), AttackLimits())
    return {outcome.part for _, outcome in found}


def test_members_of_a_small_group_are_told_by_what_its_weights_know_and_not_by_the_raw_score(
    small_group: Attacked,
) -> None:
    found = reconstruction.attack(*small_group, seed=0)
    by_group = [result for result in found if result.aim.startswith(reconstruction.BY_GROUP)]
    assert over_the_limit(*(result for result in found if result not in by_group)) == set()
    assert "group east" in over_the_limit(*by_group)


def test_of_a_decoder_to_which_all_groups_are_alike_nobody_is_told_by_group(small_group: Attacked) -> None:
    released, targets = small_group
    alike = replace(released, decoder=deepcopy(released.decoder))
    with torch.no_grad():
        next(alike.decoder.body.parameters())[:, released.statistics.latent :] = 0.0
    by_group = reconstruction.attack(alike, targets, seed=0)[2:]
    assert over_the_limit(*by_group) == set()
    assert max(result.overall.main.share for result in by_group) < 0.02


def test_nobody_is_put_into_her_own_group_and_everybody_into_one_of_the_two_largest() -> None:
    _, schema, table = with_merged_groups()
    records = encode(schema, table)
    sizes = torch.bincount(records.group)
    other = reconstruction.in_another_group(schema, records)
    assert len(schema.sensitive) == 2
    assert not (other.group == records.group).any()
    largest, second = sizes.argsort(descending=True)[:2].tolist()
    assert set(other.group[records.group != largest].tolist()) == {largest}
    assert set(other.group[records.group == largest].tolist()) == {second}


# small groups


def with_islands(*sizes: int) -> tuple[Schema, pd.DataFrame, pd.DataFrame]:
    """200 members and 200 others of three regions, and of each of some islands as many of both as `sizes` says."""
    islands = [patients(2 * size, seed=index).assign(région=f"island {index}") for index, size in enumerate(sizes)]
    table = pd.concat([patients(400), *islands], ignore_index=True)
    schema, table = disclose(ingest(table, settings_for(table)), 10)
    return schema, table.iloc[::2], table.iloc[1::2]


def judged(people: Targets) -> Result:
    """By a score that tells the members from islands and nobody else."""
    noise = np.random.default_rng(0)
    member, control = noise.random(len(people.members)), noise.random(len(people.control))
    of_an_island = np.array([group.label.startswith("island") for group in people.schema.groups])
    told = member + of_an_island[people.members.group.numpy()]
    baseline = noise.random(len(member) + len(control))
    found, _ = score.results(Attack.RECONSTRUCTION, people, told, control, baseline, seed=0)
    return found


def test_a_leak_of_groups_too_small_for_lines_of_their_own_is_found_in_one_of_all_of_them() -> None:
    people = draw(*with_islands(7, 8, LEAST_TRIALS), seed=0)
    flags = people.member_parts
    assert (flags[SMALL_GROUPS] == flags[group_part("island 0")] | flags[group_part("island 1")]).all()
    found = judged(people)
    trials = {outcome.part: (outcome.main.trials, outcome.control.trials) for outcome in found.outcomes}
    assert trials[SMALL_GROUPS] == (15, 15)
    assert group_part("island 2") in trials
    assert not {group_part("island 0"), group_part("island 1")} & set(trials)
    assert SMALL_GROUPS in over_the_limit(found)


def test_a_group_is_small_on_both_sides_or_on_neither_also_where_half_of_the_control_is_kept_back() -> None:
    people = draw(*with_islands(15), seed=0)
    island = group_part("island 0")
    assert not people.member_parts[SMALL_GROUPS].any()
    _, fewer = people.with_reference()
    assert fewer.member_parts[island].sum() == 15 > LEAST_TRIALS > fewer.control_parts[island].sum()
    assert (fewer.member_parts[SMALL_GROUPS] == fewer.member_parts[island]).all()
    assert (fewer.control_parts[SMALL_GROUPS] == fewer.control_parts[island]).all()


def test_conditions_behind_which_a_small_group_is_are_judged_together_too() -> None:
    schema, members, control = with_islands(9, 9)
    (found,) = singling_out.attack(schema, members, control, members, 0)
    trials = {outcome.part: outcome.main.trials for outcome in found.outcomes}
    assert trials[SMALL_GROUPS] >= LEAST_TRIALS
    assert not any("island" in part for part in trials)


@pytest.mark.parametrize(
    ("sizes", "named"),
    [
        ((6, 6), [("island 0", "reconstruction", ""), ("island 1", "reconstruction", "")]),
        ((6,), [("island 0", "", "reconstruction")]),
        ((LEAST_TRIALS,), []),
    ],
)
def test_the_page_names_groups_that_were_not_judged_on_their_own_or_not_at_all(
    sizes: tuple[int, ...], named: list[tuple[str, str, str]]
) -> None:
    people = draw(*with_islands(*sizes), seed=0)
    found = Battery(release="r", results=(judged(people),))
    card = SimpleNamespace(groups=people.schema.groups)
    _, *tables = _parts(SimpleNamespace(battery=found, limits=AttackLimits(), card=card)).tables  # type: ignore[arg-type]
    assert [row for table in tables for row in table.rows] == named
