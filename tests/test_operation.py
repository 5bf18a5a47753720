"""What an operator relies on: logs, metrics, probes, advice to who must wait, a doctor that says what to do."""

import errno
import json
import logging
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import grpc
import pandas as pd
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from typer.testing import CliRunner

import consumer
from consumer import channel, enrolment
from consumer import doctor as consumer_doctor
from consumer.distillation import said_of
from consumer.study import Study
from data_owner import authority, ledger_export, load, release, roots
from data_owner import doctor as owner_doctor
from data_owner.cli import app
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.serving import addresses, logs, server
from data_owner.serving.monitoring import Metrics, MonitoringServer, loopback
from data_owner.serving.server_certificate import ServerCertificate
from data_owner.settings import Policy
from protocol import identity
from protocol.access import RELEASE_SERVICE, PartyRole
from protocol.address import host_and_port
from protocol.artefacts import Artefact
from protocol.calls import RETRY_AFTER
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.invitation import Invitation
from protocol.root import KeyRole
from shared.clock import now
from shared.errors import BadInput, PolicyRefusal, Unreachable, VerificationFailure
from shared.limits import LIMITS, MIB
from shared.signals import STOPPING
from shared.student import Distillation, Student
from tests.conftest import Running
from tests.owner_in_memory import invitation, trusting
from tests.owner_process import ROOT, OwnerProcess, let_in, owner_process


@pytest.fixture
def owner(node: Node, tmp_path: Path) -> Iterator[OwnerProcess]:
    with owner_process(node, tmp_path / "log", calls_at_once=25, calls_a_minute=120, chunk_bytes=1024) as found:
        yield found


def test_logs_metrics_and_probes_of_a_serving_owner(owner: OwnerProcess, tmp_path: Path) -> None:
    assert owner.ask("/healthz")[0] == owner.ask("/readyz")[0] == 200
    assert owner.ask("/elsewhere")[0] == 404
    study = let_in(owner, tmp_path / "study")
    assert study.invitation().address == f"localhost:{owner.address[1]}"
    fetched = consumer.fetch(study.folder)
    method = "/fair4free.v1.ReleaseService/StreamArtefact"
    assert owner.metric(f'fair4free_calls_total{{code="OK",method="{method}"}}') == 4
    sent = sum(owner.metric(f'fair4free_sent_bytes_total{{kind="{kind}"}}') for kind in Artefact)
    assert sent == fetched.received
    expected = {"ready": 1, "pending_enrolments": 0, "log_entries": len(ledger_export.export(owner.node).entries)}
    assert {name: owner.metric(f"fair4free_{name}") for name in expected} == expected
    for name, days in (("release", 89), ("root", LIMITS.root_days - 1), ("server_certificate", 29)):
        assert owner.metric(f"fair4free_{name}_expires_timestamp_seconds") > time.time() + days * 86_400
    assert owner.stop() == 0
    lines = owner.logs()
    calls = [line for line in lines if line["event"] == "call"]
    assert {line["caller"] for line in calls if "Release" in line["method"]} == {study.fingerprint.read_text()}
    assert all(set(line) <= {"time", "level", "logger", "event", *logs.FIELDS} for line in lines)


def test_who_serves_needs_no_records_and_nothing_that_owner_toml_says(node: Node, tmp_path: Path) -> None:
    for path in node.withheld:
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    node.settings.write_text(node.settings.read_text().replace('name = "hospital"', 'name = "clinic"'))
    with owner_process(node, tmp_path / "log") as owner:
        study = let_in(owner, tmp_path / "study")
        assert study.invitation().node == consumer.fetch(study.folder).release.manifest.node == "hospital"
        consumer.verify(study.folder)
    assert not any(path.exists() for path in node.withheld)


