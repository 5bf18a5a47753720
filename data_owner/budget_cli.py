"""fair4free-owner budget: what differential privacy was charged, item by item, and what a draw would be."""

from __future__ import annotations

from datetime import UTC, datetime
from math import floor

from data_owner.arguments import NodePath
from shared.console import Json, shell


def budget(
    node: NodePath,
    json: Json = False,
) -> None:
    """Show the privacy budget: what was charged, and what the next draw would ask. Spends nothing."""
    from data_owner.node import Node
    from data_owner.owner_toml import read_settings
    from data_owner.privacy.accounting import Query, guarantee
    from data_owner.privacy.budget import Budget

    with shell("budget", json) as out:
        opened = Node.open(node)
        settings = read_settings(opened)
        ledger = Budget(opened.budget)
        privacy = settings.privacy
        if privacy is None:
            charged = len(ledger.charges())
            text = f"no [privacy] in owner.toml: nothing bounds what a release may have memorised. {charged} charges."
            out.result({"epsilon": None, "charges": charged}, text)
            return
        from data_owner.privacy import microdata
        from shared.errors import PolicyRefusal

        def items(queries: tuple[Query, ...]) -> list[str]:
            return [f"    {query.count:4} × {query.what}, noise × {query.noise_multiplier:.1f}" for query in queries]

        charges = ledger.charges()
        lines, before = [], list[Query]()
        for charge in charges:
            before += charge.queries
            when = f"{datetime.fromtimestamp(charge.at, UTC):%Y-%m-%d %H:%M}"
            made = "microdata drawn" if charge.sha256 else "nothing drawn: it was stopped, and is spent all the same"
            total = guarantee(before, privacy.delta).epsilon
            lines += [f"charge {charge.place}, {when} UTC, {made}; ε {total:.3f} in all", *items(charge.queries)]
        spent = guarantee(before, privacy.delta)
        left = max(floor(1000.0 * (privacy.epsilon - spent.epsilon)) / 1000.0, 0.0)
        try:
            rho = ledger.next_rho(privacy)
        except PolicyRefusal as refused:
            lines.append(f"the next draw would be refused: {refused.remedy}")
            following = None
        else:
            _, _, asked = microdata.planned(opened, settings, privacy, rho)
            after = guarantee([*before, *asked.queries], privacy.delta).epsilon
            lines += [f"the next draw would make it ε {after:.3f}", *items(asked.queries)]
            following = {"epsilon": after, "queries": [query.model_dump() for query in asked.queries]}
        head = (
            f"ε {spent.epsilon:.3f} of {privacy.epsilon:g} is spent in {len(charges)} of {privacy.draws} draws, "
            f"{left:.3f} is left; δ = {privacy.delta:g}."
        )
        out.result(
            {
                "epsilon": privacy.epsilon,
                "spent": {**spent.model_dump(), "epsilon": spent.epsilon},
                "left": left,
                "charges": [
                    {
                        "at": charge.at,
                        "drawn": charge.sha256,
                        "queries": [query.model_dump() for query in charge.queries],
                    }
                    for charge in charges
                ],
                "next": following,
            },
            "\n".join([head, *lines]),
        )
