"""What an attack's counts mean: known answers, and oracles where a slow correct version exists."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.stats import binom

from data_owner import attack_gate
from data_owner.attacks import canaries, score
from data_owner.attacks.attack import AT_EVERY_GATE, Attack
from data_owner.attacks.battery import Battery
from data_owner.attacks.canaries import epsilon_lower_bound, p_value
from data_owner.attacks.membership import Shadows, likelihood_ratios
from data_owner.attacks.outcome import EVERYONE, Audit, Guesses, Outcome, Rate, Result, outcomes
from data_owner.attacks.run import at_every_gate
from data_owner.attacks.search import Released, log_likelihood, search
from data_owner.attacks.targets import RAREST, draw, features, rarest
from data_owner.learning import fitting
from data_owner.learning.teacher import Losses, Teacher
from data_owner.learning.training import Trained, latent_statistics
from data_owner.reports.privacy_words import MEANING
from data_owner.settings import AttackLimits
from protocol.artefacts import Artefact
from shared.card import AttackVerdict
from shared.codec import Encoded, encode
from shared.errors import BadInput
from shared.schema import Schema
from tests.conftest import QUICK, settings_for

Disclosed = tuple[Schema, pd.DataFrame]


def outcome(main: tuple[int, int], control: tuple[int, int], baseline: tuple[int, int] = (0, 100)) -> Outcome:
    rates = [Rate(successes=right, trials=of) for right, of in (main, control, baseline)]
    return Outcome(part=EVERYONE, main=rates[0], control=rates[1], baseline=rates[2])


# rates and risks


@pytest.mark.parametrize(
    ("right", "of", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_intervals_are_the_published_ones(right: int, of: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17:857 (1998), table I, method 3."""
    assert Rate(successes=right, trials=of).interval == pytest.approx((low, high), abs=6e-5)


def test_the_risk_is_what_main_has_beyond_control_of_what_was_left() -> None:
    assert outcome((60, 100), (20, 100)).risk == pytest.approx(0.5)
    assert outcome((20, 100), (20, 100)).risk == 0.0
    assert outcome((50, 100), (100, 100)).risk == 0.0, "nothing was left"
    assert outcome((0, 0), (0, 0)).risk_interval == (-1.0, 1.0), "nothing was tried"
    low, high = outcome((60, 100), (20, 100)).risk_interval
    assert 0.3 < low < 0.5 < high < 0.65


def test_fishers_test_is_the_lady_tasting_tea() -> None:
    assert outcome((3, 4), (1, 4)).p_value == pytest.approx(17 / 70)
    assert outcome((4, 4), (0, 4)).p_value == pytest.approx(1 / 70)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 400), st.integers(0, 400), st.data())
def test_an_interval_holds_its_risk(trials: int, controls: int, data: st.DataObject) -> None:
    found = outcome((data.draw(st.integers(0, trials)), trials), (data.draw(st.integers(0, controls)), controls))
    low, high = found.risk_interval
    assert low - 1e-9 <= found.risk <= high + 1e-9
    assert -1.0 <= low <= high <= 1.0


def test_a_rate_of_more_than_all_is_refused() -> None:
    with pytest.raises(ValidationError):
        Rate(successes=3, trials=2)


def test_parts_are_counted_apart_and_the_smallest_left_out() -> None:
    right = np.array([True] * 30 + [False] * 70)
    parts = {"few": np.arange(100) < 9, "first": np.arange(100) < 30}
    guesses = Guesses(right, parts)
    everyone, first = outcomes(guesses, guesses, guesses)
    assert (everyone.part, everyone.main.share) == (EVERYONE, 0.3)
    assert (first.part, first.main) == ("first", Rate(successes=30, trials=30))


# who is called a member

SCORES = st.lists(st.floats(-5, 5), min_size=4, max_size=200).map(np.array)


@settings(max_examples=100, deadline=None)
@given(SCORES, st.sampled_from([0.001, 0.01, 0.1]))
def test_a_threshold_lets_no_more_control_records_pass_than_the_rate(control: np.ndarray, rate: float) -> None:
    assert (control > score.threshold(control, rate)).sum() <= rate * len(control)


