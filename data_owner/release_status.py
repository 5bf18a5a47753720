"""Where a release stands, and which steps its life has: draft -> measured -> approved -> served, or denied.

Functions of values; `release` reads and writes them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from enum import StrEnum

from pydantic import Field

from data_owner.people import named, reasoned
from data_owner.settings import AttackLimits
from shared.errors import PolicyRefusal
from shared.frozen import Frozen


class State(StrEnum):
    DRAFT = "draft"
    MEASURED = "measured"
    APPROVED = "approved"
    SERVED = "served"
    DENIED = "denied"


OVERRIDES = 2
"""Different people who must override what attacks found before it blocks no more."""

SERVABLE = (State.APPROVED, State.SERVED)

TRANSITIONS: Mapping[State, tuple[State, ...]] = {
    State.DRAFT: (State.MEASURED, State.DENIED),
    State.MEASURED: (State.MEASURED, State.APPROVED, State.DENIED),
    State.APPROVED: (State.SERVED, State.DENIED),
    State.SERVED: (State.DENIED,),
    State.DENIED: (),
}

AFTER_REFUSAL = "train again, or change the policy in owner.toml and run gate again"

NEXT: Mapping[State, str] = {
    State.DRAFT: "run `fair4free-owner gate` first",
    State.MEASURED: "approve or deny it",
    State.APPROVED: "serve it, or deny it",
    State.SERVED: "deny it to take it out",
    State.DENIED: "train a new release",
}


class Status(Frozen):
    """Where a release stands. `by` is the person who decided, `failures` what the gate found against it.

    `exceeded` says what of the attacks blocks it, which only two people together may override; `findings` is the digest
    of what attacks found, for which an override holds, `card_sha256` that of the card it was written with,
    `made_sha256` that of what training made, `teacher_sha256` that of encoder and history, and `rows_sha256`, empty
    where there is none, that of the file about its rows; these stay here. `earlier` says how its records compare with
    those of releases approved before. `limits` judged what attacks found. `charges` is how many the privacy budget's
    ledger held then, 0 without a budget.
    """

    state: State
    at: int
    by: str = ""
    reason: str = ""
    failures: tuple[str, ...] = ()
    exceeded: tuple[str, ...] = ()
    findings: str = Field(default="", max_length=64)
    limits: AttackLimits | None = None
    card_sha256: str = Field(default="", max_length=64)
    made_sha256: str = Field(default="", max_length=64)
    teacher_sha256: str = Field(default="", max_length=64)
    rows_sha256: str = Field(default="", max_length=64)
    earlier: str = ""
    settings_sha256: str = Field(default="", max_length=64)
    charges: int = Field(default=0, ge=0)
    policy_id: str = Field(default="", max_length=64)
    records: int = Field(default=0, ge=0)


def step(
    status: Status,
    to: State,
    *,
    at: int,
    by: str = "",
    reason: str = "",
    failures: tuple[str, ...] = (),
    overridden_by: Collection[str] = (),
) -> Status:
    """The next status. `overridden_by`: different people who override what attacks found.

    Raises `PolicyRefusal` for a step that the life of a release does not have and for an approval that the gate's
    failures or attacks without two overrides stand against, `BadInput` without a name or a reason.
    """
    if to not in TRANSITIONS[status.state]:
        raise PolicyRefusal(
            f"a release that is {status.state} cannot become {to}",
            field="release",
            remedy=NEXT[status.state],
        )
    if to in (State.APPROVED, State.DENIED):
        by = named(by)
    if to is State.DENIED:
        reason = reasoned(reason)
    against = {"failures": status.failures, "exceeded": status.exceeded}
    if to is State.APPROVED and status.failures:
        raise PolicyRefusal(
            "the gate refused this release: " + "; ".join(status.failures),
            field="release",
            remedy=AFTER_REFUSAL,
            details=against,
        )
    if to is State.APPROVED and status.exceeded and len(overridden_by) < OVERRIDES:
        raise PolicyRefusal(
            "attacks block this release: " + "; ".join(status.exceeded),
            field="release",
            remedy=_after_block(overridden_by),
            details=against,
        )
    failures = failures if to is State.MEASURED else status.failures
    return status.model_copy(update={"state": to, "at": at, "by": by, "reason": reason, "failures": failures})


def check_policy(status: Status, policy_id: str) -> None:
    """Raises `PolicyRefusal` if the policy is no longer the one that the release was measured under."""
    if status.policy_id != policy_id:
        raise PolicyRefusal(
            "the policy changed since this release was measured",
            field="owner.toml",
            remedy="put the policy in owner.toml back as it was, or, if the release is not approved yet, run gate "
            "again",  # what is out is not measured again
        )


def next_step(of: Status, overridden_by: Collection[str] = ()) -> str:
    """What a person does about a release that is not served. `overridden_by`: who overrode what attacks found."""
    if of.state in SERVABLE:
        return "it has ended: run train, gate, approve"
    if of.state is State.MEASURED and of.failures:
        return f"the gate refused it: {AFTER_REFUSAL}"
    if of.state is State.MEASURED and of.exceeded and len(overridden_by) < OVERRIDES:
        return f"attacks block it: {_after_block(overridden_by)}"
    return NEXT[of.state]


def _after_block(overridden_by: Collection[str]) -> str:
    return f"train again, or let {OVERRIDES} people `fair4free-owner override` it ({len(overridden_by)} did)"
