"""What each column of a table most likely is: a proposal for owner.toml, about which a person decides."""

from __future__ import annotations

import re
from typing import Literal

import pandas as pd

from data_owner.attacks.attack import ON_PICTURES
from data_owner.records.images import holds_images, image_settings
from data_owner.records.ingest import LEAST_ROWS, check_target, declared_as
from data_owner.settings import AttackLimits, ColumnSettings, OwnerSettings, Policy, TrainingSettings
from shared.canonical import EXACT, OFFSET, ZONE, canonical, plain
from shared.errors import BadInput
from shared.frozen import explained
from shared.limits import LIMITS
from shared.table import check_names, written_as_codes

FREE_TEXT_CHARACTERS = 40
FREE_TEXT_SHARE = 0.2
MOSTLY = 0.9
IDENTIFIER_SHARE, IDENTIFIER_VALUES = 0.2, 50
"""A column named or written like an identifier is one from so many different values on, of its rows or at all: visits
repeat."""
IDENTIFIER_NAME = re.compile(
    r"(^|[^a-zA-Z])(?i:id|ids|uuid|guid|mrn|ssn|key|number|nr|no)$|[a-z](Id|ID|Nr|No|Key)$|^(?i:id)[^a-zA-Z]|(?i:subject|patient)id$"
    r"|(^|[^a-zA-Z])(?i:((sur|fore|full|first|last|given|family)[ _-]?)?name|e-?mail|(tele)?phone)$"
    r"|(^|[^a-zA-Z])(?i:address|street|zip([ _-]?code)?|post(al[ _-]?)?code|plz)$"
)
BIRTH = re.compile(r"(?i)birth|geburt|(^|[^a-z])dob([^a-z]|$)")
ISO_DATE = re.compile(r"^\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}(\.\d+)?)?" + OFFSET + "?)?$")
TIME_OF_DAY = re.compile(r"([01]?\d|2[0-4]):[0-5]\d(:[0-5]\d([.,]\d+)?)?")
AMOUNT = re.compile(r"[<>≤≥]?=? *[+-]?\d+([.,]\d+)*([eE][+-]?\d+)? *%?")
NO_NUMBER = {
    ",": "commas: write a decimal point, and nothing between thousands",
    "[<>≤≥]": '"<" or ">": write a number, such as the limit',
    "%": '"%": write the number alone',
}
"""What keeps an amount from being read as one, and what to write instead."""
FEW_LABELS = 10
"""So many amounts or times are names of something, as "<18" is of a band."""
OTHER_DATE = re.compile(r"^\d{1,4}[./-]\d{1,2}[./-]\d{1,4}( .*)?$")
FIRST_DAY, LAST_DAY = 1800_01_01, 2199_12_31
"""Numbers between may be days, as 20200124 is."""
SPELT_OTHERWISE = "looks like dates, but not all are written as YYYY-MM-DD"
WITHOUT_DASHES = "looks like dates written as 20200124: write 2020-01-24"
BESIDE_DATES = "mixes dates with other text: empty the cells that are no date (with a budget leave them)"
OF_DATES = {SPELT_OTHERWISE, WITHOUT_DASHES, BESIDE_DATES}
BESIDE_NUMBERS = "mixes numbers with other text: empty the cells that are no number (with a budget leave them)"
FLAGS = {"1": "True", "0": "False", "True": "1", "False": "0"}
"""What a class is called where its column has flags for numbers, or numbers for flags."""
TWO_WORDS = ({"yes", "no"}, {"true", "false"}, {"y", "n"}, {"t", "f"}, {"0", "1"})


