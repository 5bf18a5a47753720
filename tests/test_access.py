"""Who may do what: every method and artefact is in a table, and what is not is denied."""

import dataclasses
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import grpc
import pytest
from cryptography import x509
from grpc_health.v1 import health_pb2
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

import consumer
from consumer import channel
from consumer.study import Study
from data_owner import authority
from data_owner.cli import app
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.serving import open_calls, server
from data_owner.serving.access_control import AccessControl, EnrolmentPort, ReleasePort, place
from data_owner.serving.admission import Admission, TokenBucket
from data_owner.serving.monitoring import Metrics
from data_owner.serving.open_calls import OpenCall, OpenCalls, to_end
from protocol import identity
from protocol.access import ENROLMENT_METHODS, READABLE, RELEASE_METHODS, PartyRole, may_call, may_read
from protocol.artefacts import Artefact
from protocol.entry import Enrolment, Revocation
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from shared.errors import PolicyRefusal, VerificationFailure
from shared.limits import LIMITS
from tests.conftest import Running


def every_method() -> set[str]:
    files = (wire.DESCRIPTOR, health_pb2.DESCRIPTOR)
    services = [found for file in files for found in file.services_by_name.values()]
    return {f"/{found.full_name}/{method.name}" for found in services for method in found.methods}


def test_every_method_of_the_contract_is_in_a_table_and_no_other() -> None:
    endless = {"/grpc.health.v1.Health/Watch", "/grpc.health.v1.Health/List"}
    assert every_method() - endless == RELEASE_METHODS | ENROLMENT_METHODS


def test_which_roles_may_call_which_methods() -> None:
    for method in every_method():
        assert not may_call(None, method)
        for role in PartyRole:
            assert may_call(role, method) is (method in RELEASE_METHODS)
    assert not may_call(PartyRole.ANALYST, "/fair4free.v1.ReleaseService/ExportRecords")


def test_an_auditor_reads_what_was_promised_and_never_the_model() -> None:
    assert set(READABLE) == set(PartyRole)
    assert {kind for kind in Artefact if may_read(PartyRole.AUDITOR, kind)} == {Artefact.MANIFEST, Artefact.CARD}
    assert all(may_read(PartyRole.ANALYST, kind) for kind in Artefact)
    assert not any(may_read(None, kind) for kind in Artefact)


def test_a_role_that_no_table_lists_may_nothing() -> None:
    role = cast(PartyRole, "reader")
    assert not any(may_call(role, method) for method in RELEASE_METHODS)
    assert not any(may_read(role, artefact) for artefact in Artefact)


@pytest.mark.parametrize("port", [ReleasePort(Node(Path("nowhere"))), EnrolmentPort()])
def test_a_method_that_no_table_lists_has_no_handler_though_there_is_code_for_it(port: ReleasePort) -> None:
    control = AccessControl(port, Metrics(lambda: 0), OpenCalls())
    behind = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
    for method in {*every_method(), "/fair4free.v1.ReleaseService/ExportRecords", ""}:
        details = cast(grpc.HandlerCallDetails, SimpleNamespace(method=method))
        found = control.intercept_service(lambda details: behind, details)
        assert (found is not None) is (method in port.methods)


@given(st.lists(st.floats(0, 10), max_size=80), st.integers(1, 20), st.floats(0.1, 10))
def test_a_token_bucket_never_admits_more_than_burst_and_rate_allow(
    gaps: list[float], burst: int, a_second: float
) -> None:
    now, admitted = 0.0, 0
    bucket = TokenBucket(burst, now)
    for gap in gaps:
        now += gap
        bucket, wait = bucket.take(a_second=a_second, burst=burst, now=now)
        admitted += wait == 0
        assert admitted <= burst + now * a_second + 1e-6
        if wait:
            later, left = bucket.take(a_second=a_second, burst=burst, now=now + wait + 1e-6)
            assert left == 0
            assert later.tokens < 1


def test_a_clock_that_stands_still_or_goes_back_gives_no_tokens() -> None:
    bucket = TokenBucket(0.0, 100.0)
    assert bucket.take(a_second=1, burst=5, now=90.0)[1] == pytest.approx(1.0)


