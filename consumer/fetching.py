"""Fetching a release: update trust, verify the manifest, stream what it names, demand its place in the log, keep."""

from __future__ import annotations

from dataclasses import dataclass

import grpc

from consumer import channel, trust_update
from consumer.study import Study
from protocol.access import may_read
from protocol.artefacts import PAYLOAD, SIGNATURES, Artefact
from protocol.calls import ARTEFACT_KINDS
from protocol.entry import Approval
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from protocol.freshness import check_seen
from protocol.identity import certificate_role
from protocol.ledger_file import LedgerFile, VerifiedLedger, verify_ledger
from protocol.manifest import Manifest
from protocol.refusals import AGAIN, EndlessData
from protocol.root import follow
from protocol.trust import (
    LastSeen,
    LogProof,
    TrustedRelease,
    choose_version,
    verify_logged,
    verify_manifest,
    verify_release,
)
from shared import folder
from shared.errors import BadInput, VerificationFailure
from shared.limits import LIMITS
from shared.progress import Progress, quiet

LOG_PROOF = "log_proof.json"


@dataclass(frozen=True)
class Fetched:
    """A verified release and how many bytes of the five things were received for it, as the owner logs them."""

    release: TrustedRelease
    received: int


def fetch(
    study: Study,
    version: int | None,
    now: int,
    progress: Progress = quiet,
) -> Fetched:
    """Fetch release `version`, or the newest. No part of it is kept unless all of it verifies.

    Raises a `VerificationFailure` for bytes that are not the owner's, or where the owner finds that its own are not,
    `PolicyRefusal` when not let in or where a release was recalled and none is newer, `BadInput` for a version that is
    older than what the study holds or that the owner does not list and for a damaged key or certificate, and
    `Unreachable` when cut off for good or while another fetch runs. Where the release is kept and only the log is not
    countersigned, the error says so.
    """
    address = study.invitation().address
    with study.locked(), channel.mutual(study) as open_channel:
        stub = service.ReleaseServiceStub(open_channel)  # type: ignore[no-untyped-call]
        try:
            witness = trust_update.witness_key(study)  # who cannot open it hears so before anything changes
            trust_update.follow_roots(study, stub)
            try:
                fetched, last_seen = _fetch(study, stub, version, now, progress)
            except VerificationFailure:  # what was signed by keys that were replaced meanwhile is no forgery
                if not trust_update.have_keys_changed(study, stub):
                    raise
                fetched, last_seen = _fetch(study, stub, version, now, progress)
        except grpc.RpcError as error:
            raise channel.failure(error, address) from error
        try:
            trust_update.countersign(study, stub, last_seen, witness)
        except grpc.RpcError as error:
            found = channel.failure(error, address)
            raise type(found)(
                f"release {fetched.release.manifest.version} is verified and kept, only the log it is in is not yet "
                f"countersigned: {found.problem}",
                field=found.field,
                remedy=f"{found.remedy}; then fetch again, which countersigns",
            ) from error
    return fetched


def _fetch(
    study: Study, stub: service.ReleaseServiceStub, version: int | None, now: int, progress: Progress
) -> tuple[Fetched, LastSeen]:
    """A release that verifies under the newest root followed, and what the study has seen with it; both are kept."""
    updated = trust_update.update(study, stub, now)
    version = choose_version(updated.freshness, updated.last_seen, version)
    answer = channel.when_admitted(stub.GetManifest, wire.GetManifestRequest(version=version))
    manifest = verify_manifest(
        updated.root,
        answer.manifest,
        answer.signatures,
        version=version,
        last_seen=updated.last_seen,
        now=now,
    )
    updated.freshness.check_listed(version, answer.manifest)
    kinds = readable(study)
    total = sum(manifest.artefacts[kind].length for kind in kinds)
    artefacts: dict[Artefact, bytes] = {}
    for kind in kinds:
        progress(sum(map(len, artefacts.values())), total, kind.value)
        artefacts[kind] = _receive(stub, manifest, kind)
    trusted = verify_release(manifest, artefacts, kinds)
    progress(total, total, "verified")
    last_seen, proof = trust_update.prove_logged(stub, updated, manifest)
    keep(study, trusted, answer.signatures, proof, last_seen)
    return Fetched(trusted, len(answer.manifest) + total), last_seen


