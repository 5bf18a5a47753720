"""Measuring: whose figures stand where on a card, what the gate counts, and what headlines make of both."""

import dataclasses
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pytest

from data_owner import measure
from data_owner.attacks.attack import AT_EVERY_GATE, Attack
from data_owner.learning import fitting
from data_owner.privacy.statement import on_card
from data_owner.release_gate import checks
from data_owner.reports.owner_report import how_judged, named, owner_report
from data_owner.settings import Policy
from protocol.artefacts import Artefact
from shared.card import AttackFinding, AttackVerdict, Card, Check
from shared.headlines import attack_verdict, score_section, score_verdicts
from shared.metrics import Integers
from shared.report import Report, Verdict
from shared.schema import Schema
from shared.scores import Criterion, Fidelity, Judgement, Scores
from shared.student import StudentSettings
from tests.conftest import settings_for

LEAST_PUBLISHED = 200


class FondOfOriginals:
    """A judge to whom nothing but the training records looks real, and whose models of anything else say positive."""

    protocol, balanced = "fond of originals", True

    def __init__(self, training: pd.DataFrame) -> None:
        self.training = training
        self.tested: list[pd.DataFrame] = []
        self.trained_on: list[pd.DataFrame] = []
        self.real: list[pd.DataFrame] = []

    def test(self, held_out: pd.DataFrame) -> pd.DataFrame:
        self.tested.append(held_out)
        return held_out

    def predict(self, train: pd.DataFrame, test: pd.DataFrame) -> Integers:
        self.trained_on.append(train)
        return np.arange(len(test)) % 2 if train is self.training else np.ones(len(test), np.int64)

    def fidelity(self, real: pd.DataFrame, other: pd.DataFrame) -> Fidelity:
        self.real.append(real)
        share = 1.0 if other is self.training else 0.25
        return Fidelity(density=share, coverage=share)


@pytest.fixture(scope="module")
def prepared(table: pd.DataFrame) -> fitting.Prepared:
    found = fitting.split(table, settings_for(table))
    return dataclasses.replace(found, held_out=found.held_out.iloc[:-3])


@pytest.fixture(scope="module")
def judge(prepared: fitting.Prepared) -> FondOfOriginals:
    return FondOfOriginals(prepared.training)


@pytest.fixture(scope="module")
def measured(
    table: pd.DataFrame, artefacts: dict[Artefact, bytes], prepared: fitting.Prepared, judge: FondOfOriginals
) -> Iterator[measure.Measured]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "judge_for", lambda schema, training, seed: judge)
        patch.setattr(measure, "downstream_rows", lambda records: records)
        patch.setattr(measure, "LEAST_PUBLISHED", LEAST_PUBLISHED)
        found = measure.reference(artefacts, StudentSettings(steps=1))
        yield measure.measure(*found, prepared.training, prepared.held_out, settings_for(table))


@pytest.fixture(scope="module")
def card(measured: measure.Measured) -> Card:
    return measured.card


def test_all_is_measured_on_held_out_records_and_the_model_is_of_rows_balanced_halfway(
    card: Card, judge: FondOfOriginals, prepared: fitting.Prepared, artefacts: dict[Artefact, bytes]
) -> None:
    held_out = prepared.held_out
    assert [each is held_out for each in (*judge.tested, *judge.real)] == [True, True, True]
    synthetic, original = judge.trained_on
    assert original is prepared.training
    synthesiser, _ = measure.reference(artefacts, StudentSettings(steps=1))
    assert synthetic.equals(synthesiser.table(0, len(prepared.training), balanced=True))
    assert not synthetic.equals(synthesiser.table(0, len(prepared.training)))


def test_what_synthetic_rows_do_stands_beside_what_the_originals_do(card: Card) -> None:
    assert (card.synthetic.recall, card.synthetic.demographic_parity_ratio) == (1.0, 1.0)
    assert card.original.recall < 0.8
    assert (card.fidelity.coverage, card.fidelity_ceiling.coverage) == (0.25, 1.0)
    assert "coverage, share of real" in {check.name for check in card.checks if not check.passed}


def test_the_gate_counts_the_smallest_group_and_the_rarest_category(card: Card) -> None:
    group, category, *_ = (check.name for check in card.checks)
    assert group == "records in the smallest sensitive group"
    assert category.startswith("records behind the rarest category")


