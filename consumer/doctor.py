"""What is in place at a study and what to do about what is not."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from consumer import channel, fetching, trust_update
from consumer.distillation import distillation_of, distilled_from
from consumer.study import Study
from protocol.access import RELEASE_SERVICE
from protocol.artefacts import Artefact
from protocol.freshness import check_seen
from protocol.identity import (
    certificate_begins,
    certificate_expires,
    certificate_role,
    key_fingerprint,
    needs_renewal,
)
from shared import folder, keyring
from shared.clock import moment
from shared.diagnosis import Diagnosis, examine
from shared.errors import BadInput, Unreachable
from shared.limits import LIMITS


def diagnose(study: Study) -> list[Diagnosis]:
    """Every check, in the order a person would fix them. Raises `BadInput` where there is no study."""
    study.check()
    now = moment()

    def authority_ends() -> datetime:
        return certificate_expires(study.invitation().certificate_authority.encode())

    def invitation() -> str:
        found = study.invitation()
        return f"fingerprint {found.fingerprint}, of {found.node} at {found.address}"  # first: a name can say anything

    def authority() -> str:
        ends = authority_ends()
        if now >= ends:
            remedy = "ask the owner for the new node's invitation, and start a new study with it"
            raise Unreachable(f"the owner's ended {ends:%Y-%m-%d}", field="certificate authority", remedy=remedy)
        return f"the owner's, until {ends:%Y-%m-%d}"

    def root() -> str:
        found = study.last_seen().trusted_root()
        return f"version {found.version}, sha256 {found.digest}"

    def clock() -> str:
        check_seen(study.last_seen().freshness, int(now.timestamp()))
        return "not behind what was seen"

    def key() -> str:
        fingerprint = key_fingerprint(study.read_key())
        _check_private(study.key)
        return f"fingerprint {fingerprint}, readable by you only"

    def certificate() -> str:
        data = study.read_certificate()
        begins, expires = certificate_begins(data), certificate_expires(data)
        renew = "run `fair4free enrol` to renew it"
        if not begins <= now < expires:
            problem = "it is not valid yet" if now < begins else "it has expired"
            remedy = f"check this machine's clock; if it is right, {renew}"
            raise Unreachable(problem, field="certificate", remedy=remedy)
        if needs_renewal(data, now) and expires < authority_ends():  # else the next would end no later
            raise Unreachable(f"it expires {expires:%Y-%m-%d}", field="certificate", remedy=renew)
        return f"{certificate_role(data)} until {expires:%Y-%m-%d}"

    def witness() -> str:
        if not study.witness_key.is_file() and not study.last_seen().checkpoint:
            return "its key is made at the first fetch"
        trust_update.witness_key(study)
        _check_private(study.witness_key)
        keyring.check_named_file()
        if (passphrase := study.witness_key.with_name(keyring.BESIDE)).is_file():
            _check_private(passphrase)
        return "its key opens"

    def owner() -> str:
        with channel.mutual(study) as opened:
            request = health_pb2.HealthCheckRequest(service=RELEASE_SERVICE)
            try:
                status = health_pb2_grpc.HealthStub(opened).Check(request, timeout=LIMITS.connect_seconds).status
            except grpc.RpcError as error:
                raise channel.failure(error, study.invitation().address) from error
        if status != health_pb2.HealthCheckResponse.SERVING:
            raise Unreachable("has nothing to serve now", field="owner", remedy="try again, or ask the owner")
        return "answers, lets you in and has a release to serve"

    def release() -> str:
        manifest = fetching.verify(study, int(now.timestamp())).release.manifest
        return f"version {manifest.version}, verified"

    def student() -> str:
        if Artefact.DECODER not in fetching.readable(study):
            return "an auditor needs none"
        remedy = "run `fair4free distill`"
        fitted = folder.read(study.student, remedy)
        if distilled_from(fitted) != study.last_seen().manifest_sha256:
            raise BadInput("it is not of the release last fetched", field=str(study.student), remedy=remedy)
        distillation_of(fitted, str(study.student))
        return "distilled from the release last fetched"

    checks = (invitation, authority, root, clock, key, certificate, witness, owner, release, student)
    return examine({check.__name__: check for check in checks})


def _check_private(path: Path) -> None:
    if path.stat().st_mode & 0o077:
        raise Unreachable("others can read it", field=str(path), remedy="run chmod 600 on it")