def infer(
    table: pd.DataFrame,
    *,
    name: str,
    source: str,
    target: str,
    sensitive: tuple[str, ...],
    positive: str | None = None,
    small_groups: Literal["refuse", "merge"] = "refuse",
) -> OwnerSettings:
    """Propose settings. Raises `BadInput` when the named columns cannot play their part.

    The positive class is `positive`, else "1", "True" or "yes", else the rarer class.
    """
    check_names(list(table.columns))
    if len(set(sensitive)) != len(sensitive):
        raise BadInput("a sensitive column is named twice", field="--sensitive", remedy="name each column once")
    for column in (target, *sensitive):
        if column not in table.columns:
            raise BadInput("there is no such column", field=column, remedy="check the spelling of the name")
    if target in sensitive:
        raise BadInput("both target and sensitive", field=target, remedy="choose two different columns")
    if not set(table.columns) - {target, *sensitive}:
        raise BadInput(
            "there is no feature", field="table", remedy="give a column that is neither target nor sensitive"
        )
    pictures = [column for column in table.columns if holds_images(table[column])]
    columns = {
        column: image_settings(table[column], column)
        if column in pictures
        else ColumnSettings(kind="exclude", reason="the image is the only feature")
        if pictures and column not in (target, *sensitive)
        else _guess(table[column])
        for column in table.columns
    }
    for column in (target, *sensitive):
        role: Literal["target", "sensitive"] = "target" if column == target else "sensitive"
        kind: Literal["boolean", "category"] = "boolean" if columns[column].kind == "boolean" else "category"
        columns[column] = ColumnSettings(kind=kind, role=role)
    classes = canonical(table[target], target, "category").dropna()
    check_target(classes, target)
    labels = tuple(classes.unique())
    likely = [label for label in labels if label.lower() in ("1", "true", "yes")]
    named = (
        str(likely[0] if likely else classes.value_counts().index[-1])
        if positive is None
        else declared_as(positive, labels) or declared_as(FLAGS.get(positive, positive), labels)
    )
    if named is None:
        raise BadInput("not a class of the target", field="--positive", remedy="name one of its classes")
    with explained("owner.toml", "correct that setting"):
        limits = AttackLimits(required=ON_PICTURES) if pictures else AttackLimits()
        policy = Policy(small_groups=small_groups, attacks=limits)
        # a picture fixes its class, so its labels can be rebalanced but not repaired
        training = TrainingSettings(criterion="odds", repair=0.0) if pictures else TrainingSettings()
        return OwnerSettings(
            name=name, source=source, positive=named, policy=policy, training=training, columns=columns
        )


def _guess(given: pd.Series) -> ColumnSettings:
    """The likely kind of a column, or "undecided" with the reason why a person must look."""
    values = plain(given, str(given.name))
    guessed = _guess_kind(values)
    if isinstance(given.dtype, pd.CategoricalDtype) and guessed.kind in ("integer", "number"):
        return ColumnSettings(kind="category") if values.nunique() <= LIMITS.categories else guessed
    if (guessed.kind == "date" or guessed.reason in OF_DATES) and BIRTH.search(str(values.name)):
        return ColumnSettings(kind="undecided", reason="looks like a date of birth: exclude it, and give an age")
    return guessed


def _guess_kind(values: pd.Series) -> ColumnSettings:
    present = values.dropna()
    name = str(values.name)
    if present.empty:
        return ColumnSettings(kind="undecided", reason="every value is missing")
    distinct = present.nunique()
    if distinct == 1 and len(present) == len(values):
        return ColumnSettings(kind="undecided", reason="constant")
    if pd.api.types.is_bool_dtype(present):
        return ColumnSettings(kind="boolean")
    if pd.api.types.is_datetime64_any_dtype(present) or pd.api.types.infer_dtype(present) == "date":
        return ColumnSettings(kind="date")
    if IDENTIFIER_NAME.search(name) and _many(distinct, present):
        return ColumnSettings(kind="undecided", reason="looks like an identifier, by its name and number of values")
    if pd.api.types.is_numeric_dtype(present):
        return _guess_number(present.astype("float64"), distinct)
    return _guess_text(present.astype("str"), distinct)


def _guess_number(present: pd.Series, distinct: int) -> ColumnSettings:
    whole = bool((present % 1 == 0).all())
    if whole and set(present.unique()) <= {0.0, 1.0}:
        return ColumnSettings(kind="boolean")
    if distinct == 1:
        return ColumnSettings(kind="undecided", reason="constant wherever it is not missing")
    if whole and _are_days(present):
        return ColumnSettings(kind="undecided", reason=WITHOUT_DASHES)
    if whole and distinct == len(present) and (len(present) >= LEAST_ROWS or _is_counter(present)):
        return ColumnSettings(kind="undecided", reason="looks like an identifier: every value is different")
    if whole and bool((present.abs() > EXACT).any()):
        return ColumnSettings(kind="undecided", reason="holds whole numbers beyond 2^53, more like keys than amounts")
    return ColumnSettings(kind="integer" if whole else "number")


