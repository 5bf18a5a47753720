"""The owner's two listeners: releases over mutual TLS, and enrolment over TLS. A thin shell over the rules.

A call is answered only for a key that a person approved and has not withdrawn since; a method that is not in the
contract has no handler. Compression is off and every size, rate and time is bounded by `LIMITS`.
"""

from __future__ import annotations

import hashlib
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from data_owner import authority, release, roots
from data_owner.ledger import Ledger, nonce
from data_owner.node import Node
from data_owner.settings import OwnerSettings
from data_owner.trust_metadata import TrustMetadata
from protocol.artefacts import Artefact
from protocol.entry import Served
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from protocol.identity import certificate_fingerprint
from protocol.refusals import RuleBroken
from shared.errors import Fair4FreeError, PolicyRefusal, Unreachable
from shared.limits import LIMITS

log = logging.getLogger("fair4free.owner")

KINDS = {
    wire.ARTEFACT_KIND_DECODER: Artefact.DECODER,
    wire.ARTEFACT_KIND_STATISTICS: Artefact.STATISTICS,
    wire.ARTEFACT_KIND_SCHEMA: Artefact.SCHEMA,
    wire.ARTEFACT_KIND_CARD: Artefact.CARD,
}

DECISIONS = {
    authority.Decision.PENDING: wire.EnrolResponse.STATE_PENDING,
    authority.Decision.APPROVED: wire.EnrolResponse.STATE_APPROVED,
    authority.Decision.DENIED: wire.EnrolResponse.STATE_DENIED,
}

OPTIONS = [
    ("grpc.max_receive_message_length", LIMITS.request_bytes + 1024),
    ("grpc.max_send_message_length", LIMITS.message_bytes),
    ("grpc.max_metadata_size", LIMITS.metadata_bytes),
    ("grpc.max_concurrent_streams", LIMITS.concurrent_calls),
    ("grpc.max_connection_idle_ms", int(LIMITS.connection_idle_seconds * 1000)),
    ("grpc.max_connection_age_ms", int(LIMITS.connection_age_seconds * 1000)),
    ("grpc.so_reuseport", 0),
]


@dataclass(frozen=True)
class Listening:
    """Where the two listeners are, as host:port."""

    address: str
    enrolment_address: str


def serve(
    node: Node,
    settings: OwnerSettings,
    address: str,
    enrolment_address: str,
    ready: Callable[[Listening], None] = lambda listening: None,
) -> None:
    """Serve until SIGTERM or SIGINT, then let calls in flight finish. Port 0 takes a free port.

    Raises `PolicyRefusal` when nothing is approved and `Unreachable` when an address cannot be bound.
    """
    if not release.servable(node, _now()):
        raise PolicyRefusal(
            "no release is approved and in date",
            field="release",
            remedy="run gate and approve, or train a new release",
        )
    authority.renew_server_certificate(node, datetime.now(UTC))
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    releases, enrolment = release_server(node), enrolment_server(node)
    listening = Listening(
        _bind(releases, address, _credentials(node, mutual=True)),
        _bind(enrolment, enrolment_address, _credentials(node, mutual=False)),
    )
    authority.write_invitation(node, settings.name, listening.address, listening.enrolment_address)
    releases.start()
    enrolment.start()
    ready(listening)
    stopping.wait()
    for stopped in [server.stop(LIMITS.drain_seconds) for server in (enrolment, releases)]:
        stopped.wait()


def release_server(node: Node) -> grpc.Server:
    server = _server([ApprovedKeysOnly(node)])
    service.add_ReleaseServiceServicer_to_server(Releases(node), server)  # type: ignore[no-untyped-call]
    return server


def enrolment_server(node: Node) -> grpc.Server:
    server = _server([])
    service.add_EnrolmentServiceServicer_to_server(Enrolments(node), server)  # type: ignore[no-untyped-call]
    return server