def test_members_are_called_by_scores_alone() -> None:
    draw_ = np.random.default_rng(0)
    control = draw_.normal(size=2000)
    told, false = score.called_members(draw_.normal(6.0, 1.0, 2000), control, 0.01, draw_)
    assert told.mean() > 0.98
    assert false.mean() < 0.02
    told, false = score.called_members(draw_.normal(size=2000), control, 0.01, draw_)
    assert told.mean() < 0.02


def test_members_are_those_whom_weights_were_learned_from(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, settings_, seen = fitting.split(table, settings_for(table)), settings_for(table).training, set()
    losses = Teacher.losses

    def watched(self: Teacher, records: Encoded, generator: torch.Generator | None = None) -> Losses:
        if self.training:
            seen.update(map(tuple, records.low.tolist()))
        return losses(self, records, generator)

    monkeypatch.setattr(Teacher, "losses", watched)
    fitting.fit(prepared, settings_, QUICK)
    members = encode(prepared.schema, prepared.learned(settings_.seed))
    assert seen == set(map(tuple, members.low.tolist()))
    assert len(members) == 432, "of 480"


def test_a_record_that_no_shadow_saw_is_no_likelier_a_member() -> None:
    saw = np.array([[True, False, False], [False, True, False]])
    ratio = likelihood_ratios(np.zeros(3), Shadows(np.arange(6.0).reshape(2, 3), saw))
    assert np.isfinite(ratio).all()
    assert ratio[2] == 0.0


@pytest.mark.parametrize("pairs", [1, 4])
def test_likelihood_ratios_tell_who_was_seen(pairs: int) -> None:
    draw_ = np.random.default_rng(0)
    saw = np.arange(2 * pairs)[:, None] % 2 == (np.arange(600) % 2)[None, :]
    saw &= draw_.random(saw.shape) < 0.9  # a tenth of what a shadow was given only chose its last step
    hardness = draw_.normal(0.0, 20.0, 600)
    gain = 6.0
    scores = hardness + gain * saw + draw_.normal(0.0, 1.0, saw.shape)
    member = draw_.random(600) < 0.5
    # the attacked release explains everyone 100 better: it was trained on more
    ratio = likelihood_ratios(100.0 + hardness + gain * member + draw_.normal(size=600), Shadows(scores, saw))
    told = saw.any(0)
    assert ((ratio > 0.0) == member)[told].mean() > 0.95
    assert np.abs(ratio).max() < 1e3, "no spread is taken from records that one shadow alone saw"


# the search


@pytest.fixture(scope="module")
def released(disclosed: Disclosed) -> tuple[Teacher, Released]:
    schema, table = disclosed
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        teacher = Teacher(schema, QUICK).eval()
    statistics = latent_statistics(teacher, encode(schema, table), 0)
    return teacher, Released(schema, teacher.decoder, Trained(teacher, statistics, ()).statistics)


def test_columns_likelihoods_add_up_to_the_teachers_losses(
    released: tuple[Teacher, Released], disclosed: Disclosed
) -> None:
    teacher, found = released
    records = encode(*disclosed)
    mean, variance = teacher.posterior(records)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(1))
    losses = teacher.losses(records, torch.Generator().manual_seed(1))
    columns = log_likelihood(found, mean + variance.sqrt() * noise, records)
    assert columns.shape == (len(records), len(found.schema.features) + 1)
    torch.testing.assert_close(-columns.sum(1).mean(), losses.reconstruction + losses.target)


def test_the_search_climbs_and_what_is_unknown_does_not_steer_it(
    released: tuple[Teacher, Released], disclosed: Disclosed
) -> None:
    _, found = released
    records = encode(*disclosed)[torch.arange(100)]
    strata = found.statistics.strata
    centre = strata.mean[records.target]
    joint = log_likelihood(found, centre, records).sum(1) + strata.log_density(centre)
    best = search(found, records)
    assert (best.joint >= joint - 1e-3).float().mean() > 0.95
    nothing = search(found, records, torch.zeros(100, best.fit.shape[1], dtype=torch.bool)).z
    torch.testing.assert_close(nothing, nothing[:1].expand_as(nothing))


