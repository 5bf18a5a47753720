"""The owner's two listeners: releases over mutual TLS, and enrolment over TLS. A thin shell over the rules.

Every call passes `access_control` first. TLS 1.3 only, compression off, no reflection and no channelz, and every size,
rate and time is bounded by `LIMITS`.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent import futures
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from data_owner import authority, release, roots, servable
from data_owner.ledger import Ledger, new_entry
from data_owner.node import Node
from data_owner.serving import addresses, tls_version
from data_owner.serving.access_control import (
    NOT_APPROVED,
    AccessControl,
    EnrolmentPort,
    ReleasePort,
    caller,
    caller_role,
    place,
)
from data_owner.serving.answers import answer, judge
from data_owner.serving.monitoring import Metrics, MonitoringServer, NodeState
from data_owner.serving.open_calls import OpenCalls
from data_owner.serving.server_certificate import ServerCertificate
from data_owner.serving.trust_metadata import TrustMetadata
from protocol import identity
from protocol.access import RELEASE_SERVICE, may_read
from protocol.artefacts import Artefact
from protocol.calls import ARTEFACT_KINDS
from protocol.checkpoint import Checkpoint
from protocol.entry import Served
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from protocol.manifest import Digest
from protocol.refusals import Expired, RuleBroken
from protocol.root import check_in_date
from protocol.trust import TrustedRelease
from shared import folder, signals
from shared.clock import moment, now
from shared.errors import Fair4FreeError, PolicyRefusal, Unreachable
from shared.limits import LIMITS

log = logging.getLogger("fair4free.owner")

KINDS = {number: kind for kind, number in ARTEFACT_KINDS.items()}

DECISIONS = {
    authority.Decision.PENDING: wire.EnrolResponse.STATE_PENDING,
    authority.Decision.APPROVED: wire.EnrolResponse.STATE_APPROVED,
    authority.Decision.DENIED: wire.EnrolResponse.STATE_DENIED,
}

OPTIONS = [
    ("grpc.max_receive_message_length", LIMITS.request_bytes + 1024),
    ("grpc.max_send_message_length", LIMITS.message_bytes),
    ("grpc.max_metadata_size", LIMITS.metadata_bytes),
    ("grpc.absolute_max_metadata_size", LIMITS.metadata_bytes),
    ("grpc.max_concurrent_streams", LIMITS.concurrent_calls),
    ("grpc.max_allowed_incoming_connections", LIMITS.connections),
    ("grpc.server_handshake_timeout_ms", int(LIMITS.handshake_seconds * 1000)),
    ("grpc.max_connection_idle_ms", int(LIMITS.connection_idle_seconds * 1000)),
    ("grpc.max_connection_age_ms", int(LIMITS.connection_age_seconds * 1000)),
    ("grpc.max_connection_age_grace_ms", int(LIMITS.stream_seconds * 1000)),
    ("grpc.keepalive_time_ms", int(LIMITS.keepalive_seconds * 1000)),
    ("grpc.keepalive_timeout_ms", int(LIMITS.unanswered_seconds * 1000)),
    ("grpc.http2.ping_timeout_ms", int(LIMITS.unanswered_seconds * 1000)),
    # who waits for data may ask whether we are there; gRPC would take more than two such pings for an attack
    ("grpc.http2.min_ping_interval_without_data_ms", int(LIMITS.client_keepalive_seconds * 1000 / 2)),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.enable_channelz", 0),
    ("grpc.so_reuseport", 0),
]


@dataclass(frozen=True)
class Listening:
    """Where the listeners are, as host:port; metrics only where asked for."""

    address: str
    enrolment_address: str
    metrics_address: str


class Oversight:
    """What both listeners share: whether there is something to serve, the calls in flight and the counts of them."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self.is_ready = is_ready
        self.releases, self.enrolments = OpenCalls(), OpenCalls()  # who fills one port leaves the other open
        self.metrics = Metrics(self.open_calls)

    def open_calls(self) -> int:
        return len(self.releases) + len(self.enrolments)


def serve(
    node: Node,
    address: str,
    enrolment_address: str,
    metrics_address: str = "",
    host_name: str = "",
    ready: Callable[[Listening], None] = lambda listening: None,
    stopping: threading.Event | None = None,
) -> None:
    """Serve until `stopping` is set or, in the main thread, a signal stops the program, then let calls in flight
    finish. Port 0 takes a free port.

    The invitation names `host_name`, where analysts reach this machine by another than the address listened on.

    Raises `BadInput` for what is no address, or for an invitation none that can be called, `PolicyRefusal` where no
    consumer would accept what is there and `Unreachable` when an address cannot be bound, or while another process
    serves the node.
    """
    addresses.check(address, "--address", host_name)
    addresses.check(enrolment_address, "--enrolment-address", host_name)
    _check_servable(node)
    for fault in servable.faults(node, now(), roots.newest(node)).values():
        log.error("a release cannot be fetched", extra={"problem": str(fault)})
    stopping = stopping or threading.Event()
    with (
        folder.locked(node.serving_lock, waits=False),  # a second would put its addresses into the invitation
        _set_by_signals(stopping),
    ):
        _serve(node, address, enrolment_address, metrics_address, host_name, ready, stopping)


