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


RELEASE_SERVICE = "fair4free.v1.ReleaseService"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"

RELEASE_METHODS = frozenset(
    {
        f"/{RELEASE_SERVICE}/GetRoot",
        f"/{RELEASE_SERVICE}/GetFreshness",
        f"/{RELEASE_SERVICE}/GetLogProof",
        f"/{RELEASE_SERVICE}/Countersign",
        f"/{RELEASE_SERVICE}/GetManifest",
        f"/{RELEASE_SERVICE}/StreamArtefact",
        HEALTH_CHECK,
    }
)
"""The release port: what a caller in any role may call."""

ENROLMENT_METHODS = frozenset({"/fair4free.v1.EnrolmentService/Enrol", HEALTH_CHECK})
"""The enrolment port: what a caller whom nobody knows yet may call."""

READABLE: Mapping[PartyRole, frozenset[Artefact]] = {
    PartyRole.ANALYST: frozenset(Artefact),
    PartyRole.AUDITOR: frozenset({Artefact.MANIFEST, Artefact.CARD}),
}
"""Which artefacts a role may read; there is no other role."""


def may_call(role: PartyRole | None, method: str) -> bool:
    """Whether a caller of the release port, None if not approved, may call this method."""
    return role in READABLE and method in RELEASE_METHODS


def may_read(role: PartyRole | None, artefact: Artefact) -> bool:
    """Whether a caller of the release port, None if not approved, may read this artefact."""
    return role is not None and artefact in READABLE.get(role, frozenset())
