"""What a node bears: consumers fetching at once, alone and beside a flood from one identity, over real sockets.

Everything happens in a copy of what the node serves, under keys and enrolments that are thrown away after; the node's
own enrolments and counts stay as they are, and records are not copied.
"""

from __future__ import annotations

import multiprocessing
import queue
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from data_owner import append_only, authority, servable
from data_owner.node import Node
from protocol import identity
from protocol.calls import ARTEFACT_KINDS, CLIENT_OPTIONS
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from protocol.invitation import Invitation
from shared import folder
from shared.clock import moment, now
from shared.errors import PolicyRefusal, Unreachable
from shared.limits import LIMITS
from shared.progress import Progress, quiet

CONSUMERS = 16
FETCHES = 12
FLOODERS = 32
START_SECONDS = 60.0


@dataclass(frozen=True)
class Caller:
    """An approved identity and where it calls."""

    address: str
    roots: bytes
    key: bytes
    certificate: bytes

    @contextmanager
    def channel(self) -> Iterator[grpc.Channel]:
        credentials = grpc.ssl_channel_credentials(self.roots, self.key, self.certificate)
        options = (*CLIENT_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
        with grpc.secure_channel(self.address, credentials, options=options) as opened:
            yield opened


@dataclass(frozen=True)
class Load:
    """Whole fetches by all consumers: seconds of each and of all together, and bytes of artefacts."""

    fetch_seconds: tuple[float, ...]
    seconds: float
    bytes: int

    @property
    def p50(self) -> float:
        return statistics.median(self.fetch_seconds)

    @property
    def p99(self) -> float:
        return statistics.quantiles(self.fetch_seconds, n=100, method="inclusive")[98]

    def summary(self) -> dict[str, float]:
        return {
            "fetches": len(self.fetch_seconds),
            "fetches_a_second": round(len(self.fetch_seconds) / self.seconds, 2),
            "megabytes_a_second": round(self.bytes / self.seconds / 1e6, 3),
            "p50_seconds": round(self.p50, 4),
            "p99_seconds": round(self.p99, 4),
        }


@dataclass(frozen=True)
class Measured:
    """`refused` counts the flood's calls that were answered RESOURCE_EXHAUSTED, of `flooded` in all."""

    alone: Load
    beside_flood: Load
    flooded: int
    refused: int


def load(node: Node, progress: Progress = quiet, fetches: int = FETCHES) -> Measured:
    """Serve the newest release to 16 consumers, then to 16 others beside a flood.

    Raises `PolicyRefusal` where there is none, `Unreachable` where a copy cannot be made or served.
    """
    versions = list(servable.manifests(node, now()))
    if not versions:
        raise PolicyRefusal("nothing is approved and in date", field="release", remedy="run gate and approve")
    with _copied(node) as copy, _served(copy):
        invitation = Invitation.from_bytes(copy.invitation.read_bytes())
        callers = [_let_in(copy, invitation, f"load {number}") for number in range(2 * CONSUMERS + 1)]
        progress(0, 2, f"{CONSUMERS} analysts")
        alone = _fetch_at_once(callers[:CONSUMERS], versions[-1], fetches)
        progress(1, 2, f"{CONSUMERS} analysts beside a flood")
        spawn = multiprocessing.get_context("spawn")
        refusing, stop, counts = spawn.Event(), spawn.Event(), spawn.Queue()
        flood = spawn.Process(target=_flood, args=(callers[-1], refusing, stop, counts), daemon=True)
        flood.start()
        refusing.wait(START_SECONDS)
        beside = _fetch_at_once(callers[CONSUMERS:-1], versions[-1], fetches)
        stop.set()
        try:
            flooded, refused = counts.get(timeout=START_SECONDS)
        except queue.Empty:
            raise Unreachable("the flood did not end", field=invitation.address, remedy="run load again") from None
        flood.join()
        progress(2, 2, "done")
    return Measured(alone, beside, flooded, refused)


def as_text(found: Measured) -> str:
    lines = [f"{CONSUMERS} analysts at once     fetches/s     MB/s    p50 s    p99 s"]
    for name, part in (("alone", found.alone), ("beside a flood", found.beside_flood)):
        values = part.summary()
        lines.append(
            f"{name:<24} {values['fetches_a_second']:9.1f} {values['megabytes_a_second']:8.2f} "
            f"{values['p50_seconds']:8.3f} {values['p99_seconds']:8.3f}"
        )
    lines.append(
        f"flood from one identity: {found.flooded:,} calls, {found.refused:,} refused; the others' p99 is "
        f"{found.beside_flood.p99 / found.alone.p99:.2f} times that alone."
    )
    return "\n".join(lines)


@contextmanager
def _copied(node: Node) -> Iterator[Node]:
    """A copy of what the node serves."""
    names = (path.name for path in (*node.withheld, node.enrolments))
    left_out = shutil.ignore_patterns(*names, f"{node.ledger.name}*", ".load-*")
    with ExitStack() as kept:
        with folder.writing(node.folder):
            place = kept.enter_context(tempfile.TemporaryDirectory(prefix=".load-", dir=node.folder))
            copy = Node(Path(place) / "node")
            shutil.copytree(node.folder, copy.folder, ignore=left_out)
        append_only.copy(node.ledger, copy.ledger)
        copy.invitation.unlink(missing_ok=True)
        yield copy


@contextmanager
def _served(copy: Node) -> Iterator[None]:
    """A process of its own serves the copy."""
    start = [sys.executable, "-c", "from data_owner.cli import main; main()", "serve", str(copy.folder)]
    process = subprocess.Popen(
        [*start, "--address", "127.0.0.1:0", "--enrolment-address", "127.0.0.1:0"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + START_SECONDS
        while not copy.invitation.is_file():
            if process.poll() is not None or time.monotonic() > until:
                raise Unreachable("the node did not start", field="load", remedy="see what `serve` says")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait()


def _let_in(node: Node, invitation: Invitation, name: str) -> Caller:
    key, at = identity.new_key(), moment()
    request = identity.new_request(key, name)
    authority.receive(node, request, at)
    fingerprint = identity.request_fingerprint(request)
    authority.decide(node, fingerprint, authority.Decision.APPROVED, by=name, now=at)
    _, certificate = authority.receive(node, request, at)
    return Caller(invitation.address, invitation.certificate_authority.encode(), key, certificate)


def _fetch_at_once(callers: list[Caller], version: int, fetches: int) -> Load:
    start = time.monotonic()
    with ThreadPoolExecutor(len(callers)) as pool:
        parts = list(pool.map(lambda caller: _fetch_often(caller, version, fetches), callers))
    seconds = tuple(one for part in parts for one, _ in part)
    return Load(seconds, time.monotonic() - start, sum(size for part in parts for _, size in part))


def _fetch_often(caller: Caller, version: int, fetches: int) -> list[tuple[float, int]]:
    """Seconds and bytes of each whole fetch."""
    found = []
    with caller.channel() as channel:
        stub = service.ReleaseServiceStub(channel)  # type: ignore[no-untyped-call]
        for _ in range(fetches):
            start = time.monotonic()
            stub.GetManifest(wire.GetManifestRequest(version=version), timeout=LIMITS.call_seconds)
            size = 0
            for kind in ARTEFACT_KINDS.values():
                request = wire.StreamArtefactRequest(version=version, kind=kind)
                size += sum(len(chunk.data) for chunk in stub.StreamArtefact(request, timeout=LIMITS.stream_seconds))
            found.append((time.monotonic() - start, size))
    return found


def _flood(caller: Caller, refusing: Any, stop: Any, counts: Any) -> None:
    """Many callers of one identity, each on a connection of its own, none of which waits when told to."""

    def call(_: int) -> tuple[int, int]:
        calls = refused = 0
        with caller.channel() as channel:
            check = health_pb2_grpc.HealthStub(channel).Check
            while not stop.is_set():
                calls += 1
                try:
                    check(health_pb2.HealthCheckRequest(), timeout=LIMITS.call_seconds)
                except grpc.RpcError as error:
                    refused += error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                    refusing.set()
        return calls, refused

    with ThreadPoolExecutor(FLOODERS) as pool:
        parts = list(pool.map(call, range(FLOODERS)))
    counts.put((sum(calls for calls, _ in parts), sum(refused for _, refused in parts)))
