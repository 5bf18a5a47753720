"""Who may call what and read which artefact: tables. What is in none is denied."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from protocol.artefacts import Artefact


class PartyRole(StrEnum):
    """What a person let a consumer in as.

    An analyst makes synthetic data. An auditor checks what left and what was promised about it, and holds
    neither a decoder nor statistics.
    """

    ANALYST = "analyst"
    AUDITOR = "auditor"


_EVERY_ROLE = frozenset({PartyRole.ANALYST, PartyRole.AUDITOR})

RELEASE_METHODS: Mapping[str, frozenset[PartyRole]] = {
    "/fair4free.v1.ReleaseService/GetRoot": _EVERY_ROLE,
    "/fair4free.v1.ReleaseService/GetFreshness": _EVERY_ROLE,
    "/fair4free.v1.ReleaseService/GetLogProof": _EVERY_ROLE,
    "/fair4free.v1.ReleaseService/Countersign": _EVERY_ROLE,
    "/fair4free.v1.ReleaseService/GetManifest": _EVERY_ROLE,
    "/fair4free.v1.ReleaseService/StreamArtefact": _EVERY_ROLE,
    "/grpc.health.v1.Health/Check": _EVERY_ROLE,
}
"""The release port: which roles may call a method."""

ENROLMENT_METHODS = frozenset({"/fair4free.v1.EnrolmentService/Enrol", "/grpc.health.v1.Health/Check"})
"""The enrolment port: what a caller whom nobody knows yet may call."""

READABLE: Mapping[PartyRole, frozenset[Artefact]] = {
    PartyRole.ANALYST: frozenset(Artefact),
    PartyRole.AUDITOR: frozenset({Artefact.MANIFEST, Artefact.CARD}),
}
"""Which artefacts a role may read."""


def may_call(role: PartyRole | None, method: str) -> bool:
    """Whether a caller of the release port, None if not approved, may call this method."""
    return role in RELEASE_METHODS.get(method, frozenset())


def may_read(role: PartyRole | None, artefact: Artefact) -> bool:
    """Whether a caller of the release port, None if not approved, may read this artefact."""
    return role is not None and artefact in READABLE.get(role, frozenset())
