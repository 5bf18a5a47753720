"""Under a budget attacks on people are a rehearsal of the whole mechanism, which no card, gate or analyst hears of."""

from collections.abc import Callable

import pandas as pd
import pytest

from data_owner import attack_gate, attack_steps
from data_owner.attacks import canaries
from data_owner.attacks.attack import AT_EVERY_GATE, Attack
from data_owner.attacks.search import Released
from data_owner.learning import fitting
from data_owner.node import Node
from data_owner.owner_toml import dump, parse
from data_owner.privacy import rehearsal
from data_owner.privacy.accounting import guarantee
from data_owner.privacy.recoding import recoded
from data_owner.records.ingest import Records, read
from data_owner.settings import AttackLimits, OwnerSettings, PrivacySettings
from shared.errors import BadInput, Unreachable
from shared.progress import quiet
from shared.schema import MERGED, CategoricalColumn, NumericColumn
from tests.conftest import patients, settings_for, with_merged_groups
from tests.overfitted import by_heart, laboratory_patients
from tests.test_private_marginals import declared, people, planned

COLUMNS = ["age", "gain", "sex", "died"]
LIMITS = AttackLimits()


def with_policy(settings: OwnerSettings, **changes: object) -> OwnerSettings:
    return settings.model_copy(update={"policy": settings.policy.model_copy(update=changes)})


@pytest.mark.parametrize("attack", [Attack.MEMBERSHIP, Attack.CANARIES])
def test_the_gate_of_a_budget_cannot_require_an_attack_that_nobody_charged(attack: Attack) -> None:
    limits = AttackLimits(required=(*AT_EVERY_GATE, attack))
    text = dump(with_policy(declared(people()[COLUMNS]), attacks=limits))
    with pytest.raises(BadInput, match="nobody charged") as caught:
        parse(text)
    assert caught.value.field == "policy.attacks.required"


def test_a_second_attack_at_once_is_refused_before_it_looks_at_what_was_found(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def meanwhile(*given: object) -> None:
        with pytest.raises(Unreachable, match="another run"):
            attack_steps.attack(node.folder)
        raise InterruptedError

    monkeypatch.setattr(attack_steps, "_attackable", meanwhile)
    with pytest.raises(InterruptedError):
        attack_steps.attack(node.folder)


def test_a_mechanism_that_hands_out_its_records_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: microdata is the records themselves, and the teacher learns them by heart."""
    table = laboratory_patients(250, seed=0).drop(columns="admitted")
    settings = settings_for(table)
    records = read(table, settings)
    prepared = fitting.split(table, settings)
    released = Released.of(by_heart(prepared.schema, prepared.training))
    monkeypatch.setattr(canaries, "LEAST", 200)
    monkeypatch.setattr(rehearsal, "draw", lambda records, settings, asked, progress: records.frame)
    monkeypatch.setattr(rehearsal, "fit", lambda prepared, training, progress: prepared.training)
    monkeypatch.setattr(rehearsal, "artefacts", by_heart)
    asked = planned(people()[COLUMNS], declared(people()[COLUMNS]))
    found = rehearsal.rehearse(
        records, table.index.to_series(), settings, asked, released, PrivacySettings(epsilon=1.0, delta=1e-6), quiet
    )
    assert found.audit is not None
    assert found.audit.delta == 1e-6, "what is refuted is the claim itself"
    assert found.audit.epsilon > guarantee(asked.queries, 1e-6).epsilon, "of the one draw, whatever else was charged"
    claimed = guarantee(asked.queries, 1e-6).epsilon
    reasons = attack_gate.exceeded_on_people(found, LIMITS)
    assert any(f"refute the guarantee of ε = {claimed:.2f}" in reason for reason in reasons)
    assert any("reconstruction" in reason for reason in reasons)


Drawn = Callable[[pd.DataFrame, pd.Series, PrivacySettings], pd.DataFrame]


@pytest.fixture
def drawn_from(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """The rows that a rehearsal draws from, where it stops."""

    def stop(records: Records, *rest: object) -> None:
        raise InterruptedError(records.frame)

    def rows(table: pd.DataFrame, persons: pd.Series, privacy: PrivacySettings) -> pd.DataFrame:
        settings = declared(table)
        asked = planned(table, settings)
        with pytest.raises(InterruptedError) as stopped:
            rehearsal.rehearse(read(table, settings), persons, settings, asked, None, privacy, quiet)  # type: ignore[arg-type]
        return stopped.value.args[0]

    monkeypatch.setattr(rehearsal, "draw", stop)
    return rows


def test_a_canary_is_a_person_with_as_many_rows_as_the_noise_covers(drawn_from: Drawn) -> None:
    table = people(300)[COLUMNS]
    one, three = (
        len(drawn_from(table, table.index.to_series(), PrivacySettings(epsilon=1.0, person="p", rows_per_person=rows)))
        for rows in (1, 3)
    )
    members = 240
    assert three - members == 3 * (one - members) > 0


def test_a_person_with_many_rows_is_member_or_control_and_never_both(
    drawn_from: Drawn, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canaries, "LEAST", 0)
    monkeypatch.setattr(canaries, "SHARE", 0.005)
    table = people(300)[COLUMNS].assign(age=lambda found: 18 + found.index // 6)  # as many rows of an age: a person
    persons = table["age"].map(lambda age: None if age == 20 else f"person {age}")
    planted = 1  # at most, of 240 members
    counts = drawn_from(table, persons, PrivacySettings(epsilon=1.0))["age"].value_counts()
    assert (counts.isin([6, 6 + planted, planted])).all()
    assert len(counts[counts >= 6]) == 40


def test_people_have_the_categories_that_noise_left_or_no_place_at_all() -> None:
    table = patients(300)
    schema = fitting.split(table, settings_for(table)).schema
    name = next(each.name for each in schema.features if isinstance(each, CategoricalColumn))
    records = fitting.split(table, settings_for(table)).training
    strange = records.copy()
    strange.loc[:4, name] = "nobody has this"
    rows, has_place = recoded(schema, strange)
    assert not has_place[:5].any()
    assert has_place[5:].all()
    pd.testing.assert_frame_equal(rows, records.iloc[5:].reset_index(drop=True))


def test_people_have_the_decimals_of_microdata() -> None:
    table = patients(300)
    prepared = fitting.split(table, settings_for(table))
    column = next(
        each for each in prepared.schema.features if isinstance(each, NumericColumn) and each.kind == "number"
    )
    finer = prepared.training.assign(**{column.name: prepared.training[column.name] + 0.04 * 10.0**-column.decimals})
    rows, _ = recoded(prepared.schema, finer)
    pd.testing.assert_frame_equal(rows, prepared.training)


def test_people_of_a_small_group_are_attacked_in_the_merged_one() -> None:
    table, schema, records = with_merged_groups()
    people = records.assign(**{name: table[name].to_numpy() for name in ("région", "sex")})
    rows, has_place = recoded(schema, people)
    assert has_place.all()
    pd.testing.assert_frame_equal(rows[["région", "sex"]], records[["région", "sex"]])
    assert (rows["sex"] == MERGED).sum() == 12