def test_identities_do_not_share_a_bucket_and_are_not_counted_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    few = dataclasses.replace(LIMITS, identities_counted=3)
    monkeypatch.setattr("data_owner.serving.admission.LIMITS", few)
    admission = Admission(2, 60)
    assert [admission.seconds_to_wait("a", 0.0) > 0 for _ in range(3)] == [False, False, True]
    assert admission.seconds_to_wait("b", 0.0) == 0
    for name in "cdefg":
        admission.seconds_to_wait(name, 0.0)
    assert len(admission._buckets) == 3


class Context:
    cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Refusable(Context):
    code: grpc.StatusCode | None = None

    def add_callback(self, callback: object) -> bool:
        return True

    def abort(self, code: grpc.StatusCode, details: str) -> None:
        self.code = code
        raise PermissionError(details)


def test_a_caller_who_is_about_to_be_refused_is_not_cut_off_before() -> None:
    calls, looked, context = OpenCalls(), [], Refusable()

    def permits(identity: str, method: str) -> bool:
        assert not looked, "the watcher does not ask of a call that is not admitted"
        looked.append(to_end(list(calls._calls), 0.0))
        return False

    rate = {"calls_at_once": 1, "calls_a_minute": 1}
    port = SimpleNamespace(methods={"m"}, permits=permits, identity=lambda context: "key", **rate)
    control = AccessControl(cast(ReleasePort, port), Metrics(calls.__len__), calls)
    with pytest.raises(PermissionError):
        control._admit("m", cast(grpc.ServicerContext, context), LIMITS.call_seconds)
    assert (looked, context.code) == ([[]], grpc.StatusCode.PERMISSION_DENIED)


def test_calls_out_of_time_or_right_are_ended_and_one_identity_has_only_so_many() -> None:
    mine = [OpenCall("a", 10.0, lambda: True, Context()) for _ in range(LIMITS.concurrent_calls_an_identity)]
    sent_away = OpenCall("b", 10.0, lambda: False, Context())
    assert to_end([*mine, sent_away], 9.0) == [sent_away]
    assert to_end([*mine, sent_away], 10.0) == [*mine, sent_away]
    calls = OpenCalls()
    assert not any(calls.enter(call) for call in mine)
    assert calls.enter(OpenCall("a", 10.0, lambda: True, Context())) == "concurrency"
    assert not calls.enter(sent_away)
    for call in mine:
        calls.leave(call)
    calls.leave(mine[0])
    assert len(calls) == 1


def test_a_watcher_that_could_not_start_leaves_no_call_behind_and_the_next_call_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(open_calls, "LIMITS", dataclasses.replace(LIMITS, watch_seconds=0.01))
    calls, context = OpenCalls(), Context()
    late = OpenCall("a", 0.0, lambda: True, context)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError):
            calls.enter(late)
    assert len(calls) == 0
    assert not calls.enter(late)
    until = time.monotonic() + 5
    while not context.cancelled:
        assert time.monotonic() < until
        time.sleep(0.01)
    calls.leave(late)


def enrolled(running: Running, folder: Path, role: PartyRole) -> Study:
    study = Study(folder)
    found = consumer.enrol(folder, invitation=running.node.invitation)
    authority.decide(
        running.node, found.fingerprint, authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC), role=role
    )
    assert consumer.enrol(folder).state == "approved"
    return study


def test_an_auditor_fetches_manifest_and_card_alone_and_is_refused_the_rest(running: Running, tmp_path: Path) -> None:
    study = enrolled(running, tmp_path / "audit", PartyRole.AUDITOR)
    fetched = consumer.fetch(study.folder)
    assert set(fetched.release.artefacts) == {Artefact.CARD}
    assert {path.name for path in study.release(1).iterdir()} == {
        "manifest.json",
        "manifest.sig",
        "card.json",
        "log_proof.json",
    }
    assert consumer.verify(study.folder).release.artefacts == fetched.release.artefacts
    with pytest.raises(PolicyRefusal, match="auditor"):
        consumer.distill(study.folder)
    with channel.mutual(study) as opened:
        stub = service.ReleaseServiceStub(opened)
        for wanted, kind in server.KINDS.items():
            request = wire.StreamArtefactRequest(version=1, kind=wanted)
            if kind is Artefact.CARD:
                assert b"".join(chunk.data for chunk in stub.StreamArtefact(request, timeout=5))
                continue
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.StreamArtefact(request, timeout=5))
            assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_the_role_that_counts_is_the_owners_word_not_the_certificate(running: Running, tmp_path: Path) -> None:
    study = enrolled(running, tmp_path / "study", PartyRole.ANALYST)
    fingerprint = study.fingerprint.read_text()
    authority.decide(
        running.node,
        fingerprint,
        authority.Decision.APPROVED,
        by="Ada",
        now=datetime.now(UTC),
        role=PartyRole.AUDITOR,
    )
    assert identity.certificate_role(study.certificate.read_bytes()) is PartyRole.ANALYST
    with pytest.raises(PolicyRefusal, match="not approved"):
        consumer.fetch(study.folder)
    consumer.enrol(study.folder)
    assert set(consumer.fetch(study.folder).release.artefacts) == {Artefact.CARD}