def test_targets_have_groups_and_a_tenth_that_is_rarest(disclosed: Disclosed) -> None:
    schema, table = disclosed
    far = table.copy()
    found = draw(schema, far.iloc[:400], far.iloc[400:], seed=0)
    rare = np.concatenate([found.member_parts[RAREST], found.control_parts[RAREST]])
    assert rare.mean() == pytest.approx(0.1, abs=0.01)
    groups = np.stack([flags for part, flags in found.member_parts.items() if part.startswith("group")])
    assert (groups.sum(0) == 1).all()
    points = np.concatenate([features(schema, part) for part in (found.members, found.control)])
    centre = np.linalg.norm(points - points.mean(0), axis=1)
    assert centre[rare].mean() > centre[~rare].mean()


def test_who_has_equals_all_around_is_not_rare() -> None:
    points = np.zeros((1000, 4))
    points[:30] = np.random.default_rng(0).normal(5.0, 1.0, (30, 4))
    assert rarest(points).sum() == 30
    assert not rarest(np.zeros((1000, 4))).any()


@pytest.mark.parametrize("kept", [["ward", "ventilated"], ["age", "days in ward"], ["ventilated"]])
def test_tables_of_one_kind_of_column_are_attacked_too(table: pd.DataFrame, kept: list[str]) -> None:
    small = table[[*kept, "région", "died"]].iloc[:150]
    prepared = fitting.split(small, settings_for(small))
    records = encode(prepared.schema, prepared.training)
    teacher = Teacher(prepared.schema, QUICK).eval()
    statistics = latent_statistics(teacher, records, 0)
    artefacts = fitting.artefacts(prepared.schema, Trained(teacher, statistics, ()))
    told: list[str] = []

    def progress(step: int, total: int, message: str) -> None:
        told.append(message)

    found = at_every_gate(artefacts, prepared.training, prepared.training, prepared.held_out, 0, progress)
    assert all("after measuring" in each for each in told), "a gate begins to count anew"
    assert found.made == {*AT_EVERY_GATE, Attack.NEAREST_RECORD}


# canaries


def hash_rows(rows: pd.DataFrame) -> list[int]:
    return pd.util.hash_pandas_object(rows, index=False).tolist()


@pytest.mark.parametrize("guesses", [10, 20, 100])
def test_all_guesses_right_refute_the_epsilon_of_the_closed_form(guesses: int) -> None:
    """P(all of r right) = (e^ε / (e^ε + 1))^r = 5 %."""
    chance = 0.05 ** (1.0 / guesses)
    assert epsilon_lower_bound(1000, guesses, guesses, 0.0) == pytest.approx(
        math.log(chance / (1.0 - chance)), abs=1e-6
    )


def test_half_of_the_guesses_right_refute_nothing() -> None:
    assert epsilon_lower_bound(1000, 100, 50, 1e-5) == 0.0


@pytest.mark.parametrize(("correct", "epsilon"), [(60, 0.5), (75, 1.0), (90, 2.0)])
def test_the_p_value_is_the_theorem_written_out(correct: int, epsilon: float) -> None:
    """Steinke et al. 2023, theorem 5.2: β + α·2mδ with α the largest of Σ_{j=1..i} P(W = v - j) / i."""
    canaries_, guesses, delta = 200, 100, 1e-4
    chance = math.exp(epsilon) / (1.0 + math.exp(epsilon))
    beta = sum(binom.pmf(each, guesses, chance) for each in range(correct, guesses + 1))
    alpha = max(
        sum(binom.pmf(correct - each, guesses, chance) for each in range(1, size + 1)) / size
        for size in range(1, correct + 1)
    )
    expected = beta + 2 * canaries_ * delta * alpha
    assert p_value(canaries_, guesses, correct, epsilon, delta) == pytest.approx(expected)