class ApprovedKeysOnly(grpc.ServerInterceptor):
    """Refuses every call, known method or not, unless the caller's key is approved at this moment."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        handler = continuation(handler_call_details)
        if handler is None:
            return None

        def checked(behaviour: Any) -> Any:
            def call(request: Any, context: grpc.ServicerContext) -> Any:
                if not authority.is_approved(self._node, caller(context)):
                    context.abort(grpc.StatusCode.PERMISSION_DENIED, "this key is not approved")
                return behaviour(request, context)

            return call

        if handler.unary_stream:
            return grpc.unary_stream_rpc_method_handler(
                checked(handler.unary_stream), handler.request_deserializer, handler.response_serializer
            )
        return grpc.unary_unary_rpc_method_handler(
            checked(handler.unary_unary), handler.request_deserializer, handler.response_serializer
        )


class Releases(service.ReleaseServiceServicer):
    """Answers from disk, verifying again what it is about to send, and logging it before it is sent."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._ledger = Ledger(node.ledger)
        self._metadata = TrustMetadata(node, self._ledger)

    def GetRoot(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        found = _answer(context, lambda: self._metadata.root(request.version))
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "version: there is no such root")
        return wire.GetRootResponse(root=found[0], signatures=found[1])

    def GetFreshness(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        freshness, signatures = _answer(context, lambda: self._metadata.freshness(_now()))
        return wire.GetFreshnessResponse(freshness=freshness, signatures=signatures)

    def GetLogProof(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        found = _answer(context, lambda: self._metadata.log_proof(request.version, request.last_size))
        return wire.GetLogProofResponse(**vars(found))

    def Countersign(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        party = caller(context)
        _answer(context, lambda: self._metadata.countersign(party, request.checkpoint, request.key))
        return wire.CountersignResponse()

    def GetManifest(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        manifest, signatures, _ = _answer(context, lambda: self._load(request.version))
        _answer(context, lambda: self._log(context, request.version, Artefact.MANIFEST, manifest, 0, len(manifest)))
        _answer(context, lambda: release.mark_served(self._node, request.version, _now()))
        log.info("manifest served", extra={"version": request.version, "caller": caller(context)})
        return wire.GetManifestResponse(manifest=manifest, signatures=signatures)

    def StreamArtefact(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        kind = KINDS.get(request.kind)
        if kind is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "kind: not one of the artefacts")
        _, _, trusted = _answer(context, lambda: self._load(request.version))
        data = trusted.artefacts[kind]
        if request.offset > len(data):
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "offset: beyond the artefact")
        log.info(
            "artefact served",
            extra={"kind": kind.value, "version": request.version, "caller": caller(context)},
        )
        for start in range(request.offset, len(data), LIMITS.chunk_bytes):
            if not context.is_active():
                return
            chunk = data[start : start + LIMITS.chunk_bytes]
            _answer(context, lambda: self._log(context, request.version, kind, data, start, len(chunk)))  # noqa: B023
            yield wire.Chunk(data=chunk)

    def _load(self, version: int) -> Any:
        return release.load(self._node, version, _now(), roots.newest(self._node))

    def _log(
        self, context: grpc.ServicerContext, version: int, kind: Artefact, data: bytes, offset: int, length: int
    ) -> None:
        self._ledger.append(
            Served(
                at=_now(),
                nonce=nonce(),
                party=caller(context),
                version=version,
                artefact=kind,
                sha256=hashlib.sha256(data).hexdigest(),
                offset=offset,
                length=length,
            )
        )


class Enrolments(service.EnrolmentServiceServicer):
    """Takes requests in; only a person lets anyone in."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._one_at_a_time = threading.Lock()

    def Enrol(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        with self._one_at_a_time:
            decision, certificate = _answer(
                context,
                lambda: authority.receive(self._node, request.certificate_request, datetime.now(UTC)),
            )
        return wire.EnrolResponse(state=DECISIONS[decision], certificate=certificate)


def caller(context: grpc.ServicerContext) -> str:
    """Fingerprint of the key in the verified client certificate; empty when there is none."""
    found: Any = context.auth_context().get("x509_pem_cert", [])
    return certificate_fingerprint(found[0]) if found else ""


def _answer(context: grpc.ServicerContext, work: Callable[[], Any]) -> Any:
    """Do `work`, turning our errors into statuses that say no more than the error does."""
    try:
        return work()
    except RuleBroken as error:
        log.error("refused by the egress log", extra={"problem": str(error)})
        context.abort(grpc.StatusCode.PERMISSION_DENIED, "not, or no longer, approved")
    except PolicyRefusal as error:
        _abort(context, grpc.StatusCode.RESOURCE_EXHAUSTED, error)
    except Unreachable as error:
        log.error("cannot answer", extra={"problem": str(error)})
        context.abort(grpc.StatusCode.INTERNAL, "the owner cannot read what it should serve")
    except Fair4FreeError as error:
        _abort(context, grpc.StatusCode.INVALID_ARGUMENT, error)


def _abort(context: grpc.ServicerContext, code: grpc.StatusCode, error: Fair4FreeError) -> NoReturn:
    context.abort(code, str(error))
    raise AssertionError("abort returned")


def _server(interceptors: list[grpc.ServerInterceptor]) -> grpc.Server:
    server = grpc.server(
        futures.ThreadPoolExecutor(LIMITS.server_threads),
        interceptors=interceptors,
        options=OPTIONS,
        maximum_concurrent_rpcs=LIMITS.concurrent_calls,
        compression=grpc.Compression.NoCompression,
    )
    status = health.HealthServicer()
    status.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(status, server)
    return server


def _credentials(node: Node, mutual: bool) -> grpc.ServerCredentials:
    pair = (authority.key_file(node, authority.SERVER_KEY), authority.key_file(node, authority.SERVER))
    roots = authority.key_file(node, authority.AUTHORITY) if mutual else None
    return grpc.ssl_server_credentials([pair], root_certificates=roots, require_client_auth=mutual)


def _bind(server: grpc.Server, address: str, credentials: grpc.ServerCredentials) -> str:
    host = address.rpartition(":")[0]
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Unreachable(
            "cannot be listened on", field=address, remedy="choose a free port, or an address of this machine"
        ) from error
    return f"{host}:{port}"


def _now() -> int:
    return int(datetime.now(UTC).timestamp())