def test_keys_are_files_of_their_owner_alone(node: Node) -> None:
    kept = {path.name: path.stat().st_mode & 0o077 for path in node.keys.rglob("*") if path.is_file()}
    assert {authority.AUTHORITY_KEY, authority.SERVER_KEY} < {*kept}
    assert not any(kept.values())


def test_a_certificate_lives_30_days_and_enrol_renews_it_while_the_approval_stands(
    running: Running, tmp_path: Path
) -> None:
    study = enrolled(running, tmp_path / "study", PartyRole.ANALYST)
    now, first = datetime.now(UTC), study.certificate.read_bytes()
    assert timedelta(days=29.9) < identity.certificate_expires(first) - now < timedelta(days=30.1)
    assert not identity.needs_renewal(first, now)
    assert identity.needs_renewal(first, now + timedelta(days=21))
    consumer.enrol(study.folder)
    assert study.certificate.read_bytes() != first
    consumer.fetch(study.folder)


def test_a_certificate_that_names_no_role_is_of_none() -> None:
    with pytest.raises(VerificationFailure, match="no known role"):
        identity.certificate_role(identity.new_authority(identity.new_key(), "hospital", datetime.now(UTC)))


def test_a_renewed_certificate_bears_the_name_that_a_person_approved_whatever_is_asked_later(running: Running) -> None:
    key, now = identity.new_key(), datetime.now(UTC)
    request = identity.new_request(key, "Dr. Ada Quinn")
    authority.receive(running.node, request, now)
    party = identity.request_fingerprint(request)
    authority.decide(running.node, party, authority.Decision.APPROVED, by="Eva", now=now)
    assert [path.name for path in running.node.enrolments.iterdir()] == [f"{party}.json"], "the request is not needed"
    _, certificate = authority.receive(running.node, identity.new_request(key, "Eva"), now)
    assert x509.load_pem_x509_certificate(certificate).subject.rfc4514_string() == "OU=analyst,CN=Dr. Ada Quinn"


def test_a_request_that_nobody_decides_on_lapses_and_may_be_made_again(running: Running) -> None:
    start = datetime.now(UTC).replace(microsecond=0)
    requests = [identity.new_request(identity.new_key(), f"slow {number}") for number in range(3)]
    full = dataclasses.replace(LIMITS, pending_enrolments=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(authority, "LIMITS", full)
        for request in requests[:2]:
            authority.receive(running.node, request, start)
        with pytest.raises(PolicyRefusal, match="too many"):
            authority.receive(running.node, requests[2], start + timedelta(days=full.pending_days))
        later = start + timedelta(days=full.pending_days, seconds=2)
        for request in (requests[2], requests[0]):
            assert authority.receive(running.node, request, later) == (authority.Decision.PENDING, b"")
    waiting = {identity.request_fingerprint(request) for request in (requests[0], requests[2])}
    assert {path.stem for path in running.node.enrolments.iterdir()} == waiting


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("ipv4:10.0.0.1:53310", "ipv4:10.0.0.1"),
        ("ipv6:%5B2001:db8:0:7::1%5D:53310", "ipv6:2001:db8:0:7::/64"),
        ("ipv6:[2001:db8:0:7:ffff::2]:1", "ipv6:2001:db8:0:7::/64"),
        ("ipv6:%5B2001:db8:0:8::1%5D:53310", "ipv6:2001:db8:0:8::/64"),
        ("ipv6:%5Bfe80::1%25eth0%5D:53310", "ipv6:fe80::/64"),
        ("ipv6:%5B::ffff:10.0.0.1%5D:53310", "ipv4:10.0.0.1"),
    ],
)
def test_a_network_of_ipv6_is_one_place_however_many_addresses_are_taken_in_it(peer: str, counted: str) -> None:
    assert place(peer) == counted


