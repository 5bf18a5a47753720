"""gRPC channels to the owner, and its statuses as our errors."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import grpc

from consumer.study import Study
from protocol.calls import CLIENT_OPTIONS, RETRY_AFTER
from protocol.identity import certificate_fingerprint, key_fingerprint
from protocol.invitation import Invitation
from protocol.refusals import AGAIN, EndlessData
from protocol.transport import check_tls_1_3
from shared.errors import BadInput, Fair4FreeError, PolicyRefusal, Unreachable, VerificationFailure
from shared.limits import LIMITS

Answer = TypeVar("Answer")

CUT = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.INTERNAL)
"""What a broken connection looks like; the same call may go through later."""

RENEWAL = "; then run `fair4free enrol` to renew the certificate"

_TOO_LONG = "larger than max"
"""What gRPC says here of a message beyond our limit, under the status of a busy owner."""

_MEANS: Mapping[grpc.StatusCode, tuple[type[Fair4FreeError], str, str]] = {
    grpc.StatusCode.PERMISSION_DENIED: (
        PolicyRefusal,
        "the owner has not approved this key for this, or has withdrawn it",
        "run `fair4free enrol`, which collects a certificate for another role; if it stays so, give the owner your "
        "fingerprint and ask for approval in the role you need",
    ),
    grpc.StatusCode.NOT_FOUND: (
        PolicyRefusal,
        "the owner recalled the release while it was fetched, or its time ended then",
        "fetch again, for the newest that is left; or ask the owner, who recalled it",
    ),
    grpc.StatusCode.ALREADY_EXISTS: (
        BadInput,
        "the owner knows another witness key of this study, and takes no other",
        "restore identity/witness.key from its backup, or start a new study",
    ),
    grpc.StatusCode.OUT_OF_RANGE: (
        VerificationFailure,
        f"this machine's clock and the owner's differ by over {LIMITS.clock_skew_seconds} seconds",
        "check this machine's clock; if it is right, tell the owner",
    ),
    grpc.StatusCode.CANCELLED: (
        Unreachable,
        "the owner ended the call: it took too long, or approval was withdrawn meanwhile",
        "run it again, and the owner says which",
    ),
    grpc.StatusCode.DATA_LOSS: (
        VerificationFailure,
        "the owner found that what it holds is not what was signed",
        "tell the owner, whose log says what it is, and fetch again when that is mended",
    ),
    grpc.StatusCode.INTERNAL: (
        Unreachable,
        "the owner cannot read what it should serve, or its answer was spoilt on the way",
        "run it again; if it stays so, tell the owner, whose log says why",
    ),
}
"""What a status alone says, and what helps: problem and remedy."""


def mutual(study: Study) -> grpc.Channel:
    """To the release port, as the identity the owner approved.

    Raises `BadInput` for a key and certificate that are damaged or do not belong together: gRPC would abort the process
    or blame the network. Raises `PolicyRefusal` unless TLS 1.3 is the lowest.
    """
    invitation, key, certificate = study.invitation(), study.read_key(), study.read_certificate()
    if key_fingerprint(key) != certificate_fingerprint(certificate):
        raise BadInput(
            "is of another key than this study's",
            field=str(study.certificate),
            remedy="run `fair4free enrol` until the owner has approved",
        )
    credentials = grpc.ssl_channel_credentials(invitation.certificate_authority.encode(), key, certificate)
    return _channel(invitation.address, credentials)


def enrolment(invitation: Invitation) -> grpc.Channel:
    """To the enrolment port: the owner is authenticated by the invitation, we are not yet.

    Raises `PolicyRefusal` unless TLS 1.3 is the lowest.
    """
    credentials = grpc.ssl_channel_credentials(invitation.certificate_authority.encode())
    return _channel(invitation.enrolment_address, credentials)


def _channel(address: str, credentials: grpc.ChannelCredentials) -> grpc.Channel:
    check_tls_1_3()
    return grpc.secure_channel(address, credentials, options=CLIENT_OPTIONS, compression=grpc.Compression.NoCompression)


def told_to_wait(error: grpc.RpcError) -> float | None:
    """Seconds after which the owner said to come again; None if it said nothing, or more than is worth waiting."""
    if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    text = next((str(entry.value) for entry in error.trailing_metadata() or () if entry.key == RETRY_AFTER), "")
    seconds = int(text) / 1000 if text.isdecimal() and len(text) < 9 else LIMITS.retry_seconds + 1
    return seconds if seconds <= LIMITS.retry_seconds else None


def when_admitted(method: Callable[..., Answer], request: object) -> Answer:
    """Call, again when the line is cut or the owner says to come again: every method is safe to repeat."""
    return until_through(lambda: method(request, timeout=LIMITS.call_seconds), LIMITS.call_seconds)


def until_through(attempt: Callable[[], Answer], seconds: float, received: Callable[[], int] = lambda: 0) -> Answer:
    """The first attempt that succeeds. After a cut it waits twice as long each time, else as long as the owner says.

    Raises grpc's error of the last of `LIMITS.attempts` in a row which add nothing to what was `received`, in bytes, or
    of one that fails later than `seconds` after the first began, so that no owner keeps a client for ever.
    """
    until, failures, before = time.monotonic() + seconds, 0, received()
    while True:
        try:
            return attempt()
        except grpc.RpcError as error:
            nothing_new = received() == before
            failures, before = failures + 1 if nothing_new else 1, received()
            if error.code() is grpc.StatusCode.INTERNAL and nothing_new:  # the owner's own word, not a cut
                raise
            if error.code() in CUT:
                wait = LIMITS.first_wait_seconds * 2 ** (failures - 1)
            elif (wait := told_to_wait(error)) is not None:
                until += wait
            if wait is None or failures == LIMITS.attempts or time.monotonic() >= until:
                raise
        time.sleep(wait)


def failure(error: grpc.RpcError, address: str, renewal: str = RENEWAL) -> Fair4FreeError:
    """What a failed call means for the person at the keyboard; without a certificate `renewal` is empty."""
    code, details = error.code(), error.details() or ""
    if code in _MEANS:
        kind, problem, remedy = _MEANS[code]
        return kind(problem, field=address, remedy=remedy)
    if code is grpc.StatusCode.FAILED_PRECONDITION:
        return PolicyRefusal(
            f"the owner refuses this for now: {details}",
            field=address,
            remedy="ask the owner, who has to mend or decide that first; then run it again",
        )
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED and _TOO_LONG in details:
        return EndlessData("a longer message than any may be", field=address, remedy=AGAIN)
    if code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        return Unreachable(f"the owner is busy: {details}", field=address, remedy="try again in a minute")
    if code in CUT:
        return Unreachable(
            "the owner cannot be reached, or one side does not accept the other's certificate",
            field=address,
            remedy=f"check this machine's clock and that the owner serves at this address{renewal}",
        )
    return BadInput(f"the owner refused the call: {details}", field=address, remedy="check the arguments")