def test_the_bound_holds_for_a_mechanism_whose_epsilon_is_known() -> None:
    """Randomised response at ε = 1, audited 200 times: the bound exceeds 1 in at most 5 % of audits, by much less."""
    draw_ = np.random.default_rng(0)
    chance = math.e / (1.0 + math.e)
    bounds = [epsilon_lower_bound(200, 200, int(draw_.binomial(200, chance)), 0.0) for _ in range(200)]
    assert np.mean(np.array(bounds) > 1.0) <= 0.08
    assert np.median(bounds) > 0.6, "and it is not empty"


def test_canaries_are_rows_that_nobody_has(disclosed: Disclosed) -> None:
    _, table = disclosed
    planted = canaries.plant(table, 600, ["région"], seed=0)
    assert len(planted.rows) == 60
    assert 15 < planted.inside.sum() < 45
    kept = {tuple(map(str, row)) for row in table.to_numpy()}
    assert not any(tuple(map(str, row)) in kept for row in planted.rows.to_numpy())


def test_canaries_are_of_joint_groups_that_somebody_is_in() -> None:
    table = pd.DataFrame({"sex": list("ab") * 50, "race": list("cd") * 50, "age": range(100)})
    planted = canaries.plant(table, 600, ["sex", "race"], seed=0).rows
    assert set(zip(planted["sex"], planted["race"], strict=True)) == {("a", "c"), ("b", "d")}


def test_weights_are_learned_from_every_canary_that_is_planted(
    table: pd.DataFrame, artefacts: dict[Artefact, bytes]
) -> None:
    prepared, given = fitting.split(table, settings_for(table)), []

    def train(records: pd.DataFrame, seed: int) -> dict[Artefact, bytes]:
        given.append(dataclasses.replace(prepared, training=records))
        return artefacts

    few = prepared.held_out.iloc[:20]
    canaries.audit(Released.of(artefacts), train, prepared.training, few, seed=0)
    planted = canaries.plant(few, len(prepared.training), ["région"], seed=0)
    inside = set(hash_rows(planted.rows[planted.inside]))
    assert inside <= set(hash_rows(given[0].learned(0)))
    assert sorted(hash_rows(given[0].training)) == sorted(
        [*hash_rows(prepared.training), *hash_rows(planted.rows[planted.inside])]
    )


def test_a_larger_delta_refutes_less() -> None:
    inside = np.arange(400) % 2 == 0
    gain = np.where(inside, 1.0, 0.0) + np.linspace(0, 0.1, 400)
    strict, loose = canaries.judge(gain, inside, 1e-5), canaries.judge(gain, inside, 1e-3)
    assert (strict.delta, loose.delta) == (1e-5, 1e-3)
    assert loose.epsilon < strict.epsilon


def test_the_surest_canaries_are_guessed() -> None:
    inside = np.arange(100) % 2 == 0
    found = canaries.judge(np.where(inside, 1.0, 0.0) + np.linspace(0, 0.1, 100), inside)
    assert (found.canaries, found.guesses, found.correct) == (100, 50, 50)


# verdicts


def battery_of(*found: Outcome, audit: Audit | None = None) -> Battery:
    result = Result(attack=Attack.RECONSTRUCTION, aim="a rate", outcomes=found)
    return Battery(release="r", results=(result,), audit=audit)


LEAKS, HOLDS, UNSURE = outcome((60, 100), (5, 100)), outcome((10, 2000), (10, 2000)), outcome((1, 20), (0, 20))
FEW, FEW_OTHERS = outcome((0, 49), (20, 2000)), outcome((0, 2000), (0, 49))


@pytest.mark.parametrize(("found", "word"), [(LEAKS, "succeeded"), (HOLDS, "resisted"), (UNSURE, "inconclusive")])
def test_a_verdict_is_one_word(found: Outcome, word: str) -> None:
    (said,) = attack_gate.verdicts(battery_of(found), AttackLimits())
    assert said.model_dump() == {"attack": "reconstruction", "finding": word}
    assert bool(attack_gate.exceeded(battery_of(found), AttackLimits())) is (word == "succeeded")


def test_one_group_that_falls_blocks_for_all() -> None:
    found = battery_of(HOLDS, LEAKS.model_copy(update={"part": "group north"}))
    (reason,) = attack_gate.exceeded(found, AttackLimits())
    assert "group north" in reason
    assert attack_gate.verdicts(found, AttackLimits())[0].finding == "succeeded"