def _guess_text(present: pd.Series, distinct: int) -> ColumnSettings:
    if bool(present.str.fullmatch(ISO_DATE).all()):
        zoned = present.str.contains(ZONE)
        if bool(zoned.any()) and not bool(zoned.all()):
            return ColumnSettings(kind="undecided", reason="some of its times have a zone (Z, +01:00) and others none")
        return ColumnSettings(kind="date")
    if bool(present.str.fullmatch(OTHER_DATE).mean() > MOSTLY):
        return ColumnSettings(kind="undecided", reason=SPELT_OTHERWISE)
    numbers = pd.to_numeric(present, errors="coerce")
    numeric = numbers.notna().mean()
    if numeric > MOSTLY and _are_days(numbers.dropna()):
        return ColumnSettings(kind="undecided", reason=WITHOUT_DASHES)
    if numeric == 1.0 and written_as_codes(present):
        if _many(distinct, present):
            return ColumnSettings(kind="undecided", reason="looks like a code: numbers written as 007 or 1E05")
        return ColumnSettings(kind="category")
    if numeric == 1.0:
        return ColumnSettings(kind="undecided", reason="holds numbers kept as text: amounts, or codes")
    if distinct > FEW_LABELS and (reason := _misspelt(present)):
        return ColumnSettings(kind="undecided", reason=reason)
    if reason := _mixture(present.drop_duplicates()):
        return ColumnSettings(kind="undecided", reason=reason)
    if numeric > MOSTLY:
        return ColumnSettings(kind="undecided", reason=BESIDE_NUMBERS)
    if distinct > MOSTLY * len(present):
        return ColumnSettings(kind="undecided", reason="looks like an identifier or free text: few values repeat")
    if distinct > LIMITS.categories:
        return ColumnSettings(kind="undecided", reason=f"has more than {LIMITS.categories} categories")
    lengths = present.str.len()
    if lengths.max() > LIMITS.name_characters or (
        lengths.mean() > FREE_TEXT_CHARACTERS and distinct > FREE_TEXT_SHARE * len(present)
    ):
        return ColumnSettings(kind="undecided", reason="looks like free text: long and seldom repeated")
    two = {label.lower() for label in present.unique()} if distinct == 2 else set()
    return ColumnSettings(kind="boolean" if two in TWO_WORDS else "category")


def _misspelt(present: pd.Series) -> str | None:
    """What most cells look like that are no number as they are written, and how to write them; None for other text."""
    if bool(present.str.fullmatch(TIME_OF_DAY).mean() > MOSTLY):
        return "looks like times of day: write a number, such as minutes since midnight"
    amounts = present[present.str.fullmatch(AMOUNT)]
    found = [remedy for sign, remedy in NO_NUMBER.items() if bool(amounts.str.contains(sign).any())]
    return (
        f"looks like numbers with {'; with '.join(found)}" if found and len(amounts) > MOSTLY * len(present) else None
    )


def _mixture(cells: pd.Series) -> str | None:
    """What most of a column's different cells are, and that a few others, as ".", "ND" and "unknown", should be empty:
    however many rows have them, a category would merge what lies in the tails. None for other text."""
    dates = cells.str.fullmatch(ISO_DATE) | cells.str.fullmatch(OTHER_DATE)
    numbers = pd.to_numeric(cells, errors="coerce").notna()
    if numbers.any() and written_as_codes(cells[numbers]):
        return None
    for found, reason in ((dates, BESIDE_DATES), (numbers, BESIDE_NUMBERS)):
        if found.sum() > FEW_LABELS >= (~found).sum():
            return reason
    return None


def _are_days(numbers: pd.Series) -> bool:
    """Whether nearly all are days as 20200124 writes them."""
    within = numbers[numbers.between(FIRST_DAY, LAST_DAY) & (numbers % 1 == 0)].astype("int64").astype("str")
    days = pd.to_datetime(within, format="%Y%m%d", errors="coerce")
    return bool(days.notna().sum() > MOSTLY * len(numbers))


def _many(distinct: int, present: pd.Series) -> bool:
    return distinct >= min(IDENTIFIER_VALUES, IDENTIFIER_SHARE * len(present))


def _is_counter(present: pd.Series) -> bool:
    """Whether whole numbers, all different, leave few gaps: row numbers and keys do."""
    return bool(present.max() - present.min() < 2 * len(present))