def test_the_rarest_category_is_that_of_the_fewest_records(disclosed: tuple[Schema, pd.DataFrame]) -> None:
    schema, table = disclosed
    rare = table.assign(ward=np.where(np.arange(len(table)) < 11, "surgery", "medicine"))
    assert measure.rarest_category(schema, rare) == ("ward", 11)


def test_counts_leave_in_tens_and_recorded_rates_to_two_digits(card: Card) -> None:
    assert (card.records, card.held_out) == (480, 120), "of 480 and 117"
    rates = {group.label: group.recorded_rate for group in card.groups}
    assert rates["north"] is not None
    assert rates["north"] == round(rates["north"], 2)
    assert rates["east"] is None


ONE_SIDED = Scores(demographic_parity_ratio=0.9, equalized_odds_ratio=0.4, accuracy=0.8, recall=0.7, f1=0.7)


@pytest.mark.parametrize(("criterion", "level"), [("parity", "good"), ("odds", "bad")])
def test_the_headline_is_of_the_ratio_that_was_aimed_at(card: Card, criterion: Criterion, level: str) -> None:
    best = ONE_SIDED.model_copy(update={"equalized_odds_ratio": 0.9})
    scores = {"criterion": criterion, "synthetic": ONE_SIDED, "ceiling": best, "checks": ()}
    assert score_verdicts(card.model_copy(update=scores))[0].level == level


def headlines(card: Card, synthetic: Scores, *, large: float | None = None) -> tuple[Verdict, ...]:
    """Of a card with that and with good scores beside it, measured between large groups too."""
    best = ONE_SIDED.model_copy(update={"equalized_odds_ratio": 0.9})
    judgement = Judgement(
        synthetic=synthetic,
        original=best,
        ceiling=best,
        floor=ONE_SIDED.model_copy(update={"accuracy": 0.6}),
        fidelity=Fidelity(density=1.0, coverage=1.0),
        fidelity_ceiling=Fidelity(density=1.0, coverage=1.0),
    )
    between = (
        None if large is None else tuple(Scores(**dict.fromkeys(Scores.model_fields, each)) for each in (large, 1.0))
    )
    found = checks(
        Policy(), criterion="parity", smallest_group=None, rarest=None, judged=2, judgement=judgement, large=between
    )
    named = {name: getattr(judgement, name) for name in Judgement.model_fields}
    return score_verdicts(card.model_copy(update={**named, "checks": found}))


def test_a_release_that_is_less_fair_between_large_groups_is_not_called_fair(card: Card) -> None:
    assert headlines(card, ONE_SIDED, large=0.95)[0].level == "good"
    unfair = headlines(card, ONE_SIDED, large=0.88)[0]
    assert unfair.level == "caution"
    assert "as a share of what chance allows it is 1.00, 0.88 between large groups:" in unfair.text


@pytest.mark.parametrize(
    ("name", "of"),
    [
        ("groups with enough held-out records to compare", 0),
        ("demographic parity, share of ceiling", 0),
        ("equalized odds between large groups, share of ceiling", 0),
        ("accuracy, share of original", 1),
        ("F1, share of original", 1),
        ("density, share of real", 2),
        ("coverage, share of real", 2),
    ],
)
def test_what_a_check_of_the_card_refuses_no_headline_calls_good(card: Card, name: str, of: int) -> None:
    best = ONE_SIDED.model_copy(update={"equalized_odds_ratio": 0.9})
    scores = {"synthetic": best, "original": best, "ceiling": best, "fidelity": card.fidelity_ceiling}
    scores["floor"] = best.model_copy(update={"accuracy": 0.6})
    passed = Check(name=name, measured=0.95, required=0.94, passed=True)
    failed = Check(name=name, measured=0.95, required=0.96, passed=False)
    good, refused = (
        score_verdicts(card.model_copy(update={**scores, "checks": (check,)})) for check in (passed, failed)
    )
    assert [each.level for each in good] == ["good"] * 3
    assert [each.level for each in refused] == ["bad" if index == of else "good" for index in range(3)]
    assert refused[of].text == f"{good[of].text} Below what the policy asks for: {name}."


