"""Attacks on columns: what is guessed, linked and singled out, and that chance is the same for members and control."""

import dataclasses
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from data_owner import attack_gate
from data_owner.attacks import attribute_inference, linkability, singling_out
from data_owner.attacks.battery import Battery
from data_owner.attacks.outcome import Flags, Floats, Rate
from data_owner.attacks.search import Released
from data_owner.attacks.targets import draw
from data_owner.records.disclosure import disclose
from data_owner.records.ingest import ingest
from data_owner.settings import AttackLimits
from protocol.artefacts import Artefact
from shared.codec import Encoded, encode
from shared.schema import Schema
from tests.conftest import patients, settings_for
from tests.overfitted import laboratory_patients

Disclosed = tuple[Schema, pd.DataFrame]


def test_a_secret_column_is_never_a_missing_number(disclosed: Disclosed) -> None:
    schema, table = disclosed
    records = encode(schema, table)
    secret = attribute_inference.draw_secrets(records, torch.Generator().manual_seed(0))
    numeric = records.absent.shape[1]
    is_number = secret < numeric
    assert not records.absent[is_number, secret[is_number]].any()
    assert set(secret.tolist()) == set(range(len(schema.features))), "the target is asked of everyone beside"


def test_a_leak_of_one_column_succeeds_though_few_are_asked_for_it(
    artefacts: dict[Artefact, bytes], disclosed: Disclosed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A release that knows one column of its members by heart, and of the others what is commonest."""
    released = Released.of(artefacts)
    people = draw(released.schema, disclosed[1].iloc[:300], disclosed[1].iloc[300:], seed=0)

    def leak(column: int) -> Battery:
        def guess(_: Released, records: Encoded, secret: torch.Tensor) -> torch.Tensor:
            return (secret == column) & torch.full((len(records),), records is people.members)

        monkeypatch.setattr(attribute_inference, "guess", guess)
        return Battery(release="r", results=attribute_inference.attack(released, people, 0))

    columns = len(released.schema.features)
    for column, part in ((columns, "everyone"), (0, "column "), (columns - 1, "column ")):
        over = attack_gate.exceeding(leak(column), AttackLimits())
        assert any(outcome.part.startswith(part) and outcome.risk == 1.0 for _, outcome in over)
    assert attack_gate.exceeding(leak(-1), AttackLimits()) == ()


def test_all_but_the_secret_is_known_to_who_guesses_it(
    artefacts: dict[Artefact, bytes], disclosed: Disclosed, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, records, asked = Released.of(artefacts), encode(*disclosed), []

    def search(released: Released, records: Encoded, known: torch.Tensor) -> SimpleNamespace:
        asked.append(known)
        return SimpleNamespace(z=torch.zeros(len(records), released.statistics.latent))

    monkeypatch.setattr(attribute_inference, "search", search)
    secret = attribute_inference.draw_secrets(records, torch.Generator().manual_seed(0))
    attribute_inference.guess(released, records, secret)
    (known,) = asked
    assert not known.gather(1, secret.unsqueeze(1)).any()
    assert (known.sum(1) == known.shape[1] - 1).all()


def test_who_has_nothing_but_missing_numbers_is_asked_for_the_target(disclosed: Disclosed) -> None:
    records = encode(*disclosed)
    nothing = dataclasses.replace(records, absent=torch.ones_like(records.absent), levels=records.levels[:, :0])
    secret = attribute_inference.draw_secrets(nothing, torch.Generator().manual_seed(0))
    assert (secret == records.absent.shape[1]).all()


def test_the_commonest_guess_is_right_as_often_as_the_commonest_class(disclosed: Disclosed) -> None:
    schema, table = disclosed
    records = encode(schema, table)
    target = torch.full((len(records),), len(schema.features))
    right = attribute_inference.guess_commonest(schema, records, records, target)
    assert float(right.float().mean()) == pytest.approx(table["died"].value_counts(normalize=True).max())


def test_candidates_are_nine_other_people_of_the_same_group(disclosed: Disclosed) -> None:
    records = encode(*disclosed)
    decoys = linkability._decoys(records, torch.Generator().manual_seed(0))
    assert (decoys != torch.arange(len(records)).unsqueeze(1)).all()
    assert all(len(set(row)) == linkability.CANDIDATES - 1 for row in decoys.tolist())
    assert (records.group[decoys] == records.group.unsqueeze(1)).all()


def test_who_is_explained_best_by_her_own_other_file_is_linked(
    artefacts: dict[Artefact, bytes], disclosed: Disclosed, monkeypatch: pytest.MonkeyPatch
) -> None:
    released, records = Released.of(artefacts), encode(*disclosed)
    own = dataclasses.replace(records, score=torch.arange(len(records)).float().unsqueeze(1))

    def fit(released: Released, z: torch.Tensor, records: Encoded, known: torch.Tensor) -> torch.Tensor:
        return -(z - records.score).abs().expand(-1, len(released.schema.features) + 1)

    monkeypatch.setattr(linkability, "search", lambda released, records, known: SimpleNamespace(z=records.score))
    monkeypatch.setattr(linkability, "log_likelihood", fit)
    known, linked = torch.tensor([0]), torch.tensor([1])
    assert linkability.link(released, own, known, linked, torch.Generator().manual_seed(0)).all()


def some_of_a_group(records: pd.DataFrame, count: int) -> pd.DataFrame:
    """`count` patients of the east, and all others."""
    east = records["région"] == "east"
    return pd.concat([records[~east], records[east].iloc[:count]])


@pytest.mark.parametrize("count", [3, 9, 10])
def test_who_has_fewer_than_nine_others_to_be_confused_with_is_not_linked(
    artefacts: dict[Artefact, bytes], disclosed: Disclosed, count: int
) -> None:
    released = Released.of(artefacts)
    first, second = disclosed[1].iloc[:400], some_of_a_group(disclosed[1].iloc[400:], count)
    for training, held_out in ((first, second), (second, first)):
        people = draw(released.schema, training, held_out, seed=0)
        (found,) = linkability.attack(released, people, 0)
        told = len(people.members) - (0 if count == 10 else int((training["région"] == "east").sum()))
        assert found.overall.main.trials == told
        assert any("east" in each.part for each in found.outcomes) is (count == 10)


def test_linking_nobody_is_inconclusive(artefacts: dict[Artefact, bytes], disclosed: Disclosed) -> None:
    released = Released.of(artefacts)
    people = draw(released.schema, disclosed[1].iloc[:12], disclosed[1].iloc[12:24], seed=0)
    found = linkability.attack(released, people, 0)
    assert found[0].overall.main.trials == 0
    (said,) = attack_gate.verdicts(Battery(release="r", results=found), AttackLimits())
    assert said.finding == "inconclusive"


def test_conditions_are_of_different_synthetic_rows_and_hold_for_no_other(disclosed: Disclosed) -> None:
    schema, table = disclosed
    rows = singling_out.values(encode(schema, table.iloc[:300]))
    chosen = singling_out.unique_conditions(rows, schema, np.random.default_rng(0))
    assert len(chosen) > 50
    assert len({row for row, _ in chosen}) == len(chosen)
    for row, columns in chosen[:20]:
        assert np.flatnonzero(singling_out.condition(rows, row, columns, schema)(rows)).tolist() == [row]


def test_nobody_is_singled_out_twice() -> None:
    records = np.array([[0.0], [1.0], [1.0], [2.0]])
    wanted = [0.0, 1.0, 2.0, 0.0, 3.0]
    conditions = [lambda people, value=value: people[:, 0] == value for value in wanted]
    assert singling_out.singled_out(conditions, records).tolist() == [True, False, True, False, False]


def singled_out_of(columns: list[str], synthetic: pd.DataFrame, people: pd.DataFrame, seed: int) -> Battery:
    both = pd.concat([people, synthetic], ignore_index=True)[[*columns, "région", "died"]]
    schema, canonical = disclose(ingest(both, settings_for(both)), 10)
    training, held_out, rows = (
        canonical.iloc[part].reset_index(drop=True)
        for part in np.split(np.arange(len(both)), [len(people) * 4 // 5, len(people)])
    )
    return Battery(release="r", results=singling_out.attack(schema, training, held_out, rows, seed))


@pytest.mark.parametrize("columns", [["age"], ["age", "days in ward", "lactate"]])
def test_rows_of_other_people_single_nobody_out_however_few_the_columns(columns: list[str]) -> None:
    """Each is refused by chance in one of twenty, by its own looks alone: three of ten is one in a hundred."""
    found = [singled_out_of(columns, patients(1250, seed + 50), patients(1250, seed), seed) for seed in range(10)]
    assert sum(bool(attack_gate.exceeding(each, AttackLimits())) for each in found) <= 2
    if columns == ["age"]:  # too few conditions to say that it stood
        assert "resisted" not in {each.finding for one in found for each in attack_gate.verdicts(one, AttackLimits())}


@pytest.mark.parametrize("count", [1250, 12_500])
def test_copies_of_records_single_people_out_of_a_table_of_any_size(count: int) -> None:
    people = laboratory_patients(count, seed=0)
    columns = [name for name in people if name.startswith("laboratory")][:10]
    copies = people.iloc[: count * 4 // 5].sample(frac=1, random_state=0)
    found = singled_out_of(columns, copies, people, seed=0)
    assert attack_gate.exceeding(found, AttackLimits())


def test_what_is_unique_is_sought_among_as_many_rows_as_people(
    disclosed: Disclosed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gate gives fewer synthetic rows than a large table has held out."""
    schema, table = disclosed
    sizes, singled_out = [], singling_out.singled_out

    def counted(conditions: list[Callable[[Floats], Flags]], people: Floats) -> Flags:
        sizes.append(len(people))
        return singled_out(conditions, people)

    monkeypatch.setattr(singling_out, "singled_out", counted)
    singling_out.attack(schema, table.iloc[:300], table.iloc[300:], table.iloc[:100], 0)
    assert set(sizes) == {100}


def test_a_table_without_a_condition_is_inconclusive_and_no_failure_is_made_up(disclosed: Disclosed) -> None:
    schema, table = disclosed
    alike = table.iloc[[0] * 300]
    found = singling_out.attack(schema, table.iloc[:300], table.iloc[300:], alike, 0)
    assert found[0].overall.main == Rate(successes=0, trials=0)
    (said,) = attack_gate.verdicts(Battery(release="r", results=found), AttackLimits())
    assert said.finding == "inconclusive"


def test_records_that_are_all_alike_are_linked_by_chance_alone(
    artefacts: dict[Artefact, bytes], disclosed: Disclosed
) -> None:
    released = Released.of(artefacts)
    alike = encode(released.schema, disclosed[1].iloc[:1])[torch.zeros(600, dtype=torch.long)]
    known, linked = torch.tensor([0, 1]), torch.tensor([2, 3])
    right = linkability.link(released, alike, known, linked, torch.Generator().manual_seed(0))
    assert 0.06 < float(right.float().mean()) < 0.14