@pytest.mark.parametrize(
    "modules",
    ["data_owner.cli, data_owner.serving.logs, data_owner.serving.server", "consumer.cli, consumer.receiving_steps"],
)
def test_what_faces_the_network_loads_nothing_that_reads_tables_or_runs_models(modules: str) -> None:
    heavy = "{'numpy', 'pandas', 'pyarrow', 'safetensors', 'sklearn', 'torch'}"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_what_an_alert_counts_is_counted_under_the_code_that_was_answered(owner: OwnerProcess, tmp_path: Path) -> None:
    study, release_1 = let_in(owner, tmp_path / "study"), owner.node.releases / "1"
    card = release_1.joinpath(Artefact.CARD.filename)
    was = card.read_bytes()
    card.unlink()
    with pytest.raises(Unreachable):
        consumer.fetch(study.folder)
    card.write_bytes(was + b" ")
    with pytest.raises(VerificationFailure):
        consumer.fetch(study.folder)
    card.write_bytes(was)
    fingerprint = study.fingerprint.read_text()
    authority.decide(owner.node, fingerprint, authority.Decision.DENIED, by="Ada", now=datetime.now(UTC))
    with pytest.raises(PolicyRefusal):
        consumer.fetch(study.folder)
    until = time.monotonic() + 5  # a call is counted after it was answered
    while not {"INTERNAL", "DATA_LOSS", "PERMISSION_DENIED"} <= set(
        re.findall(r'fair4free_calls_total\{code="(\w+)"', owner.ask("/metrics")[1])
    ):
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_flood_is_told_when_to_come_again_and_who_waits_gets_everything(
    owner: OwnerProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flooder, other = let_in(owner, tmp_path / "flooder"), let_in(owner, tmp_path / "other")
    with channel.mutual(flooder) as opened, ThreadPoolExecutor(LIMITS.concurrent_calls_an_identity) as pool:
        check = health_pb2_grpc.HealthStub(opened).Check

        def call(number: int) -> grpc.RpcError | None:
            try:
                check(health_pb2.HealthCheckRequest(), timeout=20)
            except grpc.RpcError as error:
                return error
            return None

        refused = [error for error in pool.map(call, range(60)) if error is not None]
        flooded = time.monotonic()
    assert {error.code() for error in refused} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert 20 <= len(refused) < 60
    waits = [channel.told_to_wait(error) for error in refused]
    assert all(wait is not None and 0 < wait <= 1.1 for wait in waits)
    assert owner.metric('fair4free_refused_total{reason="rate"}') == len(refused)
    assert not [line for line in owner.logs() if line.get("code") == "RESOURCE_EXHAUSTED"]
    waited: list[float] = []
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: (waited.append(seconds), sleep(seconds)))
    consumer.fetch(flooder.folder)  # waits as told, and gets everything
    assert waited or time.monotonic() - flooded > 3, "two calls a second are let in, and a fetch makes more than six"
    consumer.fetch(other.folder)  # has a bucket of its own


def test_who_finds_every_place_taken_is_told_when_to_come_again_and_the_operator_sees_it(
    node: Node, tmp_path: Path
) -> None:
    with owner_process(node, tmp_path / "log", concurrent_calls=2) as owner, ExitStack() as kept:
        first, other = let_in(owner, tmp_path / "first"), let_in(owner, tmp_path / "other")
        held, late = (kept.enter_context(channel.mutual(study)) for study in (first, other))
        never, check = threading.Event(), "/grpc.health.v1.Health/Check"

        def silence() -> Iterator[bytes]:
            never.wait(20)
            yield from ()

        silent = [held.stream_unary(check).future(silence(), timeout=20) for _ in range(2)]
        until = time.monotonic() + 5
        while owner.metric("fair4free_open_calls") < len(silent):
            assert time.monotonic() < until
            time.sleep(0.05)
        for _ in range(3):
            with pytest.raises(grpc.RpcError) as refused:
                late.unary_unary(check)(b"", timeout=5)
            assert channel.told_to_wait(refused.value) == pytest.approx(1.0, abs=0.01)
        assert owner.metric('fair4free_refused_total{reason="full"}') == 3
        let_in(owner, tmp_path / "third")  # the other port has places of its own
        for call in silent:
            call.cancel()
        never.set()
        consumer.fetch(other.folder)


def test_as_many_as_may_wait_behind_one_address_may_ask_as_often_as_the_consumer_does() -> None:
    asked = LIMITS.pending_enrolments_an_address * 60 / LIMITS.enrolment_poll_seconds
    assert LIMITS.enrolments_a_minute >= asked