def test_odds_and_cases_that_the_gate_refuses_are_no_good_headlines(card: Card) -> None:
    fair, useful, _ = headlines(card, ONE_SIDED.model_copy(update={"equalized_odds_ratio": 0.1, "f1": 0.12}))
    assert (fair.level, useful.level) == ("bad", "bad")


def test_the_headline_names_the_other_ratio_where_it_was_given_up(card: Card) -> None:
    given_up = "Equalized odds ratio is 0.40, below the 0.90 of the original records."
    assert given_up in headlines(card, ONE_SIDED)[0].text
    kept = ONE_SIDED.model_copy(update={"equalized_odds_ratio": 0.9})
    assert "Equalized odds" not in headlines(card, kept)[0].text


@pytest.mark.parametrize(("chance", "level"), [(0.79, "caution"), (0.8, "good")])
def test_where_chance_allows_little_nothing_is_called_fair(card: Card, chance: float, level: str) -> None:
    scores = ONE_SIDED.model_copy(update={"demographic_parity_ratio": chance})
    update = {"criterion": "parity", "synthetic": scores, "ceiling": scores, "checks": ()}
    fair = score_verdicts(card.model_copy(update=update))[0]
    assert fair.level == level
    assert ("too few are held out to tell" in fair.text) is (level == "caution")


@pytest.mark.parametrize(
    ("findings", "level"), [(("resisted", "resisted"), "good"), (("resisted", "inconclusive"), "caution")]
)
def test_an_attack_that_could_not_tell_is_no_good_news(
    card: Card, findings: tuple[AttackFinding, ...], level: str
) -> None:
    attacks = tuple(
        AttackVerdict(attack=attack.words, finding=finding)
        for attack, finding in zip((Attack.MEMBERSHIP, Attack.LINKABILITY), findings, strict=True)
    )
    said = attack_verdict(card.model_copy(update={"attacks": attacks}))
    assert said.level == level
    assert "two people" not in said.text
    assert "Resisted is what came no further than the owner's limit; a stronger attack may." in said.text
    assert "two people" in attack_verdict(card.model_copy(update={"attacks": attacks, "overridden": True})).text


def test_a_release_that_no_shadow_releases_attacked_is_not_called_resistant(card: Card) -> None:
    attacks = tuple(AttackVerdict(attack=attack.words, finding="resisted") for attack in AT_EVERY_GATE)
    said = attack_verdict(card.model_copy(update={"attacks": attacks}))
    assert said.level == "caution"
    assert said.text.endswith("membership by shadow releases, is not among these.")


def test_a_release_that_does_worse_than_saying_the_commonest_class_is_not_called_useful(card: Card) -> None:
    scores = {name: ONE_SIDED.model_copy(update={"accuracy": each}) for name, each in ACCURACIES.items()}
    useful = score_verdicts(card.model_copy(update=scores))[1]
    assert (useful.level, useful.value) == ("bad", "0.60")
    assert "Saying the commonest class of all reaches 0.61." in useful.text
    assert score_verdicts(card.model_copy(update={**scores, "floor": scores["synthetic"]}))[1].level == "bad"
    worse = scores["floor"].model_copy(update={"accuracy": 0.5})
    assert score_verdicts(card.model_copy(update={**scores, "floor": worse}))[1].level == "good"


ACCURACIES = {"synthetic": 0.6, "original": 0.62, "floor": 0.61}


def test_a_release_that_finds_no_positive_case_is_not_called_useful(card: Card) -> None:
    useful = headlines(card, ONE_SIDED.model_copy(update={"recall": 0.0, "f1": 0.0}))[1]
    assert (useful.level, useful.value) == ("bad", "0.80")
    assert "No positive case is found, which is bad." in useful.text


@pytest.mark.parametrize(
    ("coverage", "density", "level", "value"),
    [
        (1.0, 0.9, "good", "coverage 1.00 of 1.00"),
        (1.0, 0.68, "caution", "density 0.68 of 0.99"),
        (1.0, 0.5, "bad", "density 0.50 of 0.99"),
        (0.8, 1.0, "caution", "coverage 0.80 of 1.00"),
        (0.6, 0.7, "bad", "coverage 0.60 of 1.00"),
    ],
)
def test_rows_look_real_where_they_are_as_dense_as_they_cover_and_the_figure_shown_is_the_one_that_decides(
    card: Card, coverage: float, density: float, level: str, value: str
) -> None:
    real = Fidelity(density=0.99, coverage=1.0)
    found = {"fidelity": Fidelity(density=density, coverage=coverage), "fidelity_ceiling": real, "checks": ()}
    said = score_verdicts(card.model_copy(update=found))[2]
    assert (said.level, said.value) == (level, value)
    assert said.text.startswith("Rows with groups as recorded against held-out records: ")