def test_chance_among_many_parts_does_not_block() -> None:
    once = outcome((5, 40), (0, 40))
    assert once.p_value < 0.05
    assert once.risk > 0.05
    many = battery_of(HOLDS, *(once.model_copy(update={"part": f"group {index}"}) for index in range(9)))
    assert attack_gate.exceeded(many, AttackLimits()) == ()


def test_what_the_gate_found_does_not_hang_on_whether_shadow_releases_were_made() -> None:
    part = outcome((11, 60), (1, 60)).model_copy(update={"part": "group small"})
    gate = battery_of(HOLDS, *(HOLDS.model_copy(update={"part": f"group {index}"}) for index in range(9)), part)
    flat = Result(attack=Attack.MEMBERSHIP, aim="a rate", outcomes=(HOLDS,) * 12)
    more = gate.model_copy(update={"results": (*gate.results, flat), "shadows": 16})
    assert attack_gate.exceeded(gate, AttackLimits()) == attack_gate.exceeded(more, AttackLimits()) != ()
    resisted = AttackVerdict(attack=Attack.MEMBERSHIP.words, finding="resisted")
    assert attack_gate.verdicts(more, AttackLimits()) == (*attack_gate.verdicts(gate, AttackLimits()), resisted)


def test_an_attack_was_not_resisted_where_a_part_is_above_the_limit_but_for_what_other_attacks_tried() -> None:
    part = outcome((12, 49), (2, 49)).model_copy(update={"part": "group small"})
    others = Result(attack=Attack.DENSITY_RATIO, aim="a rate", outcomes=(HOLDS,) * 30)
    found = battery_of(HOLDS, *(HOLDS.model_copy(update={"part": f"group {index}"}) for index in range(5)), part)
    found = found.model_copy(update={"results": (*found.results, others)})
    assert attack_gate.exceeded(found, AttackLimits()) == ()
    assert [each.finding for each in attack_gate.verdicts(found, AttackLimits())] == ["inconclusive", "resisted"]


def test_too_few_shadow_releases_do_not_clear_membership() -> None:
    def said(shadows: int, found: Outcome) -> str:
        result = Result(attack=Attack.MEMBERSHIP, aim="a rate", outcomes=(found,))
        battery = Battery(release="r", results=(result,), shadows=shadows)
        return attack_gate.verdicts(battery, AttackLimits())[0].finding

    assert [said(2, HOLDS), said(16, HOLDS), said(2, LEAKS)] == ["inconclusive", "resisted", "succeeded"]


def test_a_policy_may_refuse_what_is_inconclusive() -> None:
    (reason,) = attack_gate.exceeded(battery_of(UNSURE), AttackLimits(inconclusive="refuse"))
    assert "not shown to be within" in reason


def test_where_control_left_nothing_to_know_nothing_was_resisted() -> None:
    found = outcome((60, 60), (52, 52))
    assert (found.risk, found.risk_interval) == (0.0, (-1.0, 1.0))
    assert attack_gate.verdicts(battery_of(found), AttackLimits())[0].finding == "inconclusive"


@pytest.mark.parametrize("found", [FEW, FEW_OTHERS])
def test_what_could_hardly_be_tried_was_not_resisted(found: Outcome) -> None:
    limits = AttackLimits(reconstruction=0.1)
    assert found.risk_interval[1] < limits.reconstruction
    assert attack_gate.verdicts(battery_of(found), limits)[0].finding == "inconclusive"


def test_a_risk_that_is_above_the_limit_as_measured_is_named_though_chance_may_explain_it() -> None:
    above = outcome((2, 20), (0, 20))
    found = battery_of(above)
    assert above.risk > AttackLimits().reconstruction
    assert attack_gate.verdicts(found, AttackLimits())[0].finding == "inconclusive"
    assert attack_gate.above_as_measured(found, AttackLimits()) == ((found.results[0], above),)
    assert attack_gate.above_as_measured(found, AttackLimits(reconstruction=0.2)) == ()
    assert "Within" not in MEANING["inconclusive"]