@pytest.mark.parametrize(
    ("seconds", "state", "asked_after"), [(60.0, "approved", [10.0, 10.0]), (13.0, "pending", [10.0, 3.0])]
)
def test_an_analyst_who_waits_asks_again_until_a_person_decides_or_time_is_up(
    seconds: float,
    state: str,
    asked_after: list[float],
    running: Running,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study, waited = Study(tmp_path / "study"), list[float]()

    def sleep(pause: float) -> None:
        waited.append(pause)
        if sum(waited) == 20.0:
            fingerprint = study.fingerprint.read_text()
            authority.decide(running.node, fingerprint, authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC))

    clock = SimpleNamespace(monotonic=lambda: sum(waited), sleep=sleep)
    monkeypatch.setattr("consumer.enrolment.time", clock)
    monkeypatch.setattr("random.uniform", lambda least, most: least)
    enrolled = consumer.enrol(study.folder, invitation=running.node.invitation, wait_seconds=seconds)
    assert (enrolled.state, waited) == (state, asked_after)


@pytest.mark.parametrize(("seconds", "comes_back"), [(60.0, True), (13.0, False)])
def test_an_analyst_who_waits_outlasts_a_restart_of_the_owner_and_a_busy_one(
    seconds: float, comes_back: bool, running: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, send, asked = Study(tmp_path / "study"), enrolment._send, list[float]()

    def away_or_busy(trusted: Invitation, request: bytes) -> wire.EnrolResponse:
        asked.append(sum(waited))
        if 1 < len(asked) < 4:
            raise Unreachable("the owner is busy")
        return send(trusted, request)

    waited = list[float]()
    monkeypatch.setattr(enrolment, "time", SimpleNamespace(monotonic=lambda: sum(waited), sleep=waited.append))
    monkeypatch.setattr(enrolment, "_send", away_or_busy)
    if comes_back:
        found = consumer.enrol(study.folder, invitation=running.node.invitation, wait_seconds=seconds)
        assert found.state == "pending"
        assert len(asked) >= 4
    else:
        with pytest.raises(Unreachable, match="busy"):
            consumer.enrol(study.folder, invitation=running.node.invitation, wait_seconds=seconds)
        assert asked[-1] == seconds


class Busy(grpc.RpcError):
    """The owner's answer to too many calls, with this advice."""

    def __init__(self, *advice: str) -> None:
        self._metadata = [SimpleNamespace(key=RETRY_AFTER, value=text) for text in advice]

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.RESOURCE_EXHAUSTED

    def trailing_metadata(self) -> object:
        return self._metadata


def test_a_consumer_waits_as_told_but_no_longer_than_makes_sense() -> None:
    assert channel.told_to_wait(Busy("1500")) == 1.5
    for advice in ((), ("-1",), ("",), ("soon",), ("9" * 30,), (str(int(LIMITS.retry_seconds * 1000) + 1),)):
        assert channel.told_to_wait(Busy(*advice)) is None


def test_grpc_health_tells_alive_from_ready(running: Running, tmp_path: Path) -> None:
    study = let_in(running, tmp_path / "study")
    ready = [True]
    oversight = server.Oversight(lambda: ready[0])
    readiness = server.release_server(running.node, oversight)
    credentials = ServerCertificate(running.node, mutual=True).credentials()
    address = server._bind(readiness, "127.0.0.1:0", credentials)
    readiness.start()
    running.invite(address)
    consumer.enrol(study.folder, invitation=running.node.invitation)
    states = health_pb2.HealthCheckResponse
    with channel.mutual(study) as opened:
        check = health_pb2_grpc.HealthStub(opened).Check
        for now_ready, state in ((True, states.SERVING), (False, states.NOT_SERVING)):
            ready[0] = now_ready
            request = health_pb2.HealthCheckRequest(service=RELEASE_SERVICE)
            assert check(request, timeout=5).status == state
            assert check(health_pb2.HealthCheckRequest(), timeout=5).status == states.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            check(health_pb2.HealthCheckRequest(service="records"), timeout=5)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    readiness.stop(0).wait()


def formatted(name: str, message: str, *arguments: object, **extra: object) -> dict[str, object]:
    try:
        raise ValueError("canary-value-in-an-error")
    except ValueError as error:
        caught = (type(error), error, error.__traceback__)
    record = logging.getLogger(name).makeRecord(
        name, logging.ERROR, __file__, 1, message, arguments, caught, extra=extra
    )
    line = logs.JsonLines().format(record)
    assert "canary" not in line
    found: dict[str, object] = json.loads(line)
    return found


def test_no_text_of_an_error_or_of_a_library_reaches_the_log() -> None:
    ours = formatted("fair4free.owner", "cannot answer", code="INTERNAL", row="canary")
    assert (ours["event"], ours["code"], ours["error"]) == ("cannot answer", "INTERNAL", "ValueError")
    assert str(ours["at"]).startswith(__file__)
    assert formatted("grpc._server", "Exception: canary")["event"] == "message withheld"
    assert formatted("fair4free.owner", "patient %s", "canary")["event"] == "message withheld"


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "10.0.0.1:1", "[::]:9464", "localhost", "127.0.0.1:x", "", "::1"])
def test_metrics_are_only_for_this_machine(address: str) -> None:
    with pytest.raises(BadInput, match="loopback"):
        loopback(address)


