"""fair4free-owner enrol: who asks to be let in, and a person's decision on each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from data_owner.arguments import NodePath
from protocol.access import PartyRole
from shared.console import Json, shell
from shared.errors import BadInput

if TYPE_CHECKING:
    from data_owner.authority import Decided


def enrol(
    node: NodePath,
    approve: Annotated[str | None, typer.Option(help="Fingerprint of the request to approve.")] = None,
    deny: Annotated[str | None, typer.Option(help="Fingerprint to deny, or to withdraw.")] = None,
    by: Annotated[str, typer.Option("--by", help="Name of the person who decides.")] = "",
    role: Annotated[
        PartyRole | None, typer.Option(help="What an approved one may do; as before if not given, analyst at first.")
    ] = None,
    json: Json = False,
) -> None:
    """List requests to enrol; approve or deny one by fingerprint."""
    from data_owner import authority
    from data_owner.node import Node
    from shared.clock import moment

    with shell("enrol", json) as out:
        opened = Node.open(node)
        if approve is not None and deny is not None:
            raise BadInput("both --approve and --deny", field="enrol", remedy="give one of them")
        fingerprint = deny if approve is None else approve
        if fingerprint is None and by:
            raise BadInput("there is nothing to decide", field="--by", remedy="give --approve or --deny")
        if approve is None and role is not None:
            raise BadInput("a role is of who is approved", field="--role", remedy="give it with --approve")
        decided = None
        if fingerprint is not None:
            decision = authority.Decision.DENIED if approve is None else authority.Decision.APPROVED
            decided = authority.decide(opened, fingerprint, decision, by=by, now=moment(), role=role)
        found = authority.enrolments(opened)
        damaged = [str(error) for error in authority.damaged(opened)]
        lines = [f"{entry.decision:9} {entry.role or '':8} {entry.fingerprint}  {entry.name}" for entry in found]
        lines += [f"{'damaged':9} {problem}" for problem in damaged]
        if decided is not None:
            lines.append(_in_words(decided))
        if approve is not None:
            lines.append("The analyst runs `fair4free enrol` again to get the certificate.")
        out.result(
            {
                "enrolments": [entry.model_dump(mode="json") for entry in found],
                "damaged": damaged,
                "decided": decided and {**decided.enrolment.model_dump(mode="json"), "changed": decided.changed},
            },
            "\n".join(lines) or "nobody has asked yet.",
        )


def _in_words(decided: Decided) -> str:
    entry = decided.enrolment
    state = f"approved as {entry.role}" if entry.decision == "approved" else str(entry.decision)
    if decided.changed:
        return f"{entry.fingerprint} is now {state}."
    return f"{entry.fingerprint} was already {state}, by {entry.by}: nothing is logged or changed."
