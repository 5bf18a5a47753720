"""fair4free-owner budget: what differential privacy was charged, item by item, and what a draw would be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_owner.arguments import NodePath
from shared.clock import minute
from shared.console import Json, shell

if TYPE_CHECKING:
    from data_owner.privacy.accounting import Query
    from data_owner.privacy.budget import Charge
    from data_owner.privacy.budget_state import BudgetState
    from data_owner.settings import PrivacySettings


def budget(
    node: NodePath,
    json: Json = False,
) -> None:
    """Show the privacy budget: charges so far and the cost of the next draw. Spends nothing."""
    from data_owner.node import Node
    from data_owner.owner_toml import read_settings
    from data_owner.privacy.budget import Budget

    with shell("budget", json) as out:
        opened = Node.open(node)
        settings = read_settings(opened)
        privacy = settings.privacy
        if privacy is None:
            charges = Budget(opened.budget).charges()
            text = "no [privacy] in owner.toml: nothing bounds what a release may have memorised. "
            nothing = dict.fromkeys(("epsilon", "draws", "spent", "left", "next", "refused"))
            out.result({**nothing, "charges": _charges(charges)}, f"{text}{len(charges)} charges.")
            return
        from data_owner.privacy.budget_state import state

        found = state(opened, settings, privacy)
        out.result(_values(found, privacy), "\n".join(_lines(found, privacy)))


def _values(found: BudgetState, privacy: PrivacySettings) -> dict[str, Any]:
    following = found.following
    return {
        "epsilon": privacy.epsilon,
        "draws": privacy.draws,
        "spent": {**found.spent.model_dump(), "epsilon": found.spent.epsilon},
        "left": found.left,
        "charges": _charges(found.charges),
        "next": {
            "epsilon": following.epsilon,
            "queries": [query.model_dump() for query in following.queries],
            "undeclared": following.undeclared,
        }
        if following
        else None,
        "refused": found.refused or None,
    }


def _charges(charges: Sequence[Charge]) -> list[dict[str, Any]]:
    return [
        {"at": charge.at, "drawn": charge.sha256, "queries": [query.model_dump() for query in charge.queries]}
        for charge in charges
    ]


def _lines(found: BudgetState, privacy: PrivacySettings) -> list[str]:
    lines = [
        f"ε {found.spent.epsilon:.3f} of {privacy.epsilon:g} is spent in {len(found.charges)} of {privacy.draws} "
        f"draws, {found.left:.3f} is left; δ = {privacy.delta:g}."
    ]
    for charge, total in zip(found.charges, found.totals, strict=True):
        made = "microdata drawn" if charge.sha256 else "nothing drawn: it was stopped, and is spent all the same"
        lines += [f"charge {charge.place}, {minute(charge.at)}, {made}; ε {total:.3f} in all", *_items(charge.queries)]
    if found.following is None:
        return [*lines, f"the next draw would be refused: {found.refused}"]
    from data_owner.records.undeclared import in_words  # brings torch, which no other command here needs

    lines += [f"the next draw would make it ε {found.following.epsilon:.3f}", *_items(found.following.queries)]
    return [*lines, in_words(found.following.undeclared)] if found.following.undeclared else lines


def _items(queries: tuple[Query, ...]) -> list[str]:
    return [f"    {query.count:4} × {query.what}, noise × {query.noise_multiplier:.1f}" for query in queries]
