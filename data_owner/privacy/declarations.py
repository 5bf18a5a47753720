"""Turning differential privacy on: a budget, and what is public about each column."""

from __future__ import annotations

from collections.abc import Mapping

from data_owner.settings import OwnerSettings
from shared.frozen import explained

Public = Mapping[str, tuple[float, float] | tuple[str, ...]]


def with_budget(settings: OwnerSettings, epsilon: float, public: Public) -> OwnerSettings:
    """The settings with a budget of ε, and with the bounds and categories that are public.

    Raises `BadInput` for an ε that is none, and for what no budget is for.
    """
    columns = dict(settings.columns)
    for name in public.keys() & columns.keys():
        field = "categories" if columns[name].kind in ("category", "boolean") else "bounds"
        columns[name] = columns[name].model_copy(update={field: public[name]})
    given = settings.model_copy(update={"columns": columns}).model_dump() | {"privacy": {"epsilon": epsilon}}
    with explained("--epsilon", "give a number above 0, such as 1, for records of a table"):
        return OwnerSettings.model_validate(given)