@contextmanager
def _set_by_signals(stopping: threading.Event) -> Iterator[None]:
    """Signals that stop a program set `stopping` while the body runs. Python lets the main thread alone say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    found = {each: signal.signal(each, lambda *_: stopping.set()) for each in signals.heard()}
    try:
        yield
    finally:
        for each, handler in found.items():
            signal.signal(each, handler)


def _serve(
    node: Node,
    address: str,
    enrolment_address: str,
    metrics_address: str,
    host_name: str,
    ready: Callable[[Listening], None],
    stopping: threading.Event,
) -> None:
    started = threading.Event()

    def is_ready() -> bool:
        if not started.is_set():
            return False
        try:
            _check_servable(node)
            Ledger.check_writable(node.ledger)
            authority.server_certificate(node, moment())  # no handshake renews it while nobody calls
        except Fair4FreeError:
            return False
        return not stopping.is_set()

    oversight = Oversight(is_ready)
    releases, enrolment = release_server(node, oversight), enrolment_server(node, oversight)
    oversight.metrics.registry.register(NodeState(node, is_ready))
    monitoring = MonitoringServer(metrics_address, oversight.metrics, is_ready) if metrics_address else None
    listening = Listening(
        _bind(releases, address, ServerCertificate(node, mutual=True).credentials()),
        _bind(enrolment, enrolment_address, ServerCertificate(node, mutual=False).credentials()),
        monitoring.address if monitoring else "",
    )
    listeners = listening.address, listening.enrolment_address
    authority.write_invitation(node, *(addresses.called(each, host_name) for each in listeners))
    releases.start()
    enrolment.start()
    for each in listeners:
        tls_version.check(each)
    started.set()
    log.info("serving", extra=vars(listening))
    ready(listening)
    stopping.wait()
    log.info("draining")
    until = time.monotonic() + LIMITS.drain_seconds
    for server in (enrolment, releases):
        server.stop(LIMITS.drain_seconds)
    while oversight.open_calls() and time.monotonic() < until:
        time.sleep(LIMITS.drain_poll_seconds)
    for stopped in [server.stop(None) for server in (enrolment, releases)]:  # a connection with no call on it is cut
        stopped.wait()
    if monitoring:
        monitoring.stop()
    log.info("stopped")


def release_server(node: Node, oversight: Oversight) -> grpc.Server:
    server = _server(ReleasePort(node), oversight, oversight.releases)
    releases = Releases(node, oversight.metrics)
    service.add_ReleaseServiceServicer_to_server(releases, server)  # type: ignore[no-untyped-call]
    return server


def enrolment_server(node: Node, oversight: Oversight) -> grpc.Server:
    server = _server(EnrolmentPort(), oversight, oversight.enrolments)
    service.add_EnrolmentServiceServicer_to_server(Enrolments(node, oversight.metrics), server)  # type: ignore[no-untyped-call]
    return server


class Releases(service.ReleaseServiceServicer):
    """Answers from disk, verifying again what it is about to send, and logging it before any of it is sent."""

    def __init__(self, node: Node, metrics: Metrics) -> None:
        self._node, self._metrics = node, metrics
        self._ledger = Ledger(node.ledger)
        self._metadata = TrustMetadata(node, self._ledger)

    def GetRoot(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        found = answer(context, lambda: self._metadata.root(request.version))
        if found is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "version: there is no such root")
        return wire.GetRootResponse(root=found[0], signatures=found[1])

    def GetFreshness(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        freshness, signatures = answer(context, lambda: self._metadata.freshness(now()))
        return wire.GetFreshnessResponse(freshness=freshness, signatures=signatures)

    def GetLogProof(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        found = answer(context, lambda: self._metadata.log_proof(request.version, request.last_size))
        if request.last_size > Checkpoint.from_note(found.checkpoint).size:
            log.error("a caller says to have seen a longer log", extra={"caller": caller(context)})
        return wire.GetLogProofResponse(**vars(found))

    def Countersign(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        party = caller(context)
        judge(context, lambda: self._metadata.countersign(party, request.checkpoint, request.key, now()))
        return wire.CountersignResponse()

    def GetManifest(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        def serve_manifest() -> tuple[bytes, bytes]:
            manifest, signatures, _ = self._load(request.version)
            self._log(context, request.version, Artefact.MANIFEST, Digest.of(manifest), 0, len(manifest))
            release.mark_served(self._node, request.version, now())
            return manifest, signatures

        manifest, signatures = answer(context, serve_manifest)
        self._metrics.sent.labels(Artefact.MANIFEST.value).inc(len(manifest))
        log.info("manifest served", extra={"version": request.version, "caller": caller(context)})
        return wire.GetManifestResponse(manifest=manifest, signatures=signatures)

    def StreamArtefact(self, request: Any, context: grpc.ServicerContext) -> Iterator[Any]:  # noqa: N802
        kind = KINDS.get(request.kind)
        if kind is None:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "kind: not one of the artefacts")
        if not may_read(caller_role(self._node, context), kind):
            context.abort(grpc.StatusCode.PERMISSION_DENIED, NOT_APPROVED)
        _, _, trusted = answer(context, lambda: self._load(request.version))
        data, digest = trusted.artefacts[kind], trusted.manifest.artefacts[kind]
        if request.offset > len(data):
            context.abort(grpc.StatusCode.OUT_OF_RANGE, "offset: beyond the artefact")
        if request.offset < len(data):
            answer(
                context,
                lambda: self._log(context, request.version, kind, digest, request.offset, len(data) - request.offset),
            )
        log.info(
            "artefact served",
            extra={"kind": kind.value, "version": request.version, "caller": caller(context)},
        )
        for start in range(request.offset, len(data), LIMITS.chunk_bytes):
            answer(context, lambda: self._check_undenied(request.version))
            if not may_read(caller_role(self._node, context), kind):
                context.abort(grpc.StatusCode.PERMISSION_DENIED, NOT_APPROVED)
            chunk = data[start : start + LIMITS.chunk_bytes]
            yield wire.Chunk(data=chunk)
            self._metrics.sent.labels(kind.value).inc(len(chunk))

    def _load(self, version: int) -> tuple[bytes, bytes, TrustedRelease]:
        return servable.load(self._node, version, now(), roots.newest(self._node))

    def _check_undenied(self, version: int) -> None:
        if self._ledger.is_denied(version):
            raise servable.NotServed

    def _log(
        self, context: grpc.ServicerContext, version: int, kind: Artefact, digest: Digest, offset: int, length: int
    ) -> None:
        entry = new_entry(
            Served,
            at=now(),
            party=caller(context),
            version=version,
            artefact=kind,
            sha256=digest.sha256,
            offset=offset,
            length=length,
        )
        try:
            self._ledger.append(entry)
        except RuleBroken:
            self._check_undenied(version)  # since it was loaded
            raise


class Enrolments(service.EnrolmentServiceServicer):
    """Takes requests in; only a person lets anyone in."""

    def __init__(self, node: Node, metrics: Metrics) -> None:
        self._node, self._metrics = node, metrics
        self._one_at_a_time = threading.Lock()

    def Enrol(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        judge(context, lambda: identity.request_fingerprint(request.certificate_request))
        with self._one_at_a_time:
            decision, certificate = answer(
                context, lambda: self._receive(request.certificate_request, place(context.peer()))
            )
        return wire.EnrolResponse(state=DECISIONS[decision], certificate=certificate)

    def _receive(self, request: bytes, address: str) -> tuple[authority.Decision, bytes]:
        authority.check_in_date(self._node, moment())
        try:
            return authority.receive(self._node, request, moment(), address)
        except PolicyRefusal:
            self._metrics.refused.labels("pending").inc()
            raise


class Health(health_pb2_grpc.HealthServicer):  # type: ignore[misc]
    """Liveness under the empty name, readiness under the release service's."""

    def __init__(self, is_ready: Callable[[], bool]) -> None:
        self._is_ready = is_ready

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        if request.service not in ("", RELEASE_SERVICE):
            context.abort(grpc.StatusCode.NOT_FOUND, "service: no such service")
        serving = not request.service or self._is_ready()
        states = health_pb2.HealthCheckResponse
        return states(status=states.SERVING if serving else states.NOT_SERVING)


