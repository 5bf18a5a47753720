"""Digests of what a release is made from and judged by: equal as long as nothing of that changed."""

from __future__ import annotations

import hashlib

from data_owner.node import Node
from data_owner.settings import OwnerSettings
from shared import folder


def teacher_digest(node: Node) -> str:
    """SHA-256 of the encoder and the history of training, hex."""
    parts = (folder.read(path, "train again") for path in (node.encoder, node.history))
    return hashlib.sha256(b"".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def settings_digest(node: Node, settings: OwnerSettings) -> str:
    """SHA-256, hex, of what a trained teacher depends on: all settings but the policy, of that the minimum count and
    `small_groups`, the records and, under a budget, what was drawn from them too."""
    parts = [
        settings.model_dump_json(exclude={"policy"}).encode(),
        f"{settings.policy.minimum_count} {settings.policy.small_groups}".encode(),
        folder.read(node.records, "restore records.parquet from its backup"),
    ]
    if settings.privacy is not None:
        drawn = node.microdata(microdata_key(node, settings))
        parts.append(drawn.read_bytes() if drawn.is_file() else b"")
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def microdata_key(node: Node, settings: OwnerSettings) -> str:
    """What microdata is of: columns, the unit of privacy and the records, hex. It stays so whatever the budget is."""
    unit = {"person", "rows_per_person"}
    parts = (
        settings.model_dump_json(include={"columns": True, "positive": True, "privacy": unit}).encode(),
        folder.read(node.records, "restore records.parquet from its backup"),
    )
    return hashlib.sha256(b"\n".join(parts)).hexdigest()


def policy_id(settings: OwnerSettings) -> str:
    """SHA-256 of the policy, hex."""
    return hashlib.sha256(settings.policy.model_dump_json().encode()).hexdigest()
