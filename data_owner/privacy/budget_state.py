"""What a node's budget was charged, what is left of it and what the next draw would ask. Nothing is spent here."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor

from data_owner.node import Node
from data_owner.privacy import microdata
from data_owner.privacy.accounting import Guarantee, Query, guarantee
from data_owner.privacy.budget import Budget, Charge
from data_owner.records.records_file import RecordsFile
from data_owner.records.undeclared import Share, undeclared
from data_owner.settings import OwnerSettings, PrivacySettings
from shared.errors import PolicyRefusal


@dataclass(frozen=True)
class NextDraw:
    """`epsilon`: what everything charged would cost together with its `queries`. `undeclared`: see there; it never
    leaves the house."""

    epsilon: float
    queries: tuple[Query, ...]
    undeclared: dict[str, Share]


@dataclass(frozen=True)
class BudgetState:
    """`totals`: ε of everything charged up to each of `charges`. `left`: of ε, rounded down to three decimals.

    `following` is None where no further draw is allowed, and `refused` then says why, and what to do.
    """

    charges: tuple[Charge, ...]
    totals: tuple[float, ...]
    spent: Guarantee
    left: float
    following: NextDraw | None
    refused: str = ""


def state(node: Node, settings: OwnerSettings, privacy: PrivacySettings) -> BudgetState:
    """Of a node under the budget `privacy`. Raises `Unreachable`, and what `microdata.planned` does."""
    ledger = Budget(node.budget)
    charges = tuple(ledger.charges())
    before, totals = list[Query](), list[Guarantee]()
    for charge in charges:
        before += charge.queries
        totals.append(guarantee(before, privacy.delta))
    spent = totals[-1] if totals else guarantee([], privacy.delta)
    left = max(floor(1000.0 * (privacy.epsilon - spent.epsilon)) / 1000.0, 0.0)
    so_far = tuple(each.epsilon for each in totals)
    try:
        rho = ledger.next_rho(privacy)
    except PolicyRefusal as refused:
        return BudgetState(charges, so_far, spent, left, None, f"{refused.problem}. Remedy: {refused.remedy}")
    records = RecordsFile(node.records)
    _, _, asked = microdata.planned(records, settings, privacy, rho)
    after = guarantee([*before, *asked.queries], privacy.delta).epsilon
    astray = undeclared(records.table, settings)
    return BudgetState(charges, so_far, spent, left, NextDraw(after, asked.queries, astray))
