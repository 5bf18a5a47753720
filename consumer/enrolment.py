"""Enrolment: a key is made here and stays here; only a request for a certificate is sent."""

from __future__ import annotations

import math
import random
import time
from dataclasses import dataclass
from pathlib import Path

import grpc

from consumer import channel
from consumer.study import Study
from protocol import identity
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from protocol.invitation import Invitation
from protocol.root import follow
from shared import folder
from shared.errors import BadInput, PolicyRefusal, Unreachable, VerificationFailure
from shared.limits import LIMITS
from shared.printable import is_one_line


@dataclass(frozen=True)
class Enrolled:
    """`state` is "pending" or "approved"; the fingerprint is what the owner is told by telephone."""

    state: str
    fingerprint: str
    invitation_fingerprint: str


def enrol(study: Study, invitation: Path | None, name: str, wait_seconds: float = 0.0) -> Enrolled:
    """Ask, or ask again, for this study's key to be let in, and keep the certificate once there is one.

    A first `invitation` is kept at once, another once the owner has answered at its enrolment address.
    Raises `BadInput` for a name that cannot be shown or a wait that is none, `PolicyRefusal` if the owner denied it or
    has too many who wait, `VerificationFailure` if the certificate is for another key or the invitation is
    not whole or not of the keys this study trusts, and `Unreachable` if the owner is not there at first or when
    `wait_seconds` are over.
    """
    if not 0.0 <= wait_seconds < math.inf:  # NaN would never be over, and asks without a pause
        raise BadInput("not a time to wait", field="--wait", remedy="give seconds, 0 or more")
    if not name.strip() or not is_one_line(name):
        raise BadInput("not a name that can be shown", field="--name", remedy="give your name in plain letters")
    trusted = study.invitation() if invitation is None else _accepted(study, invitation)
    first = not study.invitation_file.is_file()
    if first:
        if not study.folder.exists():  # another may hold what git is to keep
            folder.hide_from_git(study.folder)
        folder.write(study.invitation_file, trusted.to_bytes())
    request = _request(study, name)
    fingerprint = identity.request_fingerprint(request)
    folder.write(study.fingerprint, fingerprint.encode())
    until = time.monotonic() + wait_seconds
    response = _send(trusted, request)
    if invitation is not None and not first:
        folder.write(study.invitation_file, trusted.to_bytes())
    while response.state == wire.EnrolResponse.STATE_PENDING:
        left = until - time.monotonic()
        if left <= 0:
            return Enrolled("pending", fingerprint, trusted.fingerprint)
        pause = LIMITS.enrolment_poll_seconds * random.uniform(1.0, 1.5)  # they who began together do not go on so
        time.sleep(min(pause, left))
        try:
            response = _send(trusted, request)
        except Unreachable:  # restarted, or busy: the request still waits there
            if time.monotonic() >= until:
                raise
    if response.state != wire.EnrolResponse.STATE_APPROVED:
        raise PolicyRefusal("the owner denied this request", field="enrol", remedy="ask the owner why")
    _keep(study, response.certificate, fingerprint)
    return Enrolled("approved", fingerprint, trusted.fingerprint)


def _request(study: Study, name: str) -> bytes:
    """A request for this study's key, which is made when there is none."""
    if not study.key.is_file():
        with study.locked():
            if not study.key.is_file():
                folder.write(study.key, identity.new_key(), folder.PRIVATE)
    return identity.new_request(study.read_key(), name)


def _accepted(study: Study, path: Path) -> Invitation:
    """What is offered, if this study may take it: but for the first it takes the addresses alone, at which the owner
    has to show the authority that is trusted, and its root of trust changes only by rotation."""
    remedy = "give the path of the owner's invitation.json"
    offered = Invitation.from_bytes(folder.read(path, remedy, LIMITS.invitation_bytes))
    offered.trusted_root()
    known = study.invitation_file.is_file()
    if known and not _may_be_known(study, offered):
        raise VerificationFailure(
            "names other keys than the invitation this study trusts",
            field=str(path),
            remedy="run `fair4free enrol` without it, which asks the owner this study trusts; if the owner says by "
            "telephone that it is theirs, start a new study with it",
        )
    if known:  # what was verified since the first root still leads back to it
        kept = study.invitation()
        offered = offered.model_copy(update={"root": kept.root, "root_signatures": kept.root_signatures})
    return offered


def _may_be_known(study: Study, offered: Invitation) -> bool:
    """Whether it names the authority this study trusts, and a root that it has followed or may yet: a newer one."""
    kept, root = study.invitation(), offered.trusted_root()
    if (offered.node, offered.certificate_authority) != (kept.node, kept.certificate_authority):
        return False
    followed = follow(kept.trusted_root(), study.last_seen().roots)
    return root in followed or root.version > followed[-1].version


def _send(invitation: Invitation, request: bytes) -> wire.EnrolResponse:
    with channel.enrolment(invitation) as open_channel:
        stub = service.EnrolmentServiceStub(open_channel)  # type: ignore[no-untyped-call]
        try:
            return channel.when_admitted(stub.Enrol, wire.EnrolRequest(certificate_request=request))
        except grpc.RpcError as error:
            raise channel.failure(error, invitation.enrolment_address, renewal="") from error


def _keep(study: Study, certificate: bytes, fingerprint: str) -> None:
    if identity.certificate_fingerprint(certificate) != fingerprint:
        raise VerificationFailure("certificate for another key", field="enrol", remedy="enrol again")
    folder.write(study.certificate, certificate)
