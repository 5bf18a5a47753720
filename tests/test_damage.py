"""What an operator is told where a file of the node is gone or damaged, and who is served all the same."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import grpc
import pytest
from cryptography import x509
from typer.testing import CliRunner

import consumer
from data_owner import authority, doctor, roots
from data_owner.cli import app
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.privacy.accounting import Query
from data_owner.privacy.budget import Budget
from data_owner.serving import server
from data_owner.serving.access_control import AccessControl, ReleasePort
from data_owner.serving.monitoring import Metrics
from data_owner.serving.open_calls import OpenCalls, to_end
from data_owner.serving.server_certificate import ServerCertificate
from data_owner.settings import PrivacySettings
from protocol import identity
from protocol.access import PartyRole
from protocol.entry import Revocation, parse_entry
from shared.errors import PolicyRefusal, Unreachable
from shared.limits import LIMITS
from tests.conftest import Running
from tests.owner_process import let_in


@pytest.mark.parametrize("content", [b"", b"{", None], ids=["empty", "cut", "another's"])
def test_a_damaged_enrolment_shuts_out_its_analyst_alone_and_is_named(node: Node, content: bytes | None) -> None:
    now, parties = datetime.now(UTC), []
    requests = [identity.new_request(identity.new_key(), f"analyst {number}") for number in range(3)]
    for request in requests[:2]:
        authority.receive(node, request, now)
        parties.append(identity.request_fingerprint(request))
        authority.decide(node, parties[-1], authority.Decision.APPROVED, by="Ada", now=now)
    lost, other = (node.enrolments / f"{party}.json" for party in parties)
    lost.write_bytes(other.read_bytes() if content is None else content)

    assert authority.receive(node, requests[2], now)[0] is authority.Decision.PENDING
    done = CliRunner().invoke(app, ["enrol", str(node.folder), "--deny", parties[1], "--by", "Ada", "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)["result"]
    assert {entry["decision"] for entry in found["enrolments"]} == {"denied", "pending"}
    assert len(found["damaged"]) == 1
    assert str(lost) in found["damaged"][0]
    assert str(lost) in CliRunner().invoke(app, ["enrol", str(node.folder)]).output
    for attempt in (
        lambda: authority.receive(node, requests[0], now),
        lambda: authority.decide(node, parties[0], authority.Decision.APPROVED, by="Ada", now=now),
        lambda: doctor._enrolments(node, now),
    ):
        with pytest.raises(Unreachable, match="remove it and let that analyst enrol again"):
            attempt()
    lost.unlink()
    assert authority.receive(node, requests[0], now)[0] is authority.Decision.PENDING
    authority.decide(node, parties[0], authority.Decision.DENIED, by="Ada", now=now)


def enrolled(node: Node, now: datetime) -> tuple[bytes, Path]:
    """The request of somebody let in, and the file that says so."""
    request = identity.new_request(identity.new_key(), 'analyst "kind":"served"')  # which is no entry of that kind
    authority.receive(node, request, now)
    party = identity.request_fingerprint(request)
    authority.decide(node, party, authority.Decision.APPROVED, by="Ada", now=now)
    return request, node.enrolments / f"{party}.json"


def test_a_restored_enrolment_gives_nobody_a_certificate_whom_the_log_has_turned_away(node: Node) -> None:
    now = datetime.now(UTC)
    request, path = enrolled(node, now)
    earlier = path.read_bytes()
    assert authority.receive(node, request, now)[1]
    authority.decide(node, path.stem, authority.Decision.DENIED, by="Ada", now=now)
    doctor._enrolments(node, now)
    path.write_bytes(earlier)
    assert authority.receive(node, request, now) == (authority.Decision.DENIED, b"")
    with pytest.raises(Unreachable, match="says analyst, the egress log says not let in") as found:
        doctor._enrolments(node, now)
    assert f"{path}: " in str(found.value)
    assert "approve that key again with --role analyst, or deny it" in str(found.value)
    for decision in (authority.Decision.DENIED, authority.Decision.APPROVED):
        authority.decide(node, path.stem, decision, by="Ada", now=now)
        doctor._enrolments(node, now)
    assert authority.receive(node, request, now)[1]


def test_a_restored_enrolment_gives_the_role_that_the_log_has(node: Node) -> None:
    now = datetime.now(UTC)
    request, path = enrolled(node, now)
    earlier = path.read_bytes()
    authority.decide(node, path.stem, authority.Decision.APPROVED, by="Ada", now=now, role=PartyRole.AUDITOR)
    path.write_bytes(earlier)
    certificate = x509.load_pem_x509_certificate(authority.receive(node, request, now)[1])
    assert PartyRole.AUDITOR in certificate.subject.rfc4514_string()
    with pytest.raises(Unreachable, match="says analyst, the egress log says auditor") as found:
        doctor._enrolments(node, now)
    assert "approve that key again with --role auditor, or deny it" in str(found.value)
    authority.decide(node, path.stem, authority.Decision.APPROVED, by="Ada", now=now)
    assert authority.role(node, path.stem) is PartyRole.AUDITOR, "the log outranks the file"


def test_doctor_names_everybody_whom_the_log_has_let_in_and_whose_enrolment_is_gone(node: Node) -> None:
    now = datetime.now(UTC)
    paths = [enrolled(node, now)[1] for _ in range(2)]
    elsewhere = node.enrolments.rename(node.folder / "elsewhere")
    with pytest.raises(Unreachable, match="restore it from its backup, or deny that key") as found:
        doctor._enrolments(node, now)
    for path in paths:
        assert f"{path}: is not there" in str(found.value)
    elsewhere.rename(node.enrolments)
    assert doctor._enrolments(node, now).startswith("0 pending, 2 approved")


@pytest.mark.parametrize("gone", [False, True])
def test_whose_enrolment_is_damaged_or_gone_is_revoked_in_the_log_all_the_same(node: Node, gone: bool) -> None:
    now = datetime.now(UTC)
    request, path = enrolled(node, now)
    if gone:
        path.unlink()
    else:
        path.write_bytes(b"{")
    deny = ["enrol", str(node.folder), "--deny", path.stem[:16], "--by", "Eva", "--json"]
    done = CliRunner().invoke(app, deny)
    assert done.exit_code == 0, done.output
    with Ledger(node.ledger) as log:
        assert path.stem not in log.parties()
        last = parse_entry(log.entries()[-1])
    assert isinstance(last, Revocation)
    assert (last.party, last.by) == (path.stem, "Eva")
    assert doctor._enrolments(node, now) == "0 pending, 0 approved, 1 denied"
    assert authority.receive(node, request, now) == (authority.Decision.DENIED, b"")


def remove(path: Path) -> None:
    path.unlink()


def empty(path: Path) -> None:
    path.write_bytes(b"")


def replace(path: Path) -> None:
    """By that of another node."""
    key = identity.new_key()
    path.write_bytes(key if path.suffix == ".key" else identity.new_authority(key, "clinic", datetime.now(UTC)))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:1000])


def overwrite(path: Path) -> None:
    path.write_bytes(b"not a database" * 100)


def refuse_what_lies_beside(path: Path) -> None:
    """SQLite can make none of its files there, as on a full disk or a read-only one."""
    for suffix in ("-shm", "-journal"):
        path.with_name(path.name + suffix).mkdir()


@pytest.mark.parametrize(
    ("damage", "restores"),
    [(remove, True), (empty, True), (cut, True), (overwrite, True), (refuse_what_lies_beside, False)],
)
def test_to_restore_a_log_or_a_budget_is_advised_only_where_it_is_gone_or_damaged(
    tmp_path: Path, damage: Callable[[Path], None], restores: bool
) -> None:
    log, budget = tmp_path / "ledger.sqlite", tmp_path / "budget.sqlite"
    Ledger.create(log)
    Ledger(log).close()
    Budget.create(budget)
    for path in (log, budget):
        damage(path)
    for attempt in (lambda: Ledger(log), lambda: Ledger.size(log), lambda: Budget(budget).charges()):
        with pytest.raises(Unreachable) as refused:
            attempt()
        assert ("restore it from its backup" in refused.value.remedy) is restores
        assert restores or refused.value.remedy == "free space or fix permissions"


def change(path: Path, was: bytes, becomes: bytes) -> None:
    data = path.read_bytes()
    assert was in data
    path.write_bytes(data.replace(was, becomes))


@pytest.mark.parametrize(
    ("was", "becomes"),
    [(b'"what"', b'"whau"'), (b"of which records", b"of which \xf2ecords"), (b"queries BLOB", b"queries \xc2LOB")],
    ids=["a charge", "a text that is none", "a table"],
)
def test_a_bit_that_flips_in_a_budget_names_it_with_its_backup_and_doctor_goes_on(
    node: Node, was: bytes, becomes: bytes
) -> None:
    queries = [Query(what="all of it", noise_multiplier=10.0)]
    Budget(node.budget).charge(queries, PrivacySettings(epsilon=1.0), "of which records", 1)
    change(node.budget, was, becomes)
    with pytest.raises(Unreachable, match="is damaged") as refused:
        Budget(node.budget).charges()
    assert (refused.value.field, refused.value.remedy) == (str(node.budget), "restore it from its backup")
    found = {each.name: each for each in doctor.diagnose(node)}
    assert found["privacy"].text == str(refused.value)
    assert found["keys"].passed


@pytest.mark.parametrize(
    ("was", "becomes"),
    [(b'"format"', b'"fosmat"'), (b"hospital\n", b"hospital\x0b"), (b"note BLOB", b"note \xc2LOB")],
    ids=["an entry", "a checkpoint", "a table"],
)
def test_a_bit_that_flips_in_the_log_names_it_with_its_backup_and_sends_nobody_to_fetch(
    node: Node, was: bytes, becomes: bytes, tmp_path: Path
) -> None:
    export = ["ledger", "export", str(node.folder), "--out", str(tmp_path / "ledger.json"), "--json"]
    assert CliRunner().invoke(app, export).exit_code == 0
    change(node.ledger, was, becomes)
    done = CliRunner().invoke(app, export)
    assert done.exit_code == 3
    said = json.loads(done.stdout)["error"]
    assert (said["field"], said["problem"]) == (str(node.ledger), "the egress log is damaged")
    assert said["remedy"] == "restore it from its backup"


@pytest.mark.parametrize("name", ["1.json", "1.sig"])
def test_a_root_that_its_signatures_do_not_fit_blames_neither_file(node: Node, name: str) -> None:
    path = node.roots / name
    found = json.loads(path.read_bytes())
    if name == "1.json":
        found["expires"] += 1
    else:
        found["signatures"][0]["signature"] = "0" * 128
    path.write_bytes(json.dumps(found, separators=(",", ":"), sort_keys=True).encode())
    with pytest.raises(Unreachable, match="root folder from its backup") as refused:
        roots.newest(node)
    assert refused.value.field == str(node.roots)


@pytest.mark.parametrize("damage", [remove, empty, replace])
def test_the_servers_certificate_is_made_anew_where_it_cannot_be_used(
    node: Node, damage: Callable[[Path], None]
) -> None:
    path, now = node.keys / authority.SERVER, datetime.now(UTC)
    damage(path)
    assert "`serve` makes" in doctor._keys(node, now)
    ServerCertificate(node, mutual=True).credentials()
    certificate, key = path.read_bytes(), (node.keys / authority.SERVER_KEY).read_bytes()
    assert identity.certificate_fingerprint(certificate) == identity.key_fingerprint(key)
    assert not identity.needs_renewal(certificate, now)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (authority.SERVER_KEY, remove),
        (authority.SERVER_KEY, empty),
        (authority.AUTHORITY, remove),
        (authority.AUTHORITY, empty),
    ],
)
def test_a_server_whose_key_or_authority_is_damaged_names_the_file_and_blames_no_address(
    node: Node, name: str, damage: Callable[[Path], None]
) -> None:
    damage(node.keys / name)
    with pytest.raises(Unreachable, match="keys folder from its backup") as refused:
        server.serve(node, "127.0.0.1:0", "127.0.0.1:0", stopping=threading.Event())
    assert refused.value.field == str(node.keys / name)


@pytest.mark.parametrize("damage", [remove, empty, replace])
@pytest.mark.parametrize("name", [authority.AUTHORITY_KEY, authority.AUTHORITY])
def test_doctor_and_who_renews_name_an_authority_whose_key_and_certificate_are_not_a_pair(
    node: Node, name: str, damage: Callable[[Path], None]
) -> None:
    now, request = datetime.now(UTC), identity.new_request(identity.new_key(), "analyst")
    authority.receive(node, request, now)
    party = identity.request_fingerprint(request)
    authority.decide(node, party, authority.Decision.APPROVED, by="Ada", now=now)
    damage(node.keys / name)
    for attempt in (lambda: doctor._keys(node, now), lambda: authority.receive(node, request, now)):
        with pytest.raises(Unreachable, match="keys folder from its backup"):
            attempt()


@pytest.mark.parametrize("damage", [remove, empty])
def test_doctor_opens_the_servers_key(node: Node, damage: Callable[[Path], None]) -> None:
    damage(node.keys / authority.SERVER_KEY)
    with pytest.raises(Unreachable, match="keys folder from its backup"):
        doctor._keys(node, datetime.now(UTC))


def move(node: Node) -> Callable[[], object]:
    """Returns what brings it back."""
    elsewhere = node.folder.rename(node.folder.with_name("elsewhere"))
    return lambda: elsewhere.rename(node.folder)


def unmount(node: Node) -> Callable[[], object]:
    elsewhere = node.folder.rename(node.folder.with_name("elsewhere"))
    node.folder.mkdir()
    return lambda: elsewhere.rename(node.folder)


def empty_enrolments(node: Node) -> Callable[[], object]:
    was = {path: path.read_bytes() for path in node.enrolments.iterdir()}
    for path in was:
        empty(path)
    return lambda: [path.write_bytes(data) for path, data in was.items()]


@pytest.mark.parametrize("take_away", [move, unmount, empty_enrolments])
def test_nobody_is_told_to_be_unapproved_because_the_owner_cannot_read_who_is(
    running: Running, tmp_path: Path, take_away: Callable[[Node], Callable[[], object]]
) -> None:
    study = let_in(running, tmp_path / "study")
    bring_back = take_away(running.node)
    with pytest.raises(Unreachable, match="the owner cannot read"):
        consumer.fetch(study.folder)
    bring_back()
    consumer.fetch(study.folder)
    (running.node.enrolments / f"{study.fingerprint.read_text()}.json").unlink()
    with pytest.raises(PolicyRefusal, match="not approved"):
        consumer.fetch(study.folder)


def test_a_call_in_flight_ends_where_nobody_can_say_whether_its_caller_may_stay() -> None:
    calls, said = OpenCalls(), iter([True])

    def permits(identity: str, method: str) -> bool:
        for each in said:
            return each
        raise Unreachable("cannot be read")

    port = SimpleNamespace(permits=permits, identity=lambda context: "key", calls_at_once=1, calls_a_minute=1)
    context = SimpleNamespace(add_callback=lambda callback: True, cancel=lambda: None)
    control = AccessControl(cast(ReleasePort, port), Metrics(calls.__len__), calls)
    control._admit("m", cast(grpc.ServicerContext, context), LIMITS.call_seconds)
    open_now = list(calls._calls)
    assert len(open_now) == 1
    assert to_end(open_now, 0.0) == open_now
    calls.leave(open_now[0])
