"""Bringing what a study trusts up to date: roots one by one, what is fresh, and how the egress log has grown.

A thin shell over `protocol`: it calls, has what comes verified and keeps it. Of its own it only limits how much comes.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

import grpc
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consumer import channel
from consumer.study import Study
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from protocol.freshness import Freshness, verify_freshness
from protocol.ledger_file import witness_name
from protocol.manifest import Manifest
from protocol.note import Note
from protocol.refusals import ASK_OWNER, EndlessData, Freeze
from protocol.root import Root, check_in_date, rotate
from protocol.trust import LastSeen, LogProof, verify_growth, verify_logged
from shared import clock, keyring
from shared.errors import BadInput, Unreachable, VerificationFailure
from shared.limits import LIMITS
from shared.sealed_key import WrongPassphrase


@dataclass(frozen=True)
class Updated:
    """What is trusted now, and what it was verified against."""

    last_seen: LastSeen
    root: Root
    freshness: Freshness


def update(study: Study, stub: service.ReleaseServiceStub, now: int) -> Updated:
    """Take the owner's freshness statement under the newest root followed (TUF 5.4), and keep it once it is verified.

    Raises a `VerificationFailure`, or grpc's error when the line is cut.
    """
    last_seen = study.last_seen()
    root = last_seen.trusted_root()
    check_in_date(root, now)
    answer = channel.when_admitted(stub.GetFreshness, wire.GetFreshnessRequest())
    freshness = verify_freshness(root, answer.freshness, answer.signatures, last_version=last_seen.freshness, now=now)
    last_seen = last_seen.model_copy(update={"freshness": freshness.version})
    study.remember(last_seen)
    return Updated(last_seen, root, freshness)


def prove_logged(stub: service.ReleaseServiceStub, updated: Updated, manifest: Manifest) -> tuple[LastSeen, LogProof]:
    """The proof that the release's approval is in the egress log, which continues the one last seen."""
    request = wire.GetLogProofRequest(last_size=updated.last_seen.logged().size, version=manifest.version)
    answer = channel.when_admitted(stub.GetLogProof, request)
    if max(len(answer.consistency), len(answer.inclusion)) > LIMITS.proof_hashes:
        raise EndlessData("more hashes than any log needs", field="log", remedy=ASK_OWNER)
    verify_growth(updated.root, updated.last_seen, answer.checkpoint, list(answer.consistency))
    proof = LogProof.of(answer.checkpoint, answer.approval, answer.index, answer.inclusion)
    verify_logged(updated.root, manifest, proof)
    return updated.last_seen.model_copy(update={"checkpoint": proof.checkpoint}), proof


def countersign(study: Study, stub: service.ReleaseServiceStub, last_seen: LastSeen, key: Ed25519PrivateKey) -> None:
    """Tell the owner, so that anyone can hold it to it, which log this study has seen and kept."""
    note = Note.from_bytes(last_seen.checkpoint.encode())
    # the time of this call, which the owner compares with its own: a fetch over a slow line began long before
    cosigned = note.cosigned(witness_name(study.party()), key, clock.now()).to_bytes()
    request = wire.CountersignRequest(checkpoint=cosigned, key=key.public_key().public_bytes_raw())
    channel.when_admitted(stub.Countersign, request)


def follow_roots(study: Study, stub: service.ReleaseServiceStub) -> None:
    """Follow the owner's roots one by one (TUF 5.3); keeps each once it is verified.

    Raises a `VerificationFailure`, or grpc's error when the line is cut.
    """
    last_seen = study.last_seen()
    root = last_seen.trusted_root()
    for _ in range(LIMITS.root_rotations):
        try:
            answer = channel.when_admitted(stub.GetRoot, wire.GetRootRequest(version=root.version + 1))
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                return
            raise
        root = rotate(root, answer.root, answer.signatures)
        last_seen = last_seen.after_rotation(answer.root, answer.signatures)
        study.remember(last_seen)  # at once: what is refused later does not take it back (TUF 5.3.8)
    raise Freeze(
        "the owner's roots do not come to an end",
        field="root",
        remedy="fetch again, which goes on where this stopped; if it stays so, ask the owner by telephone",
    )


def have_keys_changed(study: Study, stub: service.ReleaseServiceStub) -> bool:
    """Whether the owner has a newer root than was followed, which is followed then. One that cannot be asked, or
    offers what the last root does not allow, has none."""
    before = study.last_seen().roots
    with suppress(grpc.RpcError, VerificationFailure):
        follow_roots(study, stub)
    return study.last_seen().roots != before


def witness_key(study: Study) -> Ed25519PrivateKey:
    """The key this study countersigns with; made when it is first needed. Raises `BadInput` if it cannot be opened,
    `Unreachable` if it is gone."""
    path = study.witness_key
    if not path.is_file():
        if study.last_seen().checkpoint:  # what it countersigned, if anything, binds it: the owner takes no other then
            raise Unreachable("is gone", field=str(path), remedy="restore it from its backup, or start a new study")
        keyring.create(path, Ed25519PrivateKey.generate(), keyring.new_passphrase_of(path.parent))
    try:
        return keyring.read(path, keyring.passphrase_of(path.parent))
    except BadInput as error:
        remedy = f"{error.remedy}, or start a new study"
        if isinstance(error, WrongPassphrase) and keyring.given() and (path.parent / keyring.BESIDE).exists():
            remedy = f"unset {keyring.VARIABLE} and {keyring.FILE_VARIABLE}: this study has a passphrase of its own"
        raise BadInput(error.problem, field=error.field, remedy=remedy) from error
