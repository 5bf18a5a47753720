"""The schema: how decoder outputs become the columns of a table.

It is one of the five things that cross. Everything in it that was derived from data (categories, quantile
tables, group shares) has passed the owner's disclosure rules before a `Schema` is built.
"""

from __future__ import annotations

import math
from enum import StrEnum
from functools import cached_property
from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from shared.frozen import Frozen, JsonFile
from shared.limits import LIMITS
from shared.printable import PRINTABLE

MERGED = "(merged)"
"""The category that stands for all categories with fewer records than the policy's minimum."""

MISSING = "(missing)"
"""How a missing value of a sensitive column is named as a group."""

LARGEST = 1e37
"""Of numbers: what models compute with in half the digits still holds them."""

ROUNDED = 1.01
"""The factor by which rounding to decimals may take a number beyond `LARGEST`."""

Name = Annotated[str, Field(min_length=1, max_length=LIMITS.name_characters)]

PrintableName = Annotated[Name, PRINTABLE]
"""Of a node or a person: it stands in lines that people go by, and must neither end one nor turn it about."""

DTYPES = (
    r"^(u?int(8|16|32|64)|float(32|64)|bool|str|category|date|date32\[day\]\[pyarrow\]"
    r"|datetime64\[(s|ms|us|ns)(, [A-Za-z0-9_/+:-]{1,64})?\])$"
)
Dtype = Annotated[str, Field(pattern=DTYPES)]
"""What a column is given back in: a type of pandas, `date` for ISO 8601 text."""

Label = Annotated[str, Field(max_length=LIMITS.name_characters)]

JointLabel = Annotated[str, Field(max_length=LIMITS.columns * (2 * LIMITS.name_characters + len(" / ")))]
"""As long as a `joint_label` may be."""


class ColumnRole(StrEnum):
    FEATURE = "feature"
    SENSITIVE = "sensitive"
    TARGET = "target"


class Quantiles(Frozen):
    """A piecewise-linear inverse distribution function through the points (rank, value).

    `ranks` run from 0 to 1 and `values` are none beyond `LARGEST`; neither ever falls, and two equal ranks are a jump.
    A repeated value (an atom, such as a zero) is two points with one value, so every rank between them decodes to
    exactly that value.
    """

    ranks: tuple[float, ...] = Field(min_length=2, max_length=LIMITS.quantile_points)
    values: tuple[float, ...] = Field(min_length=2, max_length=LIMITS.quantile_points)

    @model_validator(mode="after")
    def _is_a_distribution(self) -> Self:
        if len(self.ranks) != len(self.values):
            raise ValueError("ranks and values differ in length")
        if self.ranks[0] != 0.0 or self.ranks[-1] != 1.0:
            raise ValueError("ranks must run from 0 to 1")
        for points in (self.ranks, self.values):
            if any(a > b for a, b in pairwise(points)):
                raise ValueError("ranks and values must not fall")
        if max(-self.values[0], self.values[-1]) > ROUNDED * LARGEST:
            raise ValueError("a value is beyond the largest number")
        return self


class NumericColumn(Frozen):
    """A number, whole number or date, stored as a float through its quantile table.

    Dates count whole `unit`s since 1970-01-01. `decimals` is the number of decimal places to round to.
    """

    name: Name
    kind: Literal["number", "integer", "date"]
    dtype: Dtype
    role: Literal[ColumnRole.FEATURE] = ColumnRole.FEATURE
    optional: bool
    quantiles: Quantiles
    decimals: int = Field(default=0, ge=0, le=LIMITS.decimals)
    unit: Literal["D", "s"] = "D"


class CategoricalColumn(Frozen):
    """One of `categories`, named as text and given back in `dtype`."""

    name: Name
    kind: Literal["category", "boolean"]
    dtype: Dtype
    role: ColumnRole = ColumnRole.FEATURE
    optional: bool
    categories: tuple[Label, ...] = Field(min_length=1, max_length=LIMITS.categories)

    @model_validator(mode="after")
    def _categories_are_distinct(self) -> Self:
        if len(set(self.categories)) != len(self.categories):
            raise ValueError("categories repeat")
        if self.role is not ColumnRole.FEATURE and self.optional:
            raise ValueError("a sensitive or target column cannot be optional")
        return self