ADDRESSES = [
    "127.0.0.1:99999",
    "127.0.0.1:http",
    "localhost",
    "50443",
    ":50443",
    "[localhost]:1",
    "::1:50443",
    "a:1_0",
    "[zz]:1",
    "[:::::]:1",
    "hö:1",
    "a*b:5",
    "a:1\n",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_what_is_no_address_to_listen_on_is_bad_usage_whatever_grpc_makes_of_it(address: str, tmp_path: Path) -> None:
    for option, pair in (
        ("--address", (address, "127.0.0.1:0")),
        ("--enrolment-address", ("127.0.0.1:0", address)),
    ):
        with pytest.raises(BadInput, match="not host:port") as refused:
            server.serve(Node(tmp_path), *pair)
        assert refused.value.field == option


@pytest.mark.parametrize("host", ["0.0.0.0", "[::]", "[0::0]"])
def test_who_listens_on_every_address_says_by_which_name_analysts_reach_it(host: str, tmp_path: Path) -> None:
    for option, pair in (
        ("--address", (f"{host}:0", "127.0.0.1:0")),
        ("--enrolment-address", ("127.0.0.1:0", f"{host}:0")),
        ("--host-name", ("127.0.0.1:0", "127.0.0.1:0", "", host)),
    ):
        with pytest.raises(BadInput, match="none that an analyst can call") as refused:
            server.serve(Node(tmp_path), *pair)
        assert refused.value.field == option
        assert "--host-name" in refused.value.remedy


@pytest.mark.parametrize(
    ("listening", "host_name", "called"),
    [
        ("127.0.0.1:50443", "", "127.0.0.1:50443"),
        ("[::1]:50443", "", "[::1]:50443"),
        ("0.0.0.0:50443", "owner.hospital.example", "owner.hospital.example:50443"),
        ("[::]:50443", "2001:db8::1", "[2001:db8::1]:50443"),
        ("[::]:50443", "[2001:db8::1]", "[2001:db8::1]:50443"),
    ],
)
def test_an_invitation_names_the_host_name_that_is_given_and_puts_an_ipv6_address_into_brackets(
    listening: str, host_name: str, called: str
) -> None:
    assert addresses.called(listening, host_name) == called
    assert host_and_port(called)[1] == 50_443


def test_an_owner_is_not_ready_before_it_listens_and_its_invitation_is_written(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        metrics_address = f"127.0.0.1:{free.getsockname()[1]}"
    owner = OwnerProcess(node, cast(Any, None), node.folder, {"metrics_address": metrics_address})
    found, stopping = list[int](), threading.Event()

    def look(*_: object) -> None:
        found.append(owner.ask("/readyz")[0])

    monkeypatch.setattr(server.tls_version, "check", look)  # the last step of all
    monkeypatch.setattr(server.authority, "write_invitation", look)

    def ready(listening: server.Listening) -> None:
        look()
        stopping.set()

    server.serve(node, "127.0.0.1:0", "127.0.0.1:0", metrics_address, ready=ready, stopping=stopping)
    assert found == [503, 503, 503, 200]


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_invitation_names_no_address_that_nobody_can_listen_on(address: str) -> None:
    offered = invitation(trusting())
    assert Invitation.from_bytes(offered.to_bytes()) == offered
    for named in ("address", "enrolment_address"):
        with pytest.raises(BadInput, match=f"{named}: .*not host:port"):
            Invitation.from_bytes(offered.model_copy(update={named: address}).to_bytes())


def test_an_address_is_a_name_or_an_ipv4_address_or_an_ipv6_address_in_brackets() -> None:
    assert host_and_port("owner.hospital.example:50443") == ("owner.hospital.example", 50443)
    assert host_and_port("0.0.0.0:0") == ("0.0.0.0", 0)
    assert host_and_port("[::1]:65535") == ("::1", 65_535)


def test_an_owner_whose_root_has_expired_is_not_ready_and_does_not_start(owner: OwnerProcess) -> None:
    assert owner.ask("/readyz")[0] == 200
    then = now() - LIMITS.root_days * 86_400
    ended = roots.propose(owner.node, then, [], None, []).to_bytes()
    signed = roots.add_signature(ended, None, roots.signing_key(owner.node, KeyRole.ROOT))
    roots.install(owner.node, ended, signed, then)
    assert owner.ask("/readyz")[0] == 503
    assert owner.ask("/healthz")[0] == 200
    assert owner.metric("fair4free_ready") == 0
    assert 0 < owner.metric("fair4free_root_expires_timestamp_seconds") <= now()
    release.deny(owner.node, 1, by="Ada", reason="recalled", now=now())
    assert owner.metric("fair4free_release_expires_timestamp_seconds") == 0

    with pytest.raises(PolicyRefusal, match="the root has expired") as refused:
        server.serve(owner.node, "127.0.0.1:0", "127.0.0.1:0", ready=never)
    assert "fair4free-owner root" in refused.value.remedy
    shutil.rmtree(owner.node.roots)
    assert "fair4free_root_expires" not in owner.ask("/metrics")[1]
    assert owner.metric("fair4free_log_entries") == Ledger.size(owner.node.ledger)


def test_a_node_is_served_from_any_thread_until_an_event_is_set_and_signals_are_then_as_before(node: Node) -> None:
    before = {each: signal.getsignal(each) for each in STOPPING}

    def serve(stop: Callable[[threading.Event], None]) -> None:
        ended = threading.Event()
        server.serve(node, "127.0.0.1:0", "127.0.0.1:0", ready=lambda listening: stop(ended), stopping=ended)

    with ThreadPoolExecutor(1) as beside:
        beside.submit(serve, threading.Event.set).result(30)
    for number in STOPPING:
        serve(lambda ended, number=number: signal.raise_signal(number))  # type: ignore[misc]
    assert {each: signal.getsignal(each) for each in before} == before


def test_a_node_is_served_by_one_process_and_its_invitation_keeps_the_addresses(owner: OwnerProcess) -> None:
    before = owner.node.invitation.read_bytes()
    with pytest.raises(Unreachable, match="another run holds it") as refused:
        server.serve(owner.node, "127.0.0.1:0", "127.0.0.1:0", ready=never)
    assert refused.value.field == str(owner.node.serving_lock)
    assert owner.node.invitation.read_bytes() == before
    assert owner.ask("/readyz")[0] == 200


def never(listening: server.Listening) -> None:
    raise AssertionError("it serves")


def test_the_servers_certificate_is_renewed_though_nobody_calls(owner: OwnerProcess) -> None:
    almost_over = datetime.now(UTC) - timedelta(days=LIMITS.certificate_days - 3)
    authority.renew_server_certificate(owner.node, almost_over)
    assert owner.metric("fair4free_server_certificate_expires_timestamp_seconds") > time.time() + 29 * 86_400


def test_one_address_cannot_fill_the_list_of_who_waits_and_is_told_whom_to_ask(node: Node, tmp_path: Path) -> None:
    with owner_process(node, tmp_path / "log", pending_enrolments_an_address=1) as owner:
        consumer.enrol(tmp_path / "first", invitation=node.invitation)
        with pytest.raises(PolicyRefusal, match="ask the owner, who has to mend or decide that first"):
            consumer.enrol(tmp_path / "second", invitation=node.invitation)
        assert owner.metric('fair4free_refused_total{reason="pending"}') == 1
        assert owner.metric("fair4free_pending_enrolments") == 1
        let_in(owner, tmp_path / "first")
        let_in(owner, tmp_path / "second")


def test_an_owner_who_could_not_log_what_it_serves_is_not_ready(node: Node, tmp_path: Path) -> None:
    with owner_process(node, tmp_path / "log", ledger_wait_seconds=0.2) as owner:
        with closing(sqlite3.connect(node.ledger, isolation_level=None)) as another:
            another.execute("BEGIN IMMEDIATE")
            assert owner.ask("/readyz")[0] == 503
            assert owner.ask("/healthz")[0] == 200
        assert owner.ask("/readyz")[0] == 200
    with owner_process(node, tmp_path / "log", ledger_free_bytes=2**62) as owner:
        assert owner.ask("/readyz")[0] == 503


def test_an_address_in_use_is_named_and_never_shared(running: Running) -> None:
    another = server.release_server(running.node, server.Oversight(lambda: True))
    with pytest.raises(Unreachable, match="free port"):
        server._bind(another, running.address, ServerCertificate(running.node, mutual=True).credentials())
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(Unreachable, match="free port"):
        MonitoringServer(f"127.0.0.1:{taken.getsockname()[1]}", Metrics(lambda: 0), lambda: True)


def test_the_documents_name_the_limits_as_they_are() -> None:
    """By phrases that are short enough to outlive a rewording."""
    words = {5: "five", 10: "ten", 100: "a hundred"}
    runbook, readme = (
        " ".join((ROOT / name).read_text("utf-8").split()) for name in ("deploy/RUNBOOK.md", "README.md")
    )
    for said in (
        f"{words[LIMITS.pending_enrolments_an_address]} may wait from one address",
        f"{words[LIMITS.pending_enrolments]} in all",
        f"each for {LIMITS.pending_days} days",
        f"within {words[int(LIMITS.drain_seconds)]} seconds",
        f"less than {LIMITS.ledger_free_bytes // MIB} MiB free",
        f"{LIMITS.calls_a_minute} calls a minute",
        f"{LIMITS.root_days} days after it was proposed",
        f"{LIMITS.authority_days:,} days after `init`",
        f"In its last {LIMITS.authority_warning_days} days",
        f"is less than {LIMITS.authority_warning_days} days away",
        f"`release_days`, {Policy().release_days} if owner.toml says nothing else",
    ):
        assert said in runbook
    assert f"after {Policy().release_days} days (`release_days` in owner.toml)" in readme
    assert f"at most {LIMITS.columns} columns" in readme
    unit = (ROOT / "deploy" / "fair4free-owner.service").read_text("utf-8")
    assert int(unit.partition("TimeoutStopSec=")[2].split()[0]) > LIMITS.drain_seconds


def problems(findings: list[owner_doctor.Diagnosis]) -> set[str]:
    assert all(finding.text for finding in findings)
    return {finding.name for finding in findings if not finding.passed}


def test_doctor_on_both_sides_names_each_problem_and_its_fix(running: Running, tmp_path: Path) -> None:
    study = let_in(running, tmp_path / "study")
    consumer.fetch(study.folder)
    assert problems(owner_doctor.diagnose(running.node)) == set()
    assert problems(consumer_doctor.diagnose(study)) == {"student"}
    reached = Distillation(distance=0.1, gaussian_distance=0.2, prior_distance=0.3, history=((1, 0.1),))
    said = said_of(reached, study.last_seen().manifest_sha256)
    silent = {"manifest_sha256": said["manifest_sha256"]}
    students = (b"garbage", Student(4).to_bytes({}), Student(4).to_bytes(silent), Student(4).to_bytes(said))
    for student, found in zip(students, ({"student"}, {"student"}, {"student"}, set()), strict=True):
        study.student.write_bytes(student)
        assert problems(consumer_doctor.diagnose(study)) == found
    study.student.unlink()
    told = CliRunner().invoke(app, ["doctor", str(running.node.folder), "--json"])
    assert json.loads(told.stdout)["result"]["limits"] == vars(LIMITS)

    authority_key = (running.node.keys / authority.AUTHORITY_KEY).read_bytes()
    authority_certificate = (running.node.keys / authority.AUTHORITY).read_bytes()
    nearly_over = datetime.now(UTC) - timedelta(days=LIMITS.certificate_days - 3)
    request = identity.new_request(study.key.read_bytes(), "analyst")
    study.certificate.write_bytes(
        identity.issue_client_certificate(
            request, "analyst", authority_key, authority_certificate, nearly_over, PartyRole.ANALYST
        )
    )
    authority.renew_server_certificate(running.node, nearly_over)
    authority.write_invitation(
        running.node, running.address, f"hospital.invalid:{running.enrolment_address.rpartition(':')[2]}"
    )
    assert problems(owner_doctor.diagnose(running.node)) == set()
    next(running.node.keys.glob("release-*.key")).chmod(0o644)
    release.deny(running.node, 1, by="Ada", reason="recalled", now=now())
    found = {finding.name: finding for finding in owner_doctor.diagnose(running.node)}
    assert {name for name, finding in found.items() if not finding.passed} == {"private files", "releases"}
    assert CliRunner().invoke(app, ["doctor", str(running.node.folder)]).exit_code == 0  # to find is not to fail
    assert "chmod 600" in found["private files"].text
    assert "train a new release" in found["releases"].text
    running.stop()
    assert "serve" in {f.name: f for f in owner_doctor.diagnose(running.node)}["listening"].text
    findings = {finding.name: finding for finding in consumer_doctor.diagnose(study)}
    assert {name for name, finding in findings.items() if not finding.passed} == {"certificate", "owner", "student"}
    assert "fair4free enrol" in findings["certificate"].text
    study.key.unlink()
    assert "fair4free enrol" in {f.name: f for f in consumer_doctor.diagnose(study)}["key"].text


def test_a_node_bears_the_name_that_init_is_given(table: pd.DataFrame, tmp_path: Path) -> None:
    table.to_csv(tmp_path / "patients.csv", index=False)
    node = Node(tmp_path / "node")
    roles = ["--target", "died", "--sensitive", "région", "--positive", "1", "--name", "St. Mary"]
    done = CliRunner().invoke(app, ["init", str(node.folder), "--data", str(tmp_path / "patients.csv"), *roles])
    assert done.exit_code == 0, done.output
    assert read_settings(node).name == roots.newest(node).node == "St. Mary"


def test_a_load_that_is_terminated_leaves_no_copy_of_the_keys_and_nobody_who_serves_it(node: Node) -> None:
    command = [sys.executable, "-c", "from data_owner.cli import main; main()", "load", str(node.folder)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 60
        while not (invitations := list(node.folder.glob(".load-*/node/invitation.json"))):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.02)
        address = Invitation.from_bytes(invitations[0].read_bytes()).address
        process.terminate()
        assert process.wait(60) == 128 + signal.SIGTERM
    assert not list(node.folder.glob(".load-*"))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(host_and_port(address))


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


CONNECT = sqlite3.connect


def unwritable(place: str | Path, **options: Any) -> sqlite3.Connection:
    if ".load-" in str(place):
        raise sqlite3.OperationalError("database or disk is full")
    return CONNECT(place, **options)


@pytest.mark.parametrize(
    ("call", "fails", "said"),
    [
        ("tempfile.mkdtemp", full, "no space left"),
        ("shutil.copyfile", full, "cannot be written"),
        ("data_owner.append_only.sqlite3.connect", unwritable, "cannot be copied"),
    ],
)
def test_a_load_that_finds_the_disk_full_says_so_and_leaves_no_copy(
    node: Node, call: str, fails: Callable[..., object], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(call, fails)
        with pytest.raises(Unreachable, match=said):
            load.load(node)
    assert not list(node.folder.glob(".load-*"))


def test_load_measures_consumers_beside_a_flood_and_leaves_the_node_as_it_was(node: Node) -> None:
    before = {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()}
    found = load.load(node, fetches=2)
    assert len(found.alone.fetch_seconds) == len(found.beside_flood.fetch_seconds) == 2 * load.CONSUMERS
    assert found.alone.bytes == found.beside_flood.bytes > 0
    assert found.refused > 0
    assert "times that alone" in load.as_text(found)
    assert {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()} == before