def test_who_asked_before_addresses_were_kept_is_still_known_and_counts_for_none(running: Running) -> None:
    now, old = datetime.now(UTC), identity.new_request(identity.new_key(), "old")
    authority.receive(running.node, old, now, "ipv4:10.0.0.1")
    path = running.node.enrolments / f"{identity.request_fingerprint(old)}.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "address"}))
    for number in range(LIMITS.pending_enrolments_an_address + 1):
        request = identity.new_request(identity.new_key(), f"new {number}")
        if number < LIMITS.pending_enrolments_an_address:
            authority.receive(running.node, request, now, "ipv4:10.0.0.1")
            continue
        with pytest.raises(PolicyRefusal, match="from this address"):
            authority.receive(running.node, request, now, "ipv4:10.0.0.1")
        authority.receive(running.node, request, now, "ipv4:10.0.0.2")
    assert len(authority.pending(running.node)) == LIMITS.pending_enrolments_an_address + 2


def test_a_certificate_from_a_clock_that_was_ahead_is_renewed(running: Running) -> None:
    ahead = datetime.now(UTC) + timedelta(days=400)
    early = authority.renew_server_certificate(running.node, ahead)
    assert authority.server_certificate(running.node, ahead) == early
    assert authority.server_certificate(running.node, datetime.now(UTC)) != early


def test_the_servers_certificate_is_renewed_while_it_serves(running: Running, tmp_path: Path) -> None:
    study = enrolled(running, tmp_path / "study", PartyRole.ANALYST)
    almost_over = datetime.now(UTC) - timedelta(days=LIMITS.certificate_days - 1)
    old = authority.renew_server_certificate(running.node, almost_over)
    consumer.fetch(study.folder)
    assert running.node.keys.joinpath(authority.SERVER).read_bytes() != old


def test_a_person_lets_in_an_auditor_and_sends_her_away_at_the_command(running: Running, tmp_path: Path) -> None:
    party = consumer.enrol(tmp_path / "study", invitation=running.node.invitation).fingerprint

    def enrol(*words: str) -> list[dict[str, str | None]]:
        done = CliRunner().invoke(app, ["enrol", str(running.node.folder), *words, "--json"])
        assert done.exit_code == 0, done.output
        found: list[dict[str, str | None]] = json.loads(done.stdout)["result"]["enrolments"]
        return found

    assert [(entry["decision"], entry["role"]) for entry in enrol()] == [("pending", None)]
    assert enrol("--approve", party, "--role", "auditor", "--by", "Ada")[0]["role"] == "auditor"
    assert authority.role(running.node, party) is PartyRole.AUDITOR
    with_role = ["enrol", str(running.node.folder), "--deny", party, "--by", "Ada", "--role", "auditor"]
    assert CliRunner().invoke(app, with_role).exit_code == 2
    denied = enrol("--deny", party, "--by", "Ada")[0]
    assert (denied["decision"], denied["role"]) == ("denied", "auditor")
    assert authority.role(running.node, party) is None


def test_who_is_approved_again_keeps_the_role_unless_another_is_named(running: Running) -> None:
    request, now = identity.new_request(identity.new_key(), "auditor"), datetime.now(UTC)
    party = identity.request_fingerprint(request)
    authority.receive(running.node, request, now)

    def enrol(*words: str) -> PartyRole | None:
        done = CliRunner().invoke(app, ["enrol", str(running.node.folder), *words, "--by", "Ben"])
        assert done.exit_code == 0, done.output
        return authority.role(running.node, party)

    assert enrol("--approve", party, "--role", "auditor") is PartyRole.AUDITOR
    assert enrol("--approve", party) is PartyRole.AUDITOR
    assert enrol("--deny", party) is None
    assert enrol("--approve", party) is PartyRole.AUDITOR
    assert enrol("--approve", party, "--role", "analyst") is PartyRole.ANALYST


