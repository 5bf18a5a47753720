"""fair4free-owner ledger: export the egress log; verify and report an exported one, holding only public keys."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_owner.arguments import NodePath, check_is_file_name
from shared.console import Json, shell

if TYPE_CHECKING:
    from protocol.ledger_file import VerifiedLedger

app = typer.Typer(
    help="The egress log: export, verify and report what left.", no_args_is_help=True, suggest_commands=False
)

Exported = Annotated[Path, typer.Argument(metavar="FILE", help="A ledger that `ledger export` wrote.")]
Trusted = Annotated[Path, typer.Option("--invitation", help="The node's invitation.json: its public keys.")]
Seen = Annotated[Path | None, typer.Option("--seen", help="last_seen.json of a study, to hold the log to it.")]


@app.command()
def export(
    node: NodePath,
    out_file: Annotated[Path, typer.Option("--out", help="File to write.")] = Path("ledger.json"),
    json: Json = False,
) -> None:
    """Write the whole log, signed, for somebody who holds only public keys."""
    from data_owner.ledger_export import export as exported
    from data_owner.node import Node
    from shared import folder

    with shell("ledger export", json) as out:
        _check_may_write(out_file, of_ours='"countersigned":[')
        file = exported(Node.open(node))
        folder.write(out_file, file.to_bytes())
        out.result(
            {"path": str(out_file), "entries": len(file.entries)}, f"{len(file.entries):,} entries in {out_file}."
        )


@app.command()
def verify(file: Exported, invitation: Trusted, seen: Seen = None, json: Json = False) -> None:
    """Verify an exported log offline: signed, whole, within its rules, true to its countersignatures."""
    from data_owner.ledger_export import verified

    with shell("ledger verify", json) as out:
        found = verified(file, invitation, seen)
        checkpoint, denials = found.checkpoint, sorted(found.standing.denied.items())
        denied = "".join(f"\nDENIED: release {version}, by {each.by}: {each.reason}" for version, each in denials)
        held = "It is the owner's own log: --seen with last_seen.json of a study shows whether entries were left out."
        if found.seen is not None:
            held = f"It continues what {seen} has seen, {found.seen.logged().size:,} entries."
        out.result(
            {
                "origin": checkpoint.origin,
                "entries": checkpoint.size,
                "root": checkpoint.root_hash.hex(),
                "seen": _held_to(found, seen),
                "denials": [each.model_dump(mode="json") for _, each in denials],
                "countersigned": [
                    {"party": party, "entries": size, "at": at} for party, size, at in found.countersigned
                ],
            },
            f"{checkpoint.origin}: {checkpoint.size:,} entries are verified; each byte in them was approved "
            f"and went to a party that was let in. {held} "
            f"Parties that have countersigned it: {len(found.countersigned)}.{denied}",
        )


@app.command()
def report(
    file: Exported,
    invitation: Trusted,
    seen: Seen = None,
    out_file: Annotated[Path, typer.Option("--out", help="HTML file; figures go beside it as .figures.json.")] = Path(
        "ledger.html"
    ),
    json: Json = False,
) -> None:
    """Verify an exported log, then report how much left, by party, day and kind."""
    from data_owner.ledger_export import verified
    from data_owner.reports.ledger_report import TITLE, ledger_report, totals
    from shared import folder

    with shell("ledger report", json) as out:
        _check_may_write(out_file, of_ours=f"<title>{TITLE}")
        figures = out_file.with_name(f"{out_file.name.removesuffix('.html')}.figures.json")
        _check_may_write(figures, of_ours=f'{{\n "title": "{TITLE}')
        ledger = verified(file, invitation, seen)
        found = ledger_report(ledger)
        folder.write(out_file, found.to_html().encode())
        folder.write(figures, found.to_json().encode())
        lines = [f"{label}: {value}" for label, value in found.facts]
        lines += [f"{each.title}: {each.text}" for each in found.verdicts if each.level in ("caution", "bad")]
        out.result(
            {
                "report": str(out_file),
                "figures": str(figures),
                **totals(ledger),
                "seen": _held_to(ledger, seen),
                "verdicts": [vars(verdict) for verdict in found.verdicts],
            },
            "\n".join([*lines, f"report: {out_file}"]),
        )


def _held_to(found: VerifiedLedger, seen: Path | None) -> dict[str, Any] | None:
    """What of the log an analyst saw, for a program; None where it was held to nothing."""
    return None if found.seen is None else {"file": str(seen), "entries": found.seen.logged().size}


def _check_may_write(path: Path, of_ours: str) -> None:
    """Raises `BadInput` inside a node, and where a file stands that does not hold what such a file `of_ours` does."""
    from data_owner.node import Node
    from shared import folder
    from shared.errors import BadInput

    check_is_file_name(path, "--out")
    if any(Node(parent).settings.is_file() for parent in path.resolve().parents):
        raise BadInput("it is inside a node", field=str(path), remedy="choose a path outside of it")
    if os.path.lexists(path) and not (path.is_file() and of_ours.encode() in _start(path)):
        raise folder.there_already(path, "choose another path, or remove it first")


def _start(path: Path) -> bytes:
    """Of any file, however long, where one of ours says what it is."""
    from shared.limits import LIMITS

    with path.open("rb") as stream:
        return stream.read(LIMITS.manifest_bytes)
