"""What an operator's tools may ask, on a loopback port of its own: Prometheus metrics, liveness and readiness."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Callable, Iterable, Iterator
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, make_wsgi_app
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from data_owner import authority, roots, servable
from data_owner.ledger import Ledger
from data_owner.node import Node
from protocol.address import host_and_port
from protocol.identity import certificate_expires
from shared.clock import now
from shared.errors import BadInput, Fair4FreeError, Unreachable
from shared.limits import LIMITS

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0)


class Metrics:
    """Counts of calls. Labels take values from closed lists, never from a caller."""

    def __init__(self, open_calls: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self.calls = Counter("fair4free_calls", "Calls ended.", ("method", "code"), registry=self.registry)
        self.seconds = Histogram(
            "fair4free_call_seconds", "Time of a call.", ("method",), buckets=SECONDS, registry=self.registry
        )
        self.refused = Counter("fair4free_refused", "Calls refused.", ("reason",), registry=self.registry)
        self.sent = Counter("fair4free_sent_bytes", "Bytes of artefacts sent.", ("kind",), registry=self.registry)
        gauge = Gauge("fair4free_open_calls", "Calls in flight.", registry=self.registry)
        gauge.set_function(open_calls)


class NodeState(Collector):
    """Where the node stands, looked up when it is asked for. What cannot be read has no sample."""

    def __init__(self, node: Node, ready: Callable[[], bool]) -> None:
        self._node, self._ready = node, ready

    def collect(self) -> Iterator[GaugeMetricFamily]:
        node = self._node
        gauges: tuple[tuple[str, str, Callable[[], float]], ...] = (
            ("ready", "Whether /readyz succeeds.", self._ready),
            (
                "release_expires_timestamp_seconds",
                "When the last release that is served expires, 0 if none is.",
                lambda: max((each.expires for each in servable.manifests(node, now()).values()), default=0),
            ),
            (
                "root_expires_timestamp_seconds",
                "When the root in force expires.",
                lambda: roots.newest(node).expires,
            ),
            (
                "authority_expires_timestamp_seconds",
                "When the certificate authority expires.",
                lambda: certificate_expires(authority.key_file(node, authority.AUTHORITY)).timestamp(),
            ),
            (
                "server_certificate_expires_timestamp_seconds",
                "When the server's certificate expires.",
                lambda: certificate_expires(authority.key_file(node, authority.SERVER)).timestamp(),
            ),
            ("pending_enrolments", "Requests that wait for a person.", lambda: len(authority.pending(node))),
            ("log_entries", "Entries of the egress log.", lambda: Ledger.size(node.ledger)),
        )
        for name, text, value in gauges:
            try:
                yield GaugeMetricFamily(f"fair4free_{name}", text, value())
            except Fair4FreeError:
                continue


class MonitoringServer:
    """GET /metrics, /healthz (the process answers) and /readyz (it serves, and that is whole, in date and logged)."""

    def __init__(self, address: str, metrics: Metrics, ready: Callable[[], bool]) -> None:
        """Raises `BadInput` unless the address is loopback and `Unreachable` if it cannot be bound."""
        host, port = loopback(address)
        exposition = make_wsgi_app(metrics.registry, disable_compression=True)

        def answer(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
            path = environ.get("PATH_INFO", "")
            if path == "/metrics" and environ.get("REQUEST_METHOD") == "GET":
                return exposition(environ, start_response)
            fine = {"/healthz": lambda: True, "/readyz": ready}.get(path)
            status = "404 Not Found" if fine is None else "200 OK" if fine() else "503 Service Unavailable"
            start_response(status, [("Content-Type", "text/plain")])
            return [status.encode() + b"\n"]

        try:
            self._server = make_server(host, port, answer, _Threads, _Quiet)
        except OSError as error:
            raise Unreachable("cannot be listened on", field=address, remedy="choose a free port") from error
        self.address = f"{host}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="monitoring", daemon=True).start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def loopback(address: str) -> tuple[str, int]:
    """Host and port of a loopback address, IPv4 only. Raises `BadInput` for any other."""
    try:
        host, port = host_and_port(address)
        if ipaddress.IPv4Address(host).is_loopback:
            return host, port
    except ValueError:
        pass
    raise BadInput("not a loopback address", field="--metrics-address", remedy="write it as 127.0.0.1:9464")


class _Threads(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = LIMITS.metrics_seconds

    def log_message(self, format: str, *args: Any) -> None:
        """Its lines would not be ours."""