def _server(port: ReleasePort | EnrolmentPort, oversight: Oversight, calls: OpenCalls) -> grpc.Server:
    most = LIMITS.concurrent_calls + LIMITS.refusals_at_once  # what gRPC itself refuses, it neither counts nor explains
    server = grpc.server(
        futures.ThreadPoolExecutor(most),
        interceptors=[AccessControl(port, oversight.metrics, calls)],
        options=OPTIONS,
        maximum_concurrent_rpcs=most,
        compression=grpc.Compression.NoCompression,
    )
    health_pb2_grpc.add_HealthServicer_to_server(Health(oversight.is_ready), server)
    return server


def _check_servable(node: Node) -> None:
    """Raises `PolicyRefusal`, or what is wrong, unless consumers would accept a release as it lies here today."""
    authority.check_in_date(node, moment())
    root = roots.newest(node)
    try:
        check_in_date(root, now())
    except Expired as error:
        remedy = "propose, sign and install the next with `fair4free-owner root`: see Rotation in the runbook"
        raise PolicyRefusal("the root has expired", field="root", remedy=remedy) from error
    for version in reversed(servable.manifests(node, now())):
        with suppress(Fair4FreeError):
            servable.load(node, version, now(), root)
            return
    for fault in servable.faults(node, now(), root).values():
        raise fault
    raise PolicyRefusal(
        "no release is approved and in date",
        field="release",
        remedy="run gate and approve, or train a new release",
    )


def _bind(server: grpc.Server, address: str, credentials: grpc.ServerCredentials) -> str:
    host = address.rpartition(":")[0]
    try:
        port = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise Unreachable(
            "cannot be listened on", field=address, remedy="choose a free port, or an address of this machine"
        ) from error
    return f"{host}:{port}"
