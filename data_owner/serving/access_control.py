"""The interceptor before every method: who calls, how often, in which role, for how long. Deny by default."""

from __future__ import annotations

import ipaddress
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import unquote

import grpc

from data_owner import authority
from data_owner.node import Node
from data_owner.serving.admission import Admission
from data_owner.serving.answers import answer
from data_owner.serving.monitoring import Metrics
from data_owner.serving.open_calls import OpenCall, OpenCalls
from protocol.access import ENROLMENT_METHODS, RELEASE_METHODS, PartyRole, may_call
from protocol.calls import RETRY_AFTER
from protocol.identity import certificate_fingerprint
from shared.errors import Unreachable
from shared.limits import LIMITS

log = logging.getLogger("fair4free.owner.access")


@dataclass(frozen=True)
class ReleasePort:
    """Callers have certificates; what they may do is looked up anew at every call and every chunk."""

    node: Node
    methods = RELEASE_METHODS
    calls_at_once, calls_a_minute = LIMITS.calls_at_once, LIMITS.calls_a_minute

    def identity(self, context: grpc.ServicerContext) -> str:
        return caller(context)

    def permits(self, identity: str, method: str) -> bool:
        return may_call(authority.role(self.node, identity), method)


class EnrolmentPort:
    """Callers are not known yet: they are told apart by where they call from."""

    methods = ENROLMENT_METHODS
    calls_at_once, calls_a_minute = LIMITS.enrolments_at_once, LIMITS.enrolments_a_minute

    def identity(self, context: grpc.ServicerContext) -> str:
        return place(context.peer())

    def permits(self, identity: str, method: str) -> bool:
        return method in self.methods


def place(peer: str) -> str:
    """Where a peer calls from, without its port: of IPv6 the /64, in which a machine may take any address."""
    kind, _, rest = unquote(peer).partition(":")
    host = rest.rpartition(":")[0]
    try:
        found = ipaddress.IPv6Address(host.strip("[]").partition("%")[0])
    except ValueError:
        return f"{kind}:{host}"
    if found.ipv4_mapped is not None:
        return f"ipv4:{found.ipv4_mapped}"
    return f"{kind}:{ipaddress.IPv6Network((found, 64), strict=False)}"


class AccessControl(grpc.ServerInterceptor):
    """Every method of a port passes here. One that the port does not list has no handler, whoever asks."""

    def __init__(self, port: ReleasePort | EnrolmentPort, metrics: Metrics, calls: OpenCalls) -> None:
        self._port, self._metrics, self._open = port, metrics, calls
        self._admission = Admission(port.calls_at_once, port.calls_a_minute)

    def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        method = handler_call_details.method
        handler = continuation(handler_call_details) if method in self._port.methods else None
        if handler is None or handler.request_streaming:
            self._metrics.refused.labels("unknown method").inc()
            return None
        codec = handler.request_deserializer, handler.response_serializer
        # a stream of requests, so that the caller is judged before the one request is waited for
        if handler.response_streaming:
            return grpc.stream_stream_rpc_method_handler(self._stream(method, handler.unary_stream), *codec)
        return grpc.stream_unary_rpc_method_handler(self._unary(method, handler.unary_unary), *codec)

    def _unary(self, method: str, behaviour: Any) -> Callable[[Iterator[Any], grpc.ServicerContext], Any]:
        def call(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
            self._admit(method, context, LIMITS.call_seconds)
            response = behaviour(_only(requests, context), context)
            context.set_code(grpc.StatusCode.OK)  # a call that is cut does not come here, and has none
            return response

        return call

    def _stream(self, method: str, behaviour: Any) -> Callable[[Iterator[Any], grpc.ServicerContext], Iterator[Any]]:
        def call(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
            identity = self._admit(method, context, LIMITS.stream_seconds)
            for chunk in behaviour(_only(requests, context), context):
                if not self._permits(identity, method, context):
                    self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, "withdrawn", NOT_APPROVED)
                yield chunk
            context.set_code(grpc.StatusCode.OK)

        return call

    def _admit(self, method: str, context: grpc.ServicerContext, seconds: float) -> str:
        """Returns the identity, or ends the call."""
        start, identity = time.monotonic(), self._port.identity(context)
        admitted = threading.Event()  # who is on the way to a refusal is to hear it, not to be cut off

        def may_stay() -> bool:
            try:
                return not admitted.is_set() or self._port.permits(identity, method)
            except Unreachable:
                return False

        call = OpenCall(identity, start + seconds, may_stay, context)
        too_many = answer(context, lambda: self._open.enter(call))
        if too_many:
            self._come_again(context, too_many, 1.0)
        if not context.add_callback(lambda: self._ended(call, method, start, context)):
            self._open.leave(call)
        wait = self._admission.seconds_to_wait(identity, start)
        if wait:
            # who does not wait as told is answered slowly, so that a flood takes little from others
            time.sleep(min(wait, LIMITS.refusal_seconds))
            self._come_again(context, "rate", wait)
        if not self._permits(identity, method, context):
            self._refuse(context, grpc.StatusCode.PERMISSION_DENIED, "role", NOT_APPROVED)
        admitted.set()
        return identity

    def _permits(self, identity: str, method: str, context: grpc.ServicerContext) -> bool:
        """Ends the call where the node cannot say: that is no refusal."""
        return answer(context, lambda: self._port.permits(identity, method))

    def _ended(self, call: OpenCall, method: str, start: float, context: Any) -> None:
        self._open.leave(call)
        now = time.monotonic()
        taken, code = now - start, (context.code() or _cut(now >= call.until, context)).name
        self._metrics.calls.labels(method, code).inc()
        self._metrics.seconds.labels(method).observe(taken)
        if code != grpc.StatusCode.RESOURCE_EXHAUSTED.name:  # a flood must not fill the disk
            log.info(
                "call", extra={"method": method, "code": code, "seconds": round(taken, 4), "caller": call.identity}
            )

    def _come_again(self, context: grpc.ServicerContext, reason: str, seconds: float) -> NoReturn:
        context.set_trailing_metadata(((RETRY_AFTER, str(int(seconds * 1000) + 1)),))
        self._refuse(context, grpc.StatusCode.RESOURCE_EXHAUSTED, reason, f"too many calls ({reason}): come again")

    def _refuse(self, context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, text: str) -> NoReturn:
        self._metrics.refused.labels(reason).inc()
        context.abort(code, text)


NOT_APPROVED = "this key is not approved for this"


def caller(context: grpc.ServicerContext) -> str:
    """Fingerprint of the key in the verified client certificate; empty when there is none."""
    found: Any = context.auth_context().get("x509_pem_cert", [])
    return _fingerprint(found[0]) if found else ""


def caller_role(node: Node, context: grpc.ServicerContext) -> PartyRole | None:
    """The role of the caller, or None. Ends the call where the node cannot say."""
    return answer(context, lambda: authority.role(node, caller(context)))


@lru_cache(maxsize=1024)
def _fingerprint(certificate: bytes) -> str:
    return certificate_fingerprint(certificate)


def _cut(is_out_of_time: bool, context: grpc.ServicerContext) -> grpc.StatusCode:
    """Of a call that ended without an answer. Who gives up in time does so a little before that is over here."""
    if is_out_of_time or context.time_remaining() < LIMITS.watch_seconds:
        return grpc.StatusCode.DEADLINE_EXCEEDED
    return grpc.StatusCode.CANCELLED


def _only(requests: Iterator[Any], context: grpc.ServicerContext) -> Any:
    """The one request of a call."""
    request = next(requests, None)
    if request is None:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, "a request is missing")
    return request
