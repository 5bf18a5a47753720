"""Attacks on a real owner process over real sockets; an honest consumer is served all the same."""

import contextlib
import dataclasses
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import grpc
import pytest

import consumer
from consumer import channel, fetching
from consumer.study import Study
from data_owner import authority, decisions, release
from data_owner.ledger import Ledger
from data_owner.node import Node
from protocol import identity
from protocol.access import RELEASE_METHODS
from protocol.artefacts import PAYLOAD, Artefact
from protocol.calls import CLIENT_OPTIONS
from protocol.entry import Served, parse_entry
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from shared import folder
from shared.clock import now
from shared.errors import PolicyRefusal, Unreachable
from shared.limits import LIMITS
from tests.conftest import record_measured, write_draft
from tests.owner_process import OwnerProcess, let_in, owner_process

LARGE = 3_000_064
LARGE_RELEASE, TO_BE_DENIED = 2, 3
SHORT = {
    "handshake_seconds": 3.0,
    "call_seconds": 2.0,
    "stream_seconds": 4.0,
    "watch_seconds": 0.1,
    "unanswered_seconds": 2.0,
}
CHECK, STREAM = "/grpc.health.v1.Health/Check", "/fair4free.v1.ReleaseService/StreamArtefact"


@pytest.fixture(scope="module")
def hospital(approved_node: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The approved release and two more whose decoder is large enough to be cut, drip and stall."""
    node = Node(tmp_path_factory.mktemp("attacked") / "hospital")
    shutil.copytree(approved_node, node.folder)
    artefacts = {kind: (node.releases / "1" / kind.filename).read_bytes() for kind in PAYLOAD}
    card = artefacts.pop(Artefact.CARD)
    for first in (0, 1):  # LARGE_RELEASE and TO_BE_DENIED are not the same bytes, or the denial would be of both
        artefacts[Artefact.DECODER] = bytes((first + byte) % 256 for byte in range(256)) * (LARGE // 256)
        version = write_draft(node, artefacts)
        record_measured(node, version, card)
        decisions.approve(node.folder, by="Dr. Test")
    return node.folder


@contextlib.contextmanager
def attacked(hospital: Path, place: Path) -> Iterator[OwnerProcess]:
    """Serve a copy of the hospital."""
    shutil.copytree(hospital, place / "hospital")
    with owner_process(Node(place / "hospital"), place / "log", **SHORT) as found:
        yield found


@pytest.fixture(scope="module")
def owner(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnerProcess]:
    with attacked(hospital, tmp_path_factory.mktemp("owner")) as found:
        yield found
        assert found.stop() == 0


@pytest.fixture
def study(owner: OwnerProcess, tmp_path: Path) -> Study:
    return let_in(owner, tmp_path / "study")


def withdraw(owner: OwnerProcess, study: Study) -> None:
    fingerprint = study.fingerprint.read_text()
    authority.decide(owner.node, fingerprint, authority.Decision.DENIED, by="Ada", now=datetime.now(UTC))


def honest(study: Study) -> None:
    assert consumer.fetch(study.folder, version=1).release.manifest.version == 1


@contextlib.contextmanager
def slow_reader(study: Study) -> Iterator[grpc.Channel]:
    """A channel that takes no more than it is made to read."""
    invitation = study.invitation()
    credentials = grpc.ssl_channel_credentials(
        invitation.certificate_authority.encode(), study.key.read_bytes(), study.certificate.read_bytes()
    )
    options = [*CLIENT_OPTIONS, ("grpc.http2.lookahead_bytes", 65_535), ("grpc.http2.bdp_probe", 0)]
    with grpc.secure_channel(invitation.address, credentials, options=options) as opened:
        yield opened


def large(stub: service.ReleaseServiceStub, timeout: float = 30, version: int = LARGE_RELEASE) -> grpc.Call:
    request = wire.StreamArtefactRequest(version=version, kind=wire.ARTEFACT_KIND_DECODER)
    return stub.StreamArtefact(request, timeout=timeout)


def assert_no_call_is_open(owner: OwnerProcess, within: float) -> None:
    until = time.monotonic() + within
    while owner.metric("fair4free_open_calls"):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_revoked_identity_loses_the_stream_it_has_open(owner: OwnerProcess, study: Study) -> None:
    with slow_reader(study) as opened:
        stream = large(service.ReleaseServiceStub(opened))
        received = len(next(stream).data)
        withdraw(owner, study)
        with contextlib.suppress(grpc.RpcError):
            for chunk in stream:
                received += len(chunk.data)
        assert stream.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.CANCELLED)
    assert received < LARGE / 2
    with pytest.raises(PolicyRefusal):
        consumer.fetch(study.folder, version=1)


def test_a_release_that_is_denied_leaves_no_further_by_a_stream_that_is_open(owner: OwnerProcess, study: Study) -> None:
    with slow_reader(study) as opened:
        stream = large(service.ReleaseServiceStub(opened), version=TO_BE_DENIED)
        received = len(next(stream).data)
        release.deny(owner.node, TO_BE_DENIED, by="Ada", reason="recalled", now=now())
        with contextlib.suppress(grpc.RpcError):
            for chunk in stream:
                received += len(chunk.data)
        assert stream.code() is grpc.StatusCode.NOT_FOUND
    assert received < LARGE / 2


def test_a_stream_of_many_chunks_is_one_entry_in_the_log_and_a_resumed_one_another(
    owner: OwnerProcess, study: Study
) -> None:
    offsets = (0, LARGE - 100_000, LARGE)
    with channel.mutual(study) as opened:
        stub = service.ReleaseServiceStub(opened)
        for offset in offsets:
            request = wire.StreamArtefactRequest(version=LARGE_RELEASE, kind=wire.ARTEFACT_KIND_DECODER, offset=offset)
            assert sum(len(chunk.data) for chunk in stub.StreamArtefact(request, timeout=30)) == LARGE - offset
    with Ledger(owner.node.ledger) as log:
        entries = [entry for entry in map(parse_entry, log.entries()) if isinstance(entry, Served)]
    party = study.fingerprint.read_text()
    assert [(entry.offset, entry.length) for entry in entries if entry.party == party] == [
        (offset, LARGE - offset) for offset in offsets[:2]
    ]


def test_a_revoked_identity_that_does_not_read_is_cut_off_too(owner: OwnerProcess, study: Study) -> None:
    with slow_reader(study) as opened:
        stream = large(service.ReleaseServiceStub(opened))
        next(stream)
        withdraw(owner, study)
        assert_no_call_is_open(owner, within=SHORT["stream_seconds"] / 2)


def test_a_reader_that_stalls_is_cut_off_in_time_and_starves_nobody(
    owner: OwnerProcess, study: Study, tmp_path: Path
) -> None:
    with slow_reader(study) as opened:
        stub = service.ReleaseServiceStub(opened)
        stalled = [large(stub) for _ in range(LIMITS.concurrent_calls_an_identity)]
        for stream in stalled:
            next(stream)
        honest(let_in(owner, tmp_path / "other"))
        assert_no_call_is_open(owner, within=20)


def test_requests_that_never_come_are_cut_off_in_time(owner: OwnerProcess, study: Study, tmp_path: Path) -> None:
    """A call is opened and its request never sent: no thread waits for it longer than a call may last."""
    never = threading.Event()

    def silence() -> Iterator[bytes]:
        never.wait(20)
        yield from ()

    with channel.mutual(study) as opened:
        silent = [opened.stream_unary(CHECK).future(silence(), timeout=20) for _ in range(8)]
        honest(let_in(owner, tmp_path / "other"))
        codes = {call.exception().code() for call in silent}
        never.set()
    assert codes == {grpc.StatusCode.CANCELLED}


def test_a_call_that_was_cut_is_logged_as_what_ended_it_and_not_as_answered(owner: OwnerProcess, study: Study) -> None:
    caller = study.fingerprint.read_text()

    def codes() -> list[str]:
        return [line["code"] for line in owner.logs() if line.get("caller") == caller and line["event"] == "call"]

    with slow_reader(study) as opened:
        stub = service.ReleaseServiceStub(opened)
        streams = leaves, gives_up, stalls = large(stub), large(stub, timeout=1), large(stub)
        for stream in streams:
            next(stream)
        leaves.cancel()
        until = time.monotonic() + 15
        while len(codes()) < len(streams):
            assert time.monotonic() < until
            time.sleep(0.05)
    assert codes() == ["CANCELLED", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"]
    assert [stream.code().name for stream in (gives_up, stalls)] == ["DEADLINE_EXCEEDED", "CANCELLED"]


def test_more_calls_at_once_than_an_identity_may_have_wait_their_turn(owner: OwnerProcess, study: Study) -> None:
    with slow_reader(study) as first, slow_reader(study) as second:
        held = [large(service.ReleaseServiceStub(first)) for _ in range(LIMITS.concurrent_calls_an_identity)]
        for stream in held:
            next(stream)
        with pytest.raises(grpc.RpcError) as caught:
            next(large(service.ReleaseServiceStub(second)))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert channel.told_to_wait(caught.value) == pytest.approx(1.0, abs=0.01)
        for stream in held:
            stream.cancel()


class Proxy:
    """Passes bytes on to the owner; what comes back goes through `deliver`, in pieces."""

    def __init__(self, target: tuple[str, int], deliver: Callable[[int, bytes, socket.socket], bool]) -> None:
        self._target, self._deliver = target, deliver
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.connections = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                far = socket.create_connection(self._target)
                number, self.connections = self.connections, self.connections + 1
                threading.Thread(target=self._pump, args=(near, far, None), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, number), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, number: int | None) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(4096):
                if number is None:
                    sink.sendall(data)
                elif not self._deliver(number, data, sink):
                    break
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._listener.close()


def through(study: Study, proxy: Proxy) -> None:
    folder.write(study.invitation_file, study.invitation().model_copy(update={"address": proxy.address}).to_bytes())


def asks_after(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """A consumer that asks whether the owner is there, and waits for the answer, for so many milliseconds."""
    options = [
        (name, min(value, most) if "keepalive" in name or "ping" in name else value) for name, value in CLIENT_OPTIONS
    ]
    monkeypatch.setattr(channel, "CLIENT_OPTIONS", options)


def test_a_transfer_cut_mid_stream_is_taken_up_where_it_stopped(owner: OwnerProcess, study: Study) -> None:
    passed: dict[int, int] = {}

    def cut(number: int, data: bytes, sink: socket.socket) -> bool:
        passed[number] = passed.get(number, 0) + len(data)
        if number < 2 and passed[number] > 1_000_000:
            time.sleep(1.0)  # a busy machine reads what arrived: a cut throws the rest of that away
            return False
        sink.sendall(data)
        return True

    proxy = Proxy(owner.address, cut)
    through(study, proxy)
    fetched = consumer.fetch(study.folder, version=2)
    proxy.close()
    assert proxy.connections == 3
    assert len(fetched.release.artefacts[Artefact.DECODER]) == LARGE
    assert sum(passed.values()) < LARGE * 1.3


def test_a_connection_that_died_without_a_word_is_left_for_another(
    owner: OwnerProcess, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks_after(monkeypatch, 1000)
    monkeypatch.setattr(fetching, "LIMITS", dataclasses.replace(LIMITS, stream_seconds=10.0))
    passed, over = 0, threading.Event()

    def die(number: int, data: bytes, sink: socket.socket) -> bool:
        nonlocal passed
        passed += len(data)
        if number == 0 and passed > 1_000_000:
            over.wait(60)  # nor does it hear that the owner hangs up
        sink.sendall(data)
        return True

    proxy = Proxy(owner.address, die)
    through(study, proxy)
    started = time.monotonic()
    consumer.fetch(study.folder, version=2)
    taken = time.monotonic() - started
    over.set()
    proxy.close()
    assert proxy.connections == 2
    assert taken < 10


def test_a_slow_line_is_not_taken_for_a_dead_one(
    owner: OwnerProcess, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks_after(monkeypatch, 500)

    def slowly(number: int, data: bytes, sink: socket.socket) -> bool:
        sink.sendall(data)
        time.sleep(len(data) / 1_200_000)
        return True

    proxy = Proxy(owner.address, slowly)
    through(study, proxy)
    consumer.fetch(study.folder, version=2)
    proxy.close()
    assert proxy.connections == 1


def test_an_owner_that_drips_is_given_up_and_nothing_is_kept(
    owner: OwnerProcess, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "LIMITS", dataclasses.replace(LIMITS, stream_seconds=0.5))
    monkeypatch.setattr(channel, "LIMITS", dataclasses.replace(LIMITS, attempts=2, first_wait_seconds=0.01))
    passed: dict[int, int] = {}

    def drip(number: int, data: bytes, sink: socket.socket) -> bool:
        for start in range(0, len(data), 64):
            sink.sendall(data[start : start + 64])
            passed[number] = passed.get(number, 0) + 64
            if passed[number] > 20_000:
                time.sleep(0.05)
        return True

    proxy = Proxy(owner.address, drip)
    through(study, proxy)
    with pytest.raises(Unreachable):
        consumer.fetch(study.folder, version=2)
    proxy.close()
    assert not study.release(2).exists()
    assert study.last_seen().release == 0


def frames(size: int) -> Callable[[bytes], bytes]:
    return lambda request: b"\x00" * size


def test_one_byte_more_than_a_message_may_have_is_refused(owner: OwnerProcess, study: Study) -> None:
    most = LIMITS.request_bytes + 1024
    codes = []
    with channel.mutual(study) as opened:
        for size in (most, most + 1):
            with pytest.raises(grpc.RpcError) as caught:
                opened.unary_unary(CHECK, request_serializer=frames(size))(None, timeout=5)
            codes.append(caught.value.code())
    # as many zero bytes as are allowed are no message; one more is not even looked at
    assert codes[1] is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert codes[0] is not grpc.StatusCode.RESOURCE_EXHAUSTED


def test_one_byte_more_than_headers_may_have_is_refused(owner: OwnerProcess, study: Study) -> None:
    with channel.mutual(study) as opened:
        check = opened.unary_unary(CHECK)

        def call(size: int) -> grpc.StatusCode:
            try:
                # without a deadline, whose header is sometimes a byte or two longer
                check(b"", metadata=[("padding", "x" * size)])
            except grpc.RpcError as error:
                return error.code()
            return grpc.StatusCode.OK

        low, high = 1, LIMITS.metadata_bytes
        assert call(low) is grpc.StatusCode.OK
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if call(middle) is grpc.StatusCode.OK else (low, middle)
        assert [call(low), call(high)] == [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED]
        assert LIMITS.metadata_bytes - low < 1024  # the rest are the headers of every call


def test_a_thousand_half_open_connections_do_not_keep_an_honest_consumer_out(owner: OwnerProcess, study: Study) -> None:
    with contextlib.ExitStack() as stack:
        half_open = [stack.enter_context(socket.create_connection(owner.address, 5)) for _ in range(1000)]
        for opened in half_open[::2]:
            opened.sendall(b"\x16\x03\x01\x02")  # the first bytes of a handshake that never goes on
        honest(study)
        last = half_open[-1]
        last.settimeout(SHORT["handshake_seconds"] + 60)
        with contextlib.suppress(ConnectionResetError):
            while last.recv(1024):
                pass
    honest(study)


def test_reflection_channelz_and_methods_that_are_not_listed_are_not_there(owner: OwnerProcess, study: Study) -> None:
    with channel.mutual(study) as opened:
        for method in (
            "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            "/grpc.channelz.v1.Channelz/GetServers",
            "/grpc.health.v1.Health/Watch",
            "/fair4free.v1.EnrolmentService/Enrol",
            "/fair4free.v1.ReleaseService/ExportRecords",
        ):
            assert method not in RELEASE_METHODS
            with pytest.raises(grpc.RpcError) as caught:
                opened.unary_unary(method)(b"", timeout=5)
            assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_nothing_is_compressed_though_the_client_asks_for_it(owner: OwnerProcess, study: Study) -> None:
    with channel.mutual(study) as opened:
        call = opened.unary_stream(STREAM, wire.StreamArtefactRequest.SerializeToString, wire.Chunk.FromString)
        found = call(wire.StreamArtefactRequest(version=1, kind=wire.ARTEFACT_KIND_CARD), timeout=5)
        received = b"".join(chunk.data for chunk in found)
        headers = {entry.key: entry.value for entry in found.initial_metadata()}
        assert received
        assert headers.get("grpc-encoding", "identity") == "identity"
        assert headers.get("grpc-accept-encoding", "identity") == "identity"
    invitation = study.invitation()
    credentials = grpc.ssl_channel_credentials(
        invitation.certificate_authority.encode(), study.key.read_bytes(), study.certificate.read_bytes()
    )
    options = [("grpc.ssl_target_name_override", identity.SERVER_NAME)]
    with grpc.secure_channel(invitation.address, credentials, options, grpc.Compression.Gzip) as gzipped:
        with pytest.raises(grpc.RpcError) as caught:
            gzipped.unary_unary(CHECK)(b"\x00" * 1000, timeout=5)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_an_owner_that_is_told_to_stop_is_not_ready_and_sends_what_it_has_begun_to_send(
    hospital: Path, tmp_path: Path
) -> None:
    def events() -> list[str]:
        return [line["event"] for line in owner.logs() if line["logger"] == "fair4free.owner"]

    with attacked(hospital, tmp_path) as owner, slow_reader(let_in(owner, tmp_path / "study")) as opened:
        stream = large(service.ReleaseServiceStub(opened))
        received = len(next(stream).data)
        assert owner.ask("/readyz")[0] == 200
        owner.process.terminate()
        until = time.monotonic() + 3
        while "draining" not in events():
            assert time.monotonic() < until
            time.sleep(0.01)
        assert owner.ask("/readyz")[0] == 503
        received += sum(len(chunk.data) for chunk in stream)
        assert received == LARGE
        assert owner.process.wait(20) == 0
        assert events()[-2:] == ["draining", "stopped"]