class ImageColumn(Frozen):
    """A picture of 8 bits a channel, grey (1 channel) or red, green and blue (3); kept and given back as PNG."""

    name: Name
    kind: Literal["image"]
    role: Literal[ColumnRole.FEATURE] = ColumnRole.FEATURE
    height: int = Field(ge=LIMITS.least_image_side, le=LIMITS.image_side)
    width: int = Field(ge=LIMITS.least_image_side, le=LIMITS.image_side)
    channels: Literal[1, 3]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels: the order of a picture's bytes."""
        return self.height, self.width, self.channels


Column = Annotated[NumericColumn | CategoricalColumn | ImageColumn, Field(discriminator="kind")]


def joint_label(values: tuple[str, ...]) -> str:
    """One name for a category of each sensitive column, another for others: slashes inside are doubled if several."""
    return " / ".join(value.replace("/", "//") for value in values) if len(values) > 1 else values[0]


class Group(Frozen):
    """One value of the joint sensitive variable: a category per sensitive column, and its share of records."""

    values: tuple[Label, ...] = Field(min_length=1)
    share: float = Field(gt=0.0, le=1.0)

    @property
    def label(self) -> str:
        return joint_label(self.values)


class Schema(JsonFile):
    """Columns in table order, the positive class of the target, and the sensitive groups."""

    what = "schema"
    remedy = "ask the owner for a new release"
    indent = None

    version: Literal[1] = 1
    columns: tuple[Column, ...] = Field(min_length=3, max_length=LIMITS.columns)
    positive: Label
    groups: tuple[Group, ...] = Field(min_length=2, max_length=LIMITS.groups)

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        names = [column.name for column in self.columns]
        if len(set(names)) != len(names):
            raise ValueError("column names repeat")
        targets = [column for column in self.columns if column.role is ColumnRole.TARGET]
        if len(targets) != 1:
            raise ValueError("exactly one column must be the target")
        if not 2 <= len(self.target.categories) <= LIMITS.classes:
            raise ValueError(f"the target must have 2 to {LIMITS.classes} classes")
        if self.positive not in self.target.categories:
            raise ValueError("the positive class is not a category of the target")
        if not self.sensitive:
            raise ValueError("at least one column must be sensitive")
        if sum(len(column.categories) for column in self.sensitive) > LIMITS.table_outputs:
            raise ValueError("the sensitive columns have more categories than the limit")
        if not self.features:
            raise ValueError("at least one column must be a feature")
        if self.image is not None and len(self.features) > 1:
            raise ValueError("an image must be the only feature")
        if len({group.values for group in self.groups}) != len(self.groups):
            raise ValueError("groups repeat")
        for group in self.groups:
            if len(group.values) != len(self.sensitive) or any(
                value not in column.categories for value, column in zip(group.values, self.sensitive, strict=True)
            ):
                raise ValueError("a group names a value that no sensitive column has")
        if not math.isclose(sum(group.share for group in self.groups), 1.0, abs_tol=1e-2):
            raise ValueError("group shares must add up to 1")
        return self

    @cached_property
    def target(self) -> CategoricalColumn:
        column = next(column for column in self.columns if column.role is ColumnRole.TARGET)
        assert isinstance(column, CategoricalColumn)
        return column

    @cached_property
    def sensitive(self) -> tuple[CategoricalColumn, ...]:
        return tuple(
            column
            for column in self.columns
            if isinstance(column, CategoricalColumn) and column.role is ColumnRole.SENSITIVE
        )

    @cached_property
    def features(self) -> tuple[NumericColumn | CategoricalColumn | ImageColumn, ...]:
        return tuple(column for column in self.columns if column.role is ColumnRole.FEATURE)

    @cached_property
    def image(self) -> ImageColumn | None:
        """The picture, where the records are pictures."""
        return next((column for column in self.columns if isinstance(column, ImageColumn)), None)

    @cached_property
    def tabular(self) -> tuple[NumericColumn | CategoricalColumn, ...]:
        """All columns but a picture."""
        return tuple(column for column in self.columns if not isinstance(column, ImageColumn))

    @property
    def names(self) -> list[str]:
        return [column.name for column in self.columns]
