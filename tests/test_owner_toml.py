"""owner.toml: what is written comes back, and a mistake made by hand is named."""

import math
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_owner.attacks.attack import AT_EVERY_GATE
from data_owner.attacks.outcome import EVERYONE, Outcome, Rate
from data_owner.owner_toml import HEADER, dump, parse
from data_owner.settings import AttackLimits, ColumnSettings, Floors, OwnerSettings, Policy, TrainingSettings
from shared.errors import BadInput
from tests.conftest import patients, settings_for

# a lone surrogate is no text in any encoding, so no file could have held it
CHARACTERS = st.characters(exclude_categories=["Cs"])
LABELS = st.text(CHARACTERS, max_size=20)
NAMES = st.text(CHARACTERS, min_size=1, max_size=20)
SHARES = st.floats(0, 1)
NUMBERS = st.floats(allow_nan=False, allow_infinity=False)

labelled = st.builds(
    ColumnSettings,
    kind=st.sampled_from(["category", "boolean"]),
    categories=st.none() | st.lists(LABELS, min_size=1, max_size=4, unique=True).map(tuple),
)
counted = st.sampled_from([("number", NUMBERS), ("integer", NUMBERS.map(round).map(float))]).flatmap(
    lambda one: st.builds(
        ColumnSettings,
        kind=st.just(one[0]),
        bounds=st.none() | st.tuples(one[1], one[1]).filter(lambda pair: pair[0] < pair[1]),
    )
)
other = st.builds(ColumnSettings, kind=st.sampled_from(["date", "exclude", "undecided"]), reason=LABELS)


@st.composite
def owner_settings(draw: st.DrawFn) -> OwnerSettings:
    names = draw(st.lists(NAMES, min_size=3, max_size=6, unique=True))
    target, sensitive, feature = draw(labelled), draw(labelled), draw(labelled | counted)
    roles = [
        target.model_copy(update={"role": "target"}),
        sensitive.model_copy(update={"role": "sensitive"}),
        feature,
        *draw(st.lists(labelled | counted | other, min_size=len(names) - 3, max_size=len(names) - 3)),
    ]
    policy = st.builds(
        Policy,
        minimum_count=st.integers(5, 10**6),
        small_groups=st.sampled_from(["refuse", "merge"]),
        privacy=LABELS,
        attacks=st.builds(
            AttackLimits,
            required=st.lists(st.sampled_from(AT_EVERY_GATE), unique=True).map(tuple),
            inconclusive=st.sampled_from(["allow", "refuse"]),
            membership=SHARES,
        ),
        floors=st.builds(Floors, accuracy_of_original=SHARES, coverage_of_real=SHARES),
    )
    return OwnerSettings(
        name=draw(NAMES.filter(str.isprintable)),
        source=draw(NAMES),
        positive=draw(LABELS),
        policy=draw(policy),
        training=TrainingSettings(seed=draw(st.integers(0, 2**31 - 1))),
        columns=dict(zip(names, draw(st.permutations(roles)), strict=True)),
    )


@settings(max_examples=150, deadline=None)
@given(owner_settings())
def test_whatever_is_written_comes_back(found: OwnerSettings) -> None:
    back = parse(dump(found))
    assert back == found
    assert list(back.columns) == list(found.columns)


def test_the_file_explains_itself_and_every_policy_setting() -> None:
    text = dump(settings_for(patients()))
    for line in filter(None, HEADER.splitlines()):
        assert f"# {line}" in text
    policy = tomllib.loads(text)["policy"]
    for setting in {**policy, **policy["floors"], **policy["attacks"]}.keys() - {"floors", "attacks"}:
        (line,) = (line for line in text.splitlines() if line.startswith(f"{setting} = "))
        assert "#" in line, f"{setting} is written without a comment"


def test_what_the_limits_of_attacks_let_through_is_as_the_file_says() -> None:
    def risk(main: tuple[int, int], control: tuple[int, int]) -> float:
        main_rate, control_rate = (Rate(successes=right, trials=of) for right, of in (main, control))
        return Outcome(part=EVERYONE, main=main_rate, control=control_rate, baseline=control_rate).risk

    said, limits = " ".join(HEADER.split()), AttackLimits()
    assert "0.05 lets nearly 6 in 100 members be told while 1 in 100 others is mistaken for one" in said
    assert limits.reconstruction == limits.density_ratio == limits.membership
    assert risk((59, 1000), (10, 1000)) < limits.membership < risk((60, 1000), (10, 1000))
    assert "0.1 lets one in ten guesses that fail about others come true about members" in said
    assert round(risk((60 + 4, 100), (60, 100)), 9) == limits.attribute_inference == limits.singling_out
    assert round(math.exp(limits.canary_epsilon), 1) == 2.7


def test_column_names_with_dots_quotes_and_spaces_stay_one_name() -> None:
    names = ["blood pressure / mmHg", "a.b.c", 'said "well"', "Größe (cm)", "it's", "#1"]
    found = settings_for(patients().assign(**dict.fromkeys(names, range(600))))
    assert set(names) <= set(parse(dump(found)).columns)


MISTAKES = {
    "minimum too low": ("minimum_count = 10", "minimum_count = 1", "minimum_count"),
    "misspelt setting": ("minimum_count = 10", "minimun_count = 10", "minimun_count"),
    "unknown kind": ('kind = "integer"', 'kind = "whole"', "columns.age"),
    "no target": ('role = "target"', 'role = "feature"', "target"),
    "no sensitive column": ('role = "sensitive"', 'role = "feature"', "sensitive"),
    "broken bracket": ("[policy]", "[policy", "line"),
    "unknown criterion": ('criterion = "parity"', 'criterion = "none"', "criterion"),
    "setting given twice": ("minimum_count = 10", "minimum_count = 10\nminimum_count = 10", "line"),
    "cut short": ("[policy]", '[policy]\nprivacy = "', "line"),
    "bounds upside down": ('kind = "integer"', 'kind = "integer"\nbounds = [9, 1]', "columns.age"),
    "bounds not finite": ('kind = "integer"', 'kind = "integer"\nbounds = [0, inf]', "columns.age"),
    "categories of a number": ('kind = "integer"', 'kind = "integer"\ncategories = ["a"]', "columns.age"),
    "floor over one": ("coverage_of_real = ", "coverage_of_real = 7", "coverage_of_real"),
    "unknown attack": ("required = [", 'required = ["hope", ', "policy.attacks.required"),
    "an attack that proves nothing": ("required = [", 'required = ["nearest_record", ', "policy.attacks.required"),
    "a later version": ("version = 1", "version = 2", "version"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_in_owner_toml_is_named(name: str) -> None:
    before, after, said = MISTAKES[name]
    text = dump(settings_for(patients()))
    assert before in text
    with pytest.raises(BadInput, match=said) as caught:
        parse(text.replace(before, after, 1))
    assert caught.value.field.startswith("owner.toml")
    assert caught.value.remedy


def test_without_a_policy_nothing_goes_on() -> None:
    text = dump(settings_for(patients()))
    start, end = text.index("[policy]"), text.index("[training]")
    with pytest.raises(BadInput, match="policy"):
        parse(text[:start] + text[end:])
