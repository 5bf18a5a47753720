"""Fetching a release: list, verify the manifest, stream what it names, verify, and only then keep it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import grpc

from consumer import channel
from consumer.study import Study
from protocol.access import may_read
from protocol.artefacts import PAYLOAD, Artefact
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from protocol.identity import certificate_role
from protocol.manifest import Manifest
from protocol.trust import (
    LastSeen,
    TrustedRelease,
    WrongLength,
    verify_artefact,
    verify_manifest,
    verify_release,
)
from shared import folder
from shared.errors import BadInput
from shared.limits import LIMITS

KINDS = {
    Artefact.DECODER: wire.ARTEFACT_KIND_DECODER,
    Artefact.STATISTICS: wire.ARTEFACT_KIND_STATISTICS,
    Artefact.SCHEMA: wire.ARTEFACT_KIND_SCHEMA,
    Artefact.CARD: wire.ARTEFACT_KIND_CARD,
}
SIGNATURE = "manifest.sig"
RETRY_SECONDS = 0.2

Progress = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Fetched:
    """A verified release and how many bytes of artefacts were received for it."""

    release: TrustedRelease
    received: int


def fetch(
    study: Study,
    version: int | None,
    now: int,
    progress: Progress = lambda step, total, message: None,
) -> Fetched:
    """Fetch release `version`, or the newest. Nothing is kept unless all of it verifies.

    Raises a `VerificationFailure` for bytes that are not the owner's, `Unreachable` when cut off for good.
    """
    invitation = study.invitation()
    with channel.mutual(study) as open_channel:
        stub = service.ReleaseServiceStub(open_channel)  # type: ignore[no-untyped-call]
        try:
            if version is None:
                version = _newest(stub)
            wanted = wire.GetManifestRequest(version=version)
            answer = channel.when_admitted(lambda: stub.GetManifest(wanted, timeout=LIMITS.call_seconds))
        except grpc.RpcError as error:
            raise channel.failure(error, invitation.address) from error
        manifest = verify_manifest(
            answer.manifest,
            answer.signature,
            key=invitation.key,
            node=invitation.node,
            version=version,
            last_seen=study.last_seen(),
            now=now,
        )
        kinds = _readable(study)
        total = sum(manifest.artefacts[kind].length for kind in kinds)
        artefacts: dict[Artefact, bytes] = {}
        for kind in kinds:
            progress(sum(map(len, artefacts.values())), total, kind.value)
            data = _receive(stub, manifest, kind, invitation.address)
            artefacts[kind] = verify_artefact(manifest, kind, data)
        progress(total, total, "verified")
    trusted = verify_release(manifest, artefacts, kinds)
    place = study.release(version)
    if not place.exists():
        files = {kind.filename: data for kind, data in artefacts.items()}
        files |= {Artefact.MANIFEST.filename: answer.manifest, SIGNATURE: answer.signature}
        folder.create(place, files)
    study.remember(LastSeen.of(manifest))
    return Fetched(trusted, total)


def verify(study: Study, now: int) -> TrustedRelease:
    """Verify the last accepted release again, from disk and without a network."""
    seen = study.last_seen()
    if seen is None:
        raise BadInput("nothing was fetched yet", field=str(study.folder), remedy="run `fair4free fetch`")
    invitation = study.invitation()
    place = study.release(seen.version)
    kinds = _readable(study)
    files = {
        name: folder.read(place / name, "run `fair4free fetch` again")
        for name in (*(kind.filename for kind in (Artefact.MANIFEST, *kinds)), SIGNATURE)
    }
    manifest = verify_manifest(
        files[Artefact.MANIFEST.filename],
        files[SIGNATURE],
        key=invitation.key,
        node=invitation.node,
        version=seen.version,
        last_seen=seen,
        now=now,
    )
    return verify_release(manifest, {kind: files[kind.filename] for kind in kinds}, kinds)


def _readable(study: Study) -> tuple[Artefact, ...]:
    """What the manifest names and this study's role may read."""
    certificate = folder.read(study.certificate, "run `fair4free enrol` until the owner has approved")
    role = certificate_role(certificate)
    return tuple(kind for kind in PAYLOAD if may_read(role, kind))


def _newest(stub: service.ReleaseServiceStub) -> int:
    request = wire.ListReleasesRequest()
    versions = channel.when_admitted(lambda: stub.ListReleases(request, timeout=LIMITS.call_seconds)).versions
    if not versions:
        raise BadInput("the owner serves no release", field="version", remedy="ask the owner to approve one")
    return int(max(versions))


def _receive(stub: service.ReleaseServiceStub, manifest: Manifest, kind: Artefact, address: str) -> bytes:
    """All bytes of one artefact, going on where a cut transfer stopped; never one more than announced."""
    expected = manifest.artefacts[kind].length
    data = bytearray()
    for attempt in range(LIMITS.attempts):
        request = wire.StreamArtefactRequest(version=manifest.version, kind=KINDS[kind], offset=len(data))
        try:
            for chunk in stub.StreamArtefact(request, timeout=LIMITS.stream_seconds):
                if len(data) + len(chunk.data) > expected:
                    raise WrongLength("more bytes than the manifest says", field=kind, remedy="tell the owner")
                data += chunk.data
            return bytes(data)
        except grpc.RpcError as error:
            wait = RETRY_SECONDS * 2**attempt if error.code() in channel.CUT else channel.told_to_wait(error)
            if wait is None or attempt == LIMITS.attempts - 1:
                raise channel.failure(error, address) from error
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")
