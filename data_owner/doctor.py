"""What is in place at a node and what to do about what is not."""

from __future__ import annotations

from datetime import UTC, datetime

from data_owner import authority, release
from data_owner.ingest import ingest
from data_owner.node import Node
from data_owner.owner_toml import parse
from protocol.identity import certificate_expires
from shared import folder
from shared.errors import Fair4FreeError
from shared.finding import Finding
from shared.limits import LIMITS
from shared.table import read_table


def diagnose(node: Node) -> list[Finding]:
    """Every check, in the order a person would fix them."""
    now = datetime.now(UTC)
    found = []
    try:
        settings = parse(folder.read(node.settings, "restore owner.toml").decode(errors="replace"))
        records = ingest(read_table(node.records), settings)
        found.append(Finding("records", True, f"{len(records.frame):,} rows, {len(records.columns)} columns"))
    except Fair4FreeError as error:
        found.append(Finding("records", False, str(error)))
    found.append(_private(node))
    try:
        expires = certificate_expires(authority.key_file(node, authority.SERVER))
        found.append(Finding("server certificate", expires > now, f"expires {expires:%Y-%m-%d}; `serve` renews it"))
    except Fair4FreeError as error:
        found.append(Finding("keys", False, str(error)))
    states = [f"{version} {release.status(node, version).state}" for version in release.versions(node)]
    servable = release.servable(node, int(now.timestamp()))
    text = ", ".join(states) or "none yet: run train, gate, approve"
    found.append(Finding("releases", bool(servable), text))
    waiting = [entry for entry in authority.enrolments(node) if entry.decision is authority.Decision.PENDING]
    found.append(Finding("enrolments", True, f"{len(waiting)} waiting for a decision"))
    found.append(Finding("limits", True, ", ".join(f"{name} {value:,}" for name, value in vars(LIMITS).items())))
    return found


def _private(node: Node) -> Finding:
    loose = [
        path.name for path in (*node.keys.glob("*"), node.records) if path.exists() and path.stat().st_mode & 0o077
    ]
    fix = f"others can read {', '.join(loose)}: run chmod 600" if loose else "readable by the owner only"
    return Finding("private files", not loose, fix)
