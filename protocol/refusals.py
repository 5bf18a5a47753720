"""Every way in which bytes from the other side are refused, each attack under its own name.

VerificationFailure
├── NotCanonical      another encoding than the only one (RFC 8785, C2SP notes), or none at all
├── UnknownField      a field that no rule covers
├── DuplicateKey      one key counted twice
├── UnderThreshold    too few of the right keys signed
├── BadSignature      a known key's signature is not over these bytes
├── WrongNode         another node's document, or another version than asked for
├── Expired           its time is over, or has not come
├── Freeze            an old state is shown as the present one
├── Rollback          older than what was already seen
├── FastForward       a version that cannot have been reached yet
├── MixAndMatch       parts that are each genuine but do not belong together
├── Equivocation      two different documents under one version, or one that the log does not have
├── EndlessData       more bytes than announced or allowed
├── WrongLength       fewer bytes, or other parts, than announced
├── WrongDigest       other bytes than announced
├── NotLogged         the egress log does not hold what it must
├── Rewritten         the egress log is not a continuation of the one already seen
└── RuleBroken        the egress log holds something that was not allowed
"""

from __future__ import annotations

from shared.errors import VerificationFailure

AGAIN = "fetch again; if it stays so, tell the owner"
ASK_OWNER = "do not use it; ask the owner, by telephone, why it is served"
CLOCK = "check this machine's clock; if it is right, tell the owner that theirs is or was ahead"


class NotCanonical(VerificationFailure):
    """Another encoding than the only one."""


class UnknownField(VerificationFailure):
    """A field that no rule covers."""


class DuplicateKey(VerificationFailure):
    """One key counted twice."""


class UnderThreshold(VerificationFailure):
    """Too few of the right keys signed."""


class BadSignature(VerificationFailure):
    """A known key's signature is not over these bytes."""


class WrongNode(VerificationFailure):
    """A document of another node, or of another version than asked for."""


class Expired(VerificationFailure):
    """Its time is over, or has not come."""


class Freeze(VerificationFailure):
    """An old state is shown as the present one."""


class Rollback(VerificationFailure):
    """Older than what was already seen."""


class FastForward(VerificationFailure):
    """A version that cannot have been reached yet."""


class MixAndMatch(VerificationFailure):
    """Parts that are each genuine but do not belong together."""


class Equivocation(VerificationFailure):
    """Two different documents under one version, or one that the log does not have."""


class EndlessData(VerificationFailure):
    """More bytes than announced or allowed."""


class WrongLength(VerificationFailure):
    """Fewer bytes, or other parts, than announced."""


class WrongDigest(VerificationFailure):
    """Other bytes than announced."""


class NotLogged(VerificationFailure):
    """The egress log does not hold what it must."""


class Rewritten(VerificationFailure):
    """The egress log is not a continuation of the one already seen."""


class RuleBroken(VerificationFailure):
    """The egress log holds something that was not allowed."""
