"""What a privacy officer reads of an attack on a part, and the words in which the page says it."""

from types import SimpleNamespace
from typing import Any

import pytest

from data_owner import attack_gate
from data_owner.attacks.attack import Attack
from data_owner.attacks.battery import Battery
from data_owner.attacks.outcome import EVERYONE, Outcome, Rate, Result
from data_owner.release_gate import SMALLEST_GROUP
from data_owner.release_status import State, Status
from data_owner.reports.privacy_report import Subject, privacy_report
from data_owner.settings import AttackLimits
from shared.card import Check
from shared.report import Report

LIMITS = AttackLimits()
CARD: dict[str, Any] = {
    "node": "hospital",
    "records": 7280,
    "held_out": 1820,
    "rows": "records",
    "privacy": "No records leave.",
    "microdata": False,
    "pictures": None,
    "overridden": False,
    "groups": (),
    "checks": (Check(name=SMALLEST_GROUP, measured=50, required=12, passed=True),),
}


def outcome(part: str, main: tuple[int, int], control: tuple[int, int]) -> Outcome:
    rates = [Rate(successes=right, trials=of) for right, of in (main, control, (0, 100))]
    return Outcome(part=part, main=rates[0], control=rates[1], baseline=rates[2])


ON_EVERYONE = outcome(EVERYONE, (20, 2000), (18, 1800))
BLOCKS, CHANCE, WITHIN = (
    outcome(part, (right, 19), (0, 15)) for part, right in (("group a", 15), ("group b", 3), ("group c", 0))
)
SMALL = outcome("group d", (0, 1), (0, 1))


def battery(*outcomes: Outcome, attack: Attack = Attack.RECONSTRUCTION) -> Battery:
    return Battery(release="r", results=(Result(attack=attack, aim="a rate", outcomes=outcomes),))


def page(found: Battery, **card: object) -> Report:
    return privacy_report(
        Subject(
            version=1,
            at=0,
            status=Status(state=State.MEASURED, at=0, policy_id="44" * 32),
            card=SimpleNamespace(**CARD | card),  # type: ignore[arg-type]
            battery=found,
            limits=LIMITS,
            lengths={},
            entries=(),
        )
    )


def section(report: Report, title: str) -> Any:
    return next(each for each in report.sections if each.title == title)


def test_a_line_on_a_part_says_whether_it_is_within_the_limit_above_it_by_chance_or_over_it() -> None:
    (table,) = section(page(battery(ON_EVERYONE, BLOCKS, CHANCE, WITHIN)), "Groups, the rarest and columns").tables
    said = {row[0]: row[-1] for row in table.rows}
    assert said == {
        "group a": "OVER THE LIMIT",
        "group b": "above it, chance may explain that",
        "group c": "not above it",
    }


def test_the_page_says_how_many_comparisons_chance_is_allowed_for_and_what_would_have_blocked() -> None:
    found = battery(ON_EVERYONE, CHANCE, SMALL)
    parts = section(page(found), "Groups, the rarest and columns")
    assert "over all 3 lines of the gate, those on everyone included" in parts.text
    small, smallest = (row[5] for row in parts.tables[0].rows)
    assert (small, smallest) == ("0.368: 7 of 19", None), "of one person not even a right guess blocks"
    shadows = battery(ON_EVERYONE, CHANCE, attack=Attack.MEMBERSHIP).results
    both = found.model_copy(update={"results": (*found.results, *shadows), "shadows": 16})
    assert "3 lines of the gate, or over the 2 that attack adds" in str(page(both).sections)


@pytest.mark.parametrize("control", [0, 1, 5, 14, 15])
@pytest.mark.parametrize("others", [0, 104])
def test_what_would_have_blocked_does_and_one_guess_fewer_does_not(control: int, others: int) -> None:
    def blocks(right: int) -> bool:
        line = outcome("group a", (right, 19), (control, 15))
        found = battery(ON_EVERYONE, line, *[WITHIN] * others)
        return any(each == line for _, each in attack_gate.exceeding(found, LIMITS))

    line = outcome("group a", (0, 19), (control, 15))
    least = attack_gate.least_exceeding(line, LIMITS.reconstruction, others + 2)
    expected = next(filter(blocks, range(20)), None)
    assert (least and least.main.successes) == expected


def test_parts_above_the_limit_count_in_the_headline_and_under_the_picture() -> None:
    report = page(battery(ON_EVERYONE, CHANCE, WITHIN))
    (unsure,) = (each for each in report.verdicts if each.title in ("Attacks: inconclusive", "Attacks: resisted"))
    assert "Lines above it as measured, on everyone or on a part: reconstruction 1." in unsure.text
    (picture,) = section(report, "Attacks").figures
    assert picture.alt.endswith(
        "Lines on parts (groups, the rarest and columns, below) above their limit as measured: 1 of 2."
    )


def test_without_a_budget_nothing_is_called_a_guarantee_and_the_release_is_not_said_to_be_anonymous() -> None:
    report = page(battery(ON_EVERYONE))
    assert "Guarantee" not in {each.title for each in report.sections} | {label for label, _ in report.facts}
    not_covered = {row[0]: row[1] for row in section(report, "What is not covered").tables[0].rows}
    assert "personal data" in not_covered["anonymity"]
    bounded = page(battery(ON_EVERYONE), microdata=True)
    assert "Guarantee" in {each.title for each in bounded.sections} & {label for label, _ in bounded.facts}
    assert "anonymity" not in {row[0] for row in section(bounded, "What is not covered").tables[0].rows}


def test_the_page_says_the_minimum_count_and_what_the_digits_of_the_policy_are() -> None:
    facts = dict(page(battery(ON_EVERYONE)).facts)
    assert facts["Minimum count"].startswith("12 records: ")
    assert facts["Policy (SHA-256)"] == "44" * 32


def test_the_words_of_the_page_are_explained_before_they_are_used() -> None:
    report = page(battery(ON_EVERYONE))
    words = report.sections[0]
    assert words.title == "Words"
    assert {"members", "latents", "membership", "canaries", "rarest tenth"} <= {row[0] for row in words.tables[0].rows}
    assert "trained on is" not in str(report.sections), "members is the word"


def test_what_was_not_made_is_said_with_the_command_that_makes_it_where_one_does() -> None:
    said = str(page(battery(ON_EVERYONE)))
    assert "not made: fair4free-owner attack makes it" in said
    assert "No canaries were planted: fair4free-owner attack plants them." in said
    of_pictures = str(page(battery(ON_EVERYONE), pictures="scores"))
    assert "fair4free-owner attack" not in of_pictures, "it refuses pictures"


def test_an_attack_that_singles_out_says_whom_it_was_tried_on_and_what_resisted_does_not_say() -> None:
    report = page(battery(ON_EVERYONE, attack=Attack.SINGLING_OUT))
    ((_, question),) = section(report, "Attacks").tables[0].rows
    assert "no larger than the held-out side; each person counts once" in question
    assert "does not say that nobody can be singled out" in question