def test_parity_of_an_original_that_finds_no_positive_case_is_not_held_up_as_fair(card: Card) -> None:
    blind = ONE_SIDED.model_copy(update={"demographic_parity_ratio": 1.0, "recall": 0.0, "f1": 0.0})
    said = score_verdicts(card.model_copy(update={"synthetic": ONE_SIDED, "original": blind}))[0].text
    assert "it is 1.00. That model finds no positive case, so its 1.00 says nothing." in said
    assert "says nothing" not in score_verdicts(card.model_copy(update={"synthetic": ONE_SIDED}))[0].text


def test_a_ceiling_that_other_models_may_exceed_is_said_to_be_of_the_synthetic_one(card: Card) -> None:
    section = score_section(card)
    assert [row[0] for row in section.tables[0].rows][2:] == ["ceiling of the synthetic model", "constant classifier"]
    assert "Its ratios and those of the originals may lie above that ceiling" in section.text


def test_the_report_names_its_release_and_when_that_was_measured() -> None:
    report = named(Report("What clinic would release", "For the person who approves.", (), ()), 3, 1_800_000_000)
    assert report.title == "What clinic would release: release 3"
    assert report.subtitle == "2027-01-15 08:00 UTC. For the person who approves."


def test_the_positive_rates_of_synthetic_rows_are_of_all_that_were_made(
    measured: measure.Measured, artefacts: dict[Artefact, bytes], prepared: fitting.Prepared
) -> None:
    synthesiser, _ = measure.reference(artefacts, StudentSettings(steps=1))
    report = owner_report(measured, (), synthesiser, prepared.held_out, LOSSES)
    (groups,) = (section for section in report.sections if section.title == "Groups")
    rows = measured.synthetic
    assert len(rows) > len(prepared.held_out)
    positive = rows[synthesiser.schema.target.name] == synthesiser.schema.positive
    rates = positive.groupby(rows["région"]).mean()
    assert {row[0]: row[3] for row in groups.tables[0].rows} == pytest.approx(dict(rates))


LOSSES = [dict.fromkeys(("step", "reconstruction", "divergence", "target"), 1.0)]


@pytest.mark.parametrize(("stated", "rows"), [(None, "records"), ("ε = 1", "rows of microdata")])
def test_the_owners_report_says_what_its_rows_are(
    stated: str | None,
    rows: str,
    measured: measure.Measured,
    artefacts: dict[Artefact, bytes],
    prepared: fitting.Prepared,
) -> None:
    """Under a budget nothing on it is of records, and counts are of other rows than rates are."""
    synthesiser, _ = measure.reference(artefacts, StudentSettings(steps=1))
    card = measured.card if stated is None else on_card(measured.card, stated)
    found = dataclasses.replace(measured, card=card)
    report = owner_report(found, (), synthesiser, prepared.held_out, LOSSES)
    sections = {each.title: each for each in report.sections}
    assert sections["Groups"].tables[0].columns[1] == f"training {rows} (to tens)"
    assert f"held-out {rows} in grey" in sections["Columns"].text
    assert f"in held-out {rows} and in synthetic rows" in sections["Associations"].text
    shown = "microdata" if stated else "real"
    assert (
        sections["Associations"].figures[0].alt.startswith(f"Associations of every two columns, {shown} and synthetic.")
    )
    assert report.facts[0][0] == f"Training {rows}"


def test_groups_that_are_judged_together_are_marked(prepared: fitting.Prepared) -> None:
    table = prepared.held_out.iloc[np.arange(300) % len(prepared.held_out)]
    names = [group.label for group in prepared.schema.groups]
    assert len(names) > 2
    few = table.assign(région=np.repeat(names[:3], (20, 30, 250)))
    assert how_judged(prepared.schema, few) == {names[0]: "together", names[1]: "together", names[2]: "apart"}
    many = table.assign(région=np.repeat(names[:2], 150))
    assert how_judged(prepared.schema, many) == {names[0]: "apart", names[1]: "apart"}