def test_nearest_record_is_never_judged() -> None:
    result = Result(attack=Attack.NEAREST_RECORD, aim="a rate", outcomes=(LEAKS,))
    found = Battery(release="r", results=(result,))
    assert attack_gate.verdicts(found, AttackLimits()) == ()
    assert attack_gate.exceeded(found, AttackLimits()) == ()


def test_canaries_beyond_the_limit_block() -> None:
    audit = Audit(canaries=100, guesses=50, correct=50, delta=1e-5, epsilon=2.7, refutable=2.7)
    (reason,) = attack_gate.exceeded(battery_of(HOLDS, audit=audit), AttackLimits(canary_epsilon=1.0))
    assert "2.70" in reason
    assert attack_gate.exceeded(battery_of(HOLDS, audit=audit), AttackLimits(canary_epsilon=3.0)) == ()


@pytest.mark.parametrize(
    ("count", "limit", "finding"),
    [(400, 1.0, "resisted"), (40, 1.0, "inconclusive"), (400, 5.0, "inconclusive"), (400, 0.2, "inconclusive")],
)
def test_canaries_that_could_not_have_refuted_the_limit_or_hardly_were_guessed_say_nothing_of_it(
    count: int, limit: float, finding: str
) -> None:
    inside = np.arange(count) % 4 < 2
    audit = canaries.judge(np.arange(count) % 2 + np.linspace(0, 0.1, count), inside)
    assert audit.epsilon == 0.0, "as good as a coin"
    (verdict,) = attack_gate.verdicts(Battery(release="r", results=(), audit=audit), AttackLimits(canary_epsilon=limit))
    assert verdict.finding == finding


@pytest.mark.parametrize(("correct", "finding"), [(190, "inconclusive"), (150, "resisted"), (250, "succeeded")])
def test_canaries_are_resisted_where_chance_does_not_explain_more_than_the_limit(correct: int, finding: str) -> None:
    """Of 250 guesses the limit of ε = 1 allows 73.1 %, 183."""
    found = epsilon_lower_bound(500, 250, correct, 1e-5)
    audit = Audit(canaries=500, guesses=250, correct=correct, delta=1e-5, epsilon=found, refutable=4.0)
    (verdict,) = attack_gate.verdicts(Battery(release="r", results=(), audit=audit), AttackLimits(canary_epsilon=1.0))
    assert verdict.finding == finding


def test_canaries_that_all_gain_as_much_are_not_guessed() -> None:
    audit = canaries.judge(np.zeros(400), np.arange(400) < 200)
    assert (audit.guesses, audit.refutable) == (0, 0.0)
    (verdict,) = attack_gate.verdicts(Battery(release="r", results=(), audit=audit), AttackLimits())
    assert verdict.finding == "inconclusive"


def test_a_required_membership_attack_has_as_many_shadow_releases_as_tell() -> None:
    limits = AttackLimits(required=(Attack.MEMBERSHIP,))
    made = Battery(release="r", results=(Result(attack=Attack.MEMBERSHIP, aim="a rate", outcomes=(HOLDS,)),))
    (said,) = attack_gate.missing(made.model_copy(update={"shadows": 2}), limits)
    assert "16 shadow releases" in said
    assert attack_gate.missing(made.model_copy(update={"shadows": 16}), limits) == ()


def test_an_attack_nobody_made_is_missing() -> None:
    said = attack_gate.missing(battery_of(HOLDS), AttackLimits())
    assert len(said) == len(AT_EVERY_GATE) - 1


@pytest.mark.parametrize("data", [b"", b"{}", b'{"release": "r", "results": [{}]}'])
def test_findings_that_are_none_are_refused_by_name(data: bytes) -> None:
    with pytest.raises(BadInput, match="gate"):
        Battery.from_bytes(data)


def test_findings_come_back_as_they_were_kept() -> None:
    found = battery_of(LEAKS, audit=Audit(canaries=9, guesses=2, correct=1, delta=0.0, epsilon=0.0, refutable=0.0))
    assert Battery.from_bytes(found.to_bytes()) == found