def test_a_decision_that_stands_is_not_logged_again_and_says_so(running: Running) -> None:
    key, now = identity.new_key(), datetime.now(UTC)
    request = identity.new_request(key, "Bea")
    party = identity.request_fingerprint(request)
    authority.receive(running.node, request, now)
    place = running.node.enrolments / f"{party}.json"

    def kept() -> tuple[list[bytes], bytes]:
        with Ledger(running.node.ledger) as log:
            return log.entries(), place.read_bytes()

    def enrol(*words: str) -> dict[str, object]:
        done = CliRunner().invoke(app, ["enrol", str(running.node.folder), *words, "--json"])
        assert done.exit_code == 0, done.output
        found: dict[str, object] = json.loads(done.stdout)["result"]["decided"]
        return found

    assert enrol() is None
    for words, state in (
        (("--approve", party[:16], "--role", "auditor"), ("approved", "auditor")),
        (("--approve", party, "--role", "analyst"), ("approved", "analyst")),
        (("--deny", party), ("denied", "analyst")),
    ):
        told, stands = enrol(*words, "--by", "Ada"), kept()
        assert (told["fingerprint"], told["decision"], told["role"]) == (party, *state)
        assert told["changed"]
        assert enrol(*words, "--by", "Ben") == {**told, "changed": False}
        assert kept() == stands
    said = CliRunner().invoke(app, ["enrol", str(running.node.folder), "--deny", party, "--by", "Ben"]).stdout
    assert f"{party} was already denied, by Ada: nothing is logged or changed." in said
    authority.decide(running.node, party, authority.Decision.APPROVED, by="Ada", now=now)
    later = now + timedelta(days=LIMITS.certificate_days)
    assert not authority.decide(running.node, party, authority.Decision.APPROVED, by="Ada", now=later).changed
    _, certificate = authority.receive(running.node, request, later)
    assert identity.certificate_expires(certificate) > later, "who was approved collects a fresh one all the same"


def test_an_auditor_who_was_denied_and_is_approved_again_is_an_auditor_whatever_became_of_the_file(
    running: Running,
) -> None:
    request, now = identity.new_request(identity.new_key(), "Bea"), datetime.now(UTC)
    party = identity.request_fingerprint(request)
    decide = partial(authority.decide, running.node, party, by="Ada", now=now)
    authority.receive(running.node, request, now)
    decide(authority.Decision.APPROVED, role=PartyRole.ANALYST)
    path = running.node.enrolments / f"{party}.json"
    older = path.read_bytes()
    decide(authority.Decision.APPROVED, role=PartyRole.AUDITOR)
    decide(authority.Decision.DENIED)
    path.write_bytes(older)
    assert "--role auditor" in authority.faults(running.node)[0].remedy
    assert decide(authority.Decision.APPROVED).enrolment.role is PartyRole.AUDITOR
    decide(authority.Decision.DENIED)
    path.unlink()
    authority.receive(running.node, request, now)
    assert decide(authority.Decision.APPROVED).enrolment.role is PartyRole.AUDITOR


@pytest.mark.parametrize("decision", [authority.Decision.APPROVED, authority.Decision.DENIED])
@pytest.mark.parametrize("was_in", [True, False])
def test_a_decision_that_was_stopped_halfway_is_completed_by_giving_it_again(
    decision: authority.Decision, was_in: bool, running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    request, now = identity.new_request(identity.new_key(), "Bea"), datetime.now(UTC)
    party = identity.request_fingerprint(request)
    authority.receive(running.node, request, now)
    if was_in:
        authority.decide(running.node, party, authority.Decision.APPROVED, by="Ada", now=now, role=PartyRole.AUDITOR)

    def stop(*given: object) -> None:
        raise KeyboardInterrupt

    halfway = (authority.folder, "write") if decision is authority.Decision.APPROVED else (Ledger, "append")
    decide = partial(authority.decide, running.node, party, decision, by="Ada", now=now, role=PartyRole.ANALYST)
    with monkeypatch.context() as patch:
        patch.setattr(*halfway, stop)
        with pytest.raises(KeyboardInterrupt):
            decide()
    assert decide().changed
    (last,) = Ledger.decisions(running.node.ledger, party, 1)
    assert isinstance(last, Enrolment if decision is authority.Decision.APPROVED else Revocation)
    assert authority.faults(running.node) == []
    assert not decide().changed


@pytest.mark.parametrize(
    "words",
    [
        ("--deny", "", "--by", "Ada"),
        ("--approve", "", "--by", "Ada"),
        ("--deny", "0" * 64),
        ("--by", "Ada"),
        ("--role", "auditor"),
    ],
)
def test_a_decision_about_nobody_or_by_nobody_is_bad_usage(words: tuple[str, ...], running: Running) -> None:
    assert CliRunner().invoke(app, ["enrol", str(running.node.folder), *words]).exit_code == 2