def keep(study: Study, trusted: TrustedRelease, signatures: bytes, proof: LogProof, last_seen: LastSeen) -> None:
    """Write a verified release and only then remember it: until then the one before counts."""
    manifest = trusted.manifest
    place = study.release(manifest.version)
    files = {kind.filename: data for kind, data in trusted.artefacts.items()}
    files |= {Artefact.MANIFEST.filename: manifest.to_bytes(), SIGNATURES: signatures, LOG_PROOF: proof.to_bytes()}
    if place.exists():
        for name, data in files.items():  # fetched before, perhaps under older keys or as an auditor
            folder.write(place / name, data)
    else:
        folder.create(place, files)
    study.remember(last_seen.model_copy(update={"release": manifest.version, "manifest_sha256": manifest.digest}))


@dataclass(frozen=True)
class Verified:
    """The release last accepted, and who approved it, as the egress log proves."""

    release: TrustedRelease
    approval: Approval


def verify(study: Study, now: int) -> Verified:
    """Verify the last accepted release again, and its place in the log, from disk and without a network."""
    seen = study.last_seen()
    if not seen.release:
        raise BadInput("nothing was fetched yet", field=str(study.folder), remedy="run `fair4free fetch`")
    check_seen(seen.freshness, now)  # by a clock that is behind, what has expired is in date
    place = study.release(seen.release)
    kinds = readable(study)
    files = {
        name: folder.read(place / name, "run `fair4free fetch` again")
        for name in (*(kind.filename for kind in (Artefact.MANIFEST, *kinds)), SIGNATURES, LOG_PROOF)
    }
    roots = follow(study.invitation().trusted_root(), seen.roots)
    manifest = verify_manifest(
        roots[-1],
        files[Artefact.MANIFEST.filename],
        files[SIGNATURES],
        version=seen.release,
        last_seen=seen,
        now=now,
    )
    trusted = verify_release(manifest, {kind: files[kind.filename] for kind in kinds}, kinds)
    proof = LogProof.from_bytes(files[LOG_PROOF])  # kept as it was accepted: the log's key may be a newer one by now
    return Verified(trusted, verify_logged(proof.made_under(roots), manifest, proof))


def verify_exported(study: Study, data: bytes) -> VerifiedLedger:
    """Hold an exported ledger to the newest root and checkpoint this study has seen."""
    seen = study.last_seen()
    if not seen.checkpoint:
        raise BadInput("no checkpoint was seen yet", field=str(study.folder), remedy="run `fair4free fetch`")
    return verify_ledger(LedgerFile.from_bytes(data), study.invitation().trusted_root(), seen)


def readable(study: Study) -> tuple[Artefact, ...]:
    """What the manifest names and this study's role may read."""
    role = certificate_role(study.read_certificate())
    return tuple(kind for kind in PAYLOAD if may_read(role, kind))


def _receive(stub: service.ReleaseServiceStub, manifest: Manifest, kind: Artefact) -> bytes:
    """All bytes of one artefact, going on where a cut transfer stopped; never one more than announced."""
    expected = manifest.artefacts[kind].length
    data = bytearray()

    def rest() -> bytes:
        request = wire.StreamArtefactRequest(version=manifest.version, kind=ARTEFACT_KINDS[kind], offset=len(data))
        for chunk in stub.StreamArtefact(request, timeout=LIMITS.stream_seconds):
            if len(data) + len(chunk.data) > expected:
                raise EndlessData("more bytes than the manifest says", field=kind, remedy=AGAIN)
            data.extend(chunk.data)
        return bytes(data)

    return channel.until_through(rest, LIMITS.transfer_seconds, lambda: len(data))
