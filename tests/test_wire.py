"""The boundary over real sockets: who is let in, what is said, and what happens when the line is cut."""

import dataclasses
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

import consumer
from consumer import channel, doctor, receiving_steps, trust_update
from consumer.study import Study
from data_owner import authority, decisions, ledger_export, release, roots, servable
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.release_status import State
from data_owner.serving import server
from protocol import identity
from protocol.access import PartyRole
from protocol.artefacts import TRAINED, Artefact
from protocol.calls import CLIENT_OPTIONS
from protocol.checkpoint import Checkpoint
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.fair4free.v1 import release_pb2_grpc as service
from protocol.ledger_file import witness_name
from protocol.note import Note
from protocol.refusals import EndlessData, Rewritten
from shared import clock, folder, keyring
from shared.clock import now
from shared.errors import BadInput, PolicyRefusal, Unreachable, VerificationFailure
from shared.limits import LIMITS
from tests.conftest import Running, record_measured, write_draft
from tests.owner_process import let_in


@pytest.fixture
def study(running: Running, tmp_path: Path) -> Study:
    """An approved consumer."""
    return let_in(running, tmp_path / "study")


def test_an_approved_consumer_gets_exactly_the_five_and_they_are_the_owners_bytes(
    running: Running, study: Study
) -> None:
    fetched = consumer.fetch(study.folder)
    place = study.release(1)
    assert {path.name for path in place.iterdir()} == {
        *(kind.filename for kind in Artefact),
        "manifest.sig",
        "log_proof.json",
    }
    for kind in Artefact:
        assert (place / kind.filename).read_bytes() == (running.node.releases / "1" / kind.filename).read_bytes()
    assert fetched.received == sum((place / kind.filename).stat().st_size for kind in Artefact), (
        "the five, as the owner logs"
    )
    assert release.status(running.node, 1).state is State.SERVED


def test_fetching_twice_changes_nothing(study: Study) -> None:
    consumer.fetch(study.folder)
    before = study.last_seen()
    consumer.fetch(study.folder)
    after = study.last_seen()
    assert (after.release, after.manifest_sha256) == (before.release, before.manifest_sha256)


def test_of_fetches_at_once_one_goes_on_and_the_study_stays_whole(study: Study) -> None:
    def fetch(number: int) -> int:
        with suppress(Unreachable):
            return consumer.fetch(study.folder).release.manifest.version
        return 0

    with ThreadPoolExecutor(4) as pool:
        fetched = set(pool.map(fetch, range(4)))
    assert {1} <= fetched <= {0, 1}
    assert consumer.fetch(study.folder).release.manifest.version == 1, "the owner knows the key that was kept"


def test_the_file_of_the_fingerprint_is_for_people_alone(study: Study) -> None:
    study.fingerprint.unlink()
    consumer.fetch(study.folder)


def test_a_study_that_lacks_a_file_says_what_to_do(study: Study) -> None:
    study.certificate.unlink()
    with pytest.raises(Unreachable, match="fair4free enrol"):
        consumer.fetch(study.folder)
    study.key.write_bytes(b"")
    with pytest.raises(BadInput, match="remove it, then enrol again"):
        consumer.enrol(study.folder)


def test_only_the_request_leaves_the_consumer_and_the_key_is_private(running: Running, study: Study) -> None:
    key = study.key.read_bytes()
    assert study.key.stat().st_mode & 0o077 == 0
    owner_side = b"".join(path.read_bytes() for path in running.node.folder.rglob("*") if path.is_file())
    secret = key.splitlines()[1]
    assert secret not in owner_side
    assert [path.stem for path in running.node.enrolments.iterdir()] == [study.fingerprint.read_text()]


def test_a_consumer_without_a_certificate_gets_no_connection(running: Running, study: Study) -> None:
    roots = grpc.ssl_channel_credentials(running.node.keys.joinpath(authority.AUTHORITY).read_bytes())
    with grpc.secure_channel(running.address, roots, options=CLIENT_OPTIONS) as bare:
        stub = service.ReleaseServiceStub(bare)
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetFreshness(wire.GetFreshnessRequest(), timeout=5)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_a_withdrawn_consumer_is_refused_on_its_next_call_though_its_certificate_is_valid(
    running: Running, study: Study
) -> None:
    consumer.fetch(study.folder)
    fingerprint = study.fingerprint.read_text()
    authority.decide(running.node, fingerprint, authority.Decision.DENIED, by="Ada", now=datetime.now(UTC))
    with pytest.raises(PolicyRefusal, match="not approved"):
        consumer.fetch(study.folder)
    with pytest.raises(PolicyRefusal, match="denied"):
        consumer.enrol(study.folder)


def test_a_name_in_any_script_fits_into_a_certificate(tmp_path: Path) -> None:
    key = identity.new_key()
    authority_certificate = identity.new_authority(key, "医院" * 20, datetime.now(UTC))
    request = identity.new_request(identity.new_key(), "Больница" * 8)
    name = identity.requested_name(request)
    assert name == "Больница" * 4
    assert identity.issue_client_certificate(
        request, name, key, authority_certificate, datetime.now(UTC), PartyRole.ANALYST
    )


@pytest.mark.parametrize("name", [" ", "a\u202eb", "a\nb"])
def test_a_name_that_cannot_be_shown_is_refused_before_a_request_is_made(
    running: Running, tmp_path: Path, name: str
) -> None:
    found = Study(tmp_path / "study")
    with pytest.raises(BadInput, match="can be shown"):
        consumer.enrol(found.folder, invitation=running.node.invitation, name=name)
    assert not found.folder.exists()
    assert consumer.enrol(found.folder, invitation=running.node.invitation, name="Ada").state == "pending"


@pytest.mark.parametrize("new", [None, identity.new_key()], ids=["lost", "replaced"])
def test_a_key_that_was_lost_or_replaced_is_followed_by_a_request_for_the_new_one(
    running: Running, study: Study, new: bytes | None
) -> None:
    study.key.unlink()
    if new is not None:
        folder.write(study.key, new, folder.PRIVATE)
    asked = consumer.enrol(study.folder)
    assert asked.state == "pending"
    assert asked.fingerprint == identity.request_fingerprint(identity.new_request(study.key.read_bytes(), "study"))
    assert asked.fingerprint != identity.certificate_fingerprint(study.certificate.read_bytes())


def test_a_study_whose_witness_key_was_replaced_is_told_what_helps(study: Study) -> None:
    consumer.fetch(study.folder)
    first = study.witness_key.read_bytes()
    study.witness_key.unlink()
    keyring.create(study.witness_key, Ed25519PrivateKey.generate(), keyring.passphrase_of(study.key.parent))
    with pytest.raises(BadInput, match="knows another witness key of this study") as refused:
        consumer.fetch(study.folder)
    assert refused.value.remedy.startswith("restore identity/witness.key from its backup, or start a new study")
    study.witness_key.write_bytes(first)
    consumer.fetch(study.folder)


def test_a_witness_key_that_is_gone_is_missed_by_doctor_and_fetch_and_no_other_takes_its_place(study: Study) -> None:
    consumer.fetch(study.folder)
    study.witness_key.unlink()
    assert not {finding.name: finding.passed for finding in doctor.diagnose(study)}["witness"]
    with pytest.raises(Unreachable, match=r"is gone\. Remedy: restore it from its backup, or start a new study"):
        consumer.fetch(study.folder)
    assert not study.witness_key.exists()


def test_an_invitation_is_not_written_for_what_is_no_address(running: Running) -> None:
    with pytest.raises(BadInput) as refused:
        authority.write_invitation(running.node, "https://owner:50443", running.enrolment_address)
    assert refused.value.field == "--host-name"


def test_a_server_with_another_authority_is_refused_by_the_consumer(
    running: Running, study: Study, tmp_path: Path
) -> None:
    invitation = study.invitation()
    other = identity.new_authority(identity.new_key(), "hospital", datetime.now(UTC)).decode()
    changed = invitation.model_copy(update={"certificate_authority": other})
    folder.write(study.invitation_file, changed.to_bytes())
    with pytest.raises(Unreachable):
        consumer.fetch(study.folder)


def test_a_study_never_changes_its_root_of_trust(running: Running, study: Study, tmp_path: Path) -> None:
    roots.create(Node(tmp_path / "mallory"), "hospital", now())
    document, signatures = roots.chain(Node(tmp_path / "mallory"))[0]
    forged = study.invitation().model_copy(update={"root": document.decode(), "root_signatures": signatures.decode()})
    path = tmp_path / "forged.json"
    path.write_bytes(forged.to_bytes())
    with pytest.raises(VerificationFailure, match="other keys"):
        consumer.enrol(study.folder, invitation=path)


def test_new_addresses_are_taken_over_once_the_owner_answers_there(
    running: Running, study: Study, tmp_path: Path
) -> None:
    kept, moved = study.invitation(), tmp_path / "moved.json"
    elsewhere = kept.model_copy(update={"address": "localhost:1", "enrolment_address": "localhost:1"})
    moved.write_bytes(elsewhere.to_bytes())
    with pytest.raises(BadInput, match="not a name"):
        consumer.enrol(study.folder, invitation=moved, name="\n")
    with pytest.raises(Unreachable):
        consumer.enrol(study.folder, invitation=moved)
    assert study.invitation() == kept
    moved.write_bytes(kept.model_copy(update={"address": "localhost:1"}).to_bytes())
    assert consumer.enrol(study.folder, invitation=moved).state == "approved"
    assert study.invitation().address == "localhost:1"


def test_a_first_invitation_is_kept_for_the_doctor_to_show_though_nobody_answers(study: Study, tmp_path: Path) -> None:
    lost, new = tmp_path / "lost.json", Study(tmp_path / "new")
    lost.write_bytes(study.invitation().model_copy(update={"enrolment_address": "localhost:1"}).to_bytes())
    with pytest.raises(Unreachable):
        consumer.enrol(new.folder, invitation=lost)
    assert new.invitation().enrolment_address == "localhost:1"


def test_a_release_that_was_denied_can_no_longer_be_fetched(running: Running, study: Study) -> None:
    release.deny(running.node, 1, by="Ada", reason="recalled", now=now())
    with pytest.raises(BadInput, match="no release"):
        consumer.fetch(study.folder)


def test_an_unknown_version_and_a_draft_are_refused(running: Running, study: Study) -> None:
    write_draft(running.node, dict.fromkeys(TRAINED, b"secret draft"))
    with channel.mutual(study) as opened:
        stub = service.ReleaseServiceStub(opened)
        for version in (2, 7):
            with pytest.raises(BadInput, match=f"serves no release {version}. Remedy: give one that it serves: 1$"):
                consumer.fetch(study.folder, version=version)
            with pytest.raises(grpc.RpcError, match="no such release") as caught:
                stub.GetManifest(wire.GetManifestRequest(version=version), timeout=5)
            assert caught.value.code() is grpc.StatusCode.NOT_FOUND


@pytest.mark.parametrize("at", ["GetManifest", "the log", "StreamArtefact", "a chunk"])
def test_an_analyst_whose_release_is_recalled_while_it_is_fetched_is_told_so(
    running: Running, study: Study, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    place, name, calls_before = {
        "GetManifest": (server.Releases, "_load", 0),
        "the log": (Ledger, "append", 0),
        "StreamArtefact": (server.Releases, "_load", 1),
        "a chunk": (Ledger, "is_denied", 1),
    }[at]
    done, calls = getattr(place, name), iter(range(1000))

    def recalled_before(*arguments: object) -> object:
        if next(calls) == calls_before:
            monkeypatch.undo()
            release.deny(running.node, 1, by="Ada", reason="recalled", now=now())
        return done(*arguments)

    monkeypatch.setattr(place, name, recalled_before)
    with pytest.raises(PolicyRefusal, match="recalled the release while it was fetched") as refused:
        consumer.fetch(study.folder)
    assert "fetch again" in refused.value.remedy
    assert not study.folder.joinpath("releases").exists()


def test_consumer_refuses_a_release_older_than_the_last_one_it_saw(running: Running, study: Study) -> None:
    node = running.node
    made = {**release.trained_artefacts(node, 1), Artefact.DECODER: b"another"}
    version = write_draft(node, made)
    record_measured(node, version, (node.releases / "1" / Artefact.CARD.filename).read_bytes())
    decisions.approve(node.folder, by="Dr. Test")
    assert consumer.fetch(study.folder).release.manifest.version == 2
    with pytest.raises(BadInput, match="holds release 2") as caught:
        consumer.fetch(study.folder, version=1)
    assert caught.value.field == "--version", "the analyst's own doing, of which the owner is not to be suspected"
    assert not study.release(1).exists()


@pytest.mark.parametrize("log_is_obeyed", [True, False])
def test_a_tampered_release_leaves_nothing_behind(
    running: Running, study: Study, monkeypatch: pytest.MonkeyPatch, log_is_obeyed: bool
) -> None:
    """The owner's own check is switched off: its log refuses to send the bytes, and the consumer to take them."""
    load = servable.load

    def tampered(*arguments: object) -> object:
        manifest, signature, trusted = load(*arguments)  # type: ignore[arg-type]
        artefacts = {**trusted.artefacts, Artefact.CARD: trusted.artefacts[Artefact.CARD] + b" "}
        return manifest, signature, type(trusted)(trusted.manifest, artefacts)

    monkeypatch.setattr(servable, "load", tampered)
    if not log_is_obeyed:
        monkeypatch.setattr(Ledger, "append", lambda log, entry: 0)
    with pytest.raises(PolicyRefusal if log_is_obeyed else EndlessData):
        consumer.fetch(study.folder)
    assert study.last_seen().release == 0
    assert not study.folder.joinpath("releases").exists()


@contextmanager
def serving(node: Node, study: Study) -> Iterator[None]:
    """Serve a node where another was served that the study knows."""
    again = Running(node)
    try:
        consumer.enrol(study.folder, invitation=node.invitation)
        yield
    finally:
        again.stop()


def test_an_owner_that_restored_an_older_log_is_refused_as_having_rewritten_it(
    running: Running, study: Study, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    older = Node(tmp_path / "restored")
    shutil.copytree(running.node.folder, older.folder)
    for _ in range(2):  # what it serves afterwards must not make up for what it lost
        consumer.fetch(study.folder)
    before = study.last_seen().checkpoint
    running.stop()
    with serving(older, study):
        with pytest.raises(Rewritten, match="shorter"):
            consumer.fetch(study.folder)
        key = trust_update.witness_key(study)
        with channel.mutual(study) as opened, pytest.raises(grpc.RpcError) as caught:
            trust_update.countersign(study, service.ReleaseServiceStub(opened), study.last_seen(), key)
    assert caught.value.code() is grpc.StatusCode.DATA_LOSS
    assert study.last_seen().checkpoint == before
    assert "a caller says to have seen a longer log" in caplog.messages


def delete_the_newest_entry(node: Node) -> None:
    with closing(sqlite3.connect(node.ledger)) as database, database:
        database.execute("DROP TRIGGER entries_stay")
        database.execute("DELETE FROM entries WHERE place = (SELECT max(place) FROM entries)")


def alter_the_decoder(node: Node) -> None:
    path = node.releases / "1" / Artefact.DECODER.filename
    path.write_bytes(path.read_bytes()[::-1])


@pytest.mark.parametrize("alter", [delete_the_newest_entry, alter_the_decoder])
def test_what_was_altered_at_the_owner_is_named_in_its_log_and_refused_by_the_analyst_without_details(
    running: Running, study: Study, caplog: pytest.LogCaptureFixture, alter: Callable[[Node], None]
) -> None:
    consumer.fetch(study.folder)
    running.stop()
    alter(running.node)
    with serving(running.node, study), pytest.raises(VerificationFailure, match="tell the owner") as refused:
        consumer.fetch(study.folder)
    assert str(running.node.folder) not in f"{refused.value} {refused.value.__cause__}"
    problems = [record.problem for record in caplog.records if record.msg == "what is here is not what was signed"]
    assert len(problems) == 1


def test_a_file_that_the_owner_cannot_read_is_not_blamed_on_the_analysts_certificate(
    running: Running, study: Study
) -> None:
    (running.node.releases / "1" / Artefact.CARD.filename).unlink()
    with pytest.raises(Unreachable, match="the owner cannot read") as refused:
        consumer.fetch(study.folder)
    assert "certificate" not in str(refused.value)


def test_the_words_of_an_unforeseen_error_stay_at_the_owner(
    running: Running, study: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(log: Ledger, version: int) -> bool:
        raise RuntimeError("the patient with haemophilia")

    monkeypatch.setattr(Ledger, "is_denied", fail)
    with pytest.raises(Unreachable, match="the owner cannot") as refused:
        consumer.fetch(study.folder)
    assert "haemophilia" not in f"{refused.value} {refused.value.__cause__}"
    assert [record.levelname for record in caplog.records if record.msg == "cannot answer"]


def test_an_analyst_made_an_auditor_during_a_transfer_gets_no_further_chunk_of_the_decoder(
    running: Running, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("data_owner.serving.server.LIMITS", dataclasses.replace(LIMITS, chunk_bytes=1000))
    chunks = iter(range(1_000_000))

    def make_auditor(log: Ledger, version: int) -> bool:
        """Asked before each chunk; before the third a person decides."""
        if next(chunks) == 2:
            party, decision = study.fingerprint.read_text(), authority.Decision.APPROVED
            moment, role = datetime.now(UTC), PartyRole.AUDITOR
            authority.decide(running.node, party, decision, by="Ada", now=moment, role=role)
        return False

    monkeypatch.setattr(Ledger, "is_denied", make_auditor)
    received = 0
    with channel.mutual(study) as opened:
        stub = service.ReleaseServiceStub(opened)
        request = wire.StreamArtefactRequest(version=1, kind=wire.ARTEFACT_KIND_DECODER)
        stream = stub.StreamArtefact(request, timeout=20)
        with suppress(grpc.RpcError):
            for chunk in stream:
                received += len(chunk.data)
        assert stream.code() is grpc.StatusCode.PERMISSION_DENIED
    assert received == 2000


def test_a_burst_from_one_address_leaves_the_list_of_who_waits_open_to_others(running: Running, study: Study) -> None:
    def ask(number: int) -> grpc.StatusCode:
        request = identity.new_request(identity.new_key(), f"burst {number}")
        try:
            stub.Enrol(wire.EnrolRequest(certificate_request=request), timeout=20)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    with channel.enrolment(study.invitation()) as opened, ThreadPoolExecutor(4) as pool:
        stub = service.EnrolmentServiceStub(opened)
        codes = list(pool.map(ask, range(3 * LIMITS.enrolments_at_once)))
    refused = {grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.FAILED_PRECONDITION}
    assert {grpc.StatusCode.OK} < set(codes) <= {grpc.StatusCode.OK} | refused
    waiting = authority.pending(running.node)
    assert len(waiting) == codes.count(grpc.StatusCode.OK) == LIMITS.pending_enrolments_an_address


def test_who_asks_where_too_many_wait_is_refused_until_a_person_decides(running: Running, tmp_path: Path) -> None:
    for number in range(LIMITS.pending_enrolments_an_address):
        request = identity.new_request(identity.new_key(), f"waiting {number}")
        authority.receive(running.node, request, datetime.now(UTC), "ipv4:127.0.0.1")
    with pytest.raises(PolicyRefusal, match="too many requests from this address are waiting") as caught:
        consumer.enrol(tmp_path / "study", invitation=running.node.invitation)
    assert "Remedy" not in caught.value.problem
    assert "ask the owner" in caught.value.remedy


def test_a_longer_message_than_any_may_be_is_no_busy_owner(
    running: Running, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.TrustMetadata, "freshness", lambda self, at: (b" " * LIMITS.message_bytes, b""))
    with pytest.raises(EndlessData, match="longer message"):
        consumer.fetch(study.folder)


def test_verify_finds_a_changed_file_without_a_network(running: Running, study: Study) -> None:
    consumer.fetch(study.folder)
    running.stop()
    consumer.verify(study.folder)
    path = study.release(1) / Artefact.DECODER.filename
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(VerificationFailure):
        consumer.verify(study.folder)


def test_bad_arguments_are_refused(running: Running, study: Study) -> None:
    with channel.mutual(study) as opened:
        stub = service.ReleaseServiceStub(opened)
        for request, code in (
            (wire.StreamArtefactRequest(version=1, kind=0), grpc.StatusCode.INVALID_ARGUMENT),
            (wire.StreamArtefactRequest(version=1, kind=77), grpc.StatusCode.INVALID_ARGUMENT),
            (wire.StreamArtefactRequest(version=1, kind=1, offset=2**40), grpc.StatusCode.OUT_OF_RANGE),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                list(stub.StreamArtefact(request, timeout=5))
            assert caught.value.code() is code
        with pytest.raises(grpc.RpcError) as caught:
            stub.GetLogProof(wire.GetLogProofRequest(version=7), timeout=5)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_only_a_countersigned_checkpoint_of_the_owners_log_is_kept(running: Running, study: Study) -> None:
    """Another would be in every export from then on."""
    witness = Ed25519PrivateKey.generate()

    def refused(note: bytes) -> grpc.RpcError:
        request = wire.CountersignRequest(checkpoint=note, key=witness.public_key().public_bytes_raw())
        with pytest.raises(grpc.RpcError) as caught:
            stub.Countersign(request, timeout=5)
        return caught.value

    with channel.mutual(study) as opened:
        stub = service.ReleaseServiceStub(opened)
        true = stub.GetLogProof(wire.GetLogProofRequest(version=1), timeout=5).checkpoint
        forged = Checkpoint.from_note(true).signed(Ed25519PrivateKey.generate())
        party = witness_name(study.fingerprint.read_text())
        for note in (b"no note", true, Note.from_bytes(forged).cosigned(party, witness, now()).to_bytes()):
            assert refused(note).code() is grpc.StatusCode.INVALID_ARGUMENT
        for at in (now() - 320, now() + 320):
            said = refused(Note.from_bytes(true).cosigned(party, witness, at).to_bytes())
            assert said.code() is grpc.StatusCode.OUT_OF_RANGE
            assert "differ by over 300 seconds. Remedy: check this machine's clock" in str(channel.failure(said, ""))
        assert (
            "time that no clock shows"
            in refused(Note.from_bytes(true).cosigned(party, witness, 2**63).to_bytes()).details()
        ), "it would stop every page that shows it"
    assert ledger_export.export(running.node).countersigned == ()


def test_a_countersignature_is_of_the_time_it_is_made_however_long_ago_the_fetch_began(
    running: Running, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(receiving_steps, "now", lambda: now() - 200)
    consumer.fetch(study.folder)
    (kept,) = ledger_export.export(running.node).countersigned
    assert now() - kept.verify()[1] < 100


def test_who_fetches_by_a_clock_that_is_ahead_keeps_the_release_and_is_told_of_the_clock(
    study: Study, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(clock, "now", lambda: now() + 400)
    with pytest.raises(VerificationFailure, match="is verified and kept") as refused:
        consumer.fetch(study.folder)
    assert "differ by over 300 seconds" in refused.value.problem
    assert refused.value.remedy.startswith("check this machine's clock")
    assert "a caller's clock is another" in caplog.messages
    assert consumer.verify(study.folder)


def test_doctor_misses_no_student_in_the_study_of_an_auditor(running: Running, study: Study) -> None:
    def student() -> bool:
        return {finding.name: finding.passed for finding in doctor.diagnose(study)}["student"]

    assert not student()
    party, decision = study.fingerprint.read_text(), authority.Decision.APPROVED
    authority.decide(running.node, party, decision, by="Ada", now=datetime.now(UTC), role=PartyRole.AUDITOR)
    assert consumer.enrol(study.folder).state == "approved"
    assert student()


def test_an_analyst_who_was_made_an_auditor_is_told_to_enrol_again_and_then_fetches_as_one(
    running: Running, study: Study
) -> None:
    party, decision = study.fingerprint.read_text(), authority.Decision.APPROVED
    authority.decide(running.node, party, decision, by="Ada", now=datetime.now(UTC), role=PartyRole.AUDITOR)
    with pytest.raises(PolicyRefusal, match="not approved this key for this") as refused:
        consumer.fetch(study.folder)
    assert refused.value.remedy.startswith("run `fair4free enrol`")
    consumer.enrol(study.folder)
    assert Artefact.DECODER not in consumer.fetch(study.folder).release.artefacts


def test_a_request_that_is_none_is_refused_and_not_kept(running: Running, study: Study) -> None:
    before = sorted(running.node.enrolments.iterdir())
    with channel.enrolment(study.invitation()) as opened:
        stub = service.EnrolmentServiceStub(opened)
        for data in (b"", b"not a request", study.certificate.read_bytes(), b"x" * 100_000):
            with pytest.raises(grpc.RpcError) as caught:
                stub.Enrol(wire.EnrolRequest(certificate_request=data), timeout=5)
            assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED)
    assert sorted(running.node.enrolments.iterdir()) == before


def test_an_owner_that_is_not_there_is_said_to_be_so(running: Running, study: Study) -> None:
    running.stop()
    with pytest.raises(Unreachable):
        consumer.fetch(study.folder)


def test_a_release_whose_countersignature_fails_is_said_to_be_kept_and_the_next_fetch_makes_up_for_it(
    running: Running, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(*_: object) -> None:
        raise Unreachable("cannot be written")

    with monkeypatch.context() as patch:
        patch.setattr(server.TrustMetadata, "countersign", unreadable)
        with pytest.raises(Unreachable, match="release 1 is verified and kept") as refused:
            consumer.fetch(study.folder)
    assert refused.value.remedy.endswith("then fetch again, which countersigns")
    assert consumer.verify(study.folder).release.manifest.version == 1
    assert ledger_export.export(running.node).countersigned == ()
    consumer.fetch(study.folder)
    assert len(ledger_export.export(running.node).countersigned) == 1


def test_who_waits_for_an_owner_that_is_silent_for_long_may_ask_whether_it_is_there(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All times a tenth: a ping a second, six seconds of silence."""

    def sooner(options: Iterable[tuple[str, Any]]) -> list[tuple[str, Any]]:
        return [(name, value // 10 if "keepalive" in name or "ping" in name else value) for name, value in options]

    def fall_silent(log: Ledger, version: int) -> bool:
        time.sleep(6.0)
        return False

    monkeypatch.setattr(server, "OPTIONS", sooner(server.OPTIONS))
    monkeypatch.setattr(channel, "CLIENT_OPTIONS", [*sooner(CLIENT_OPTIONS), ("grpc.http2.max_pings_without_data", 0)])
    owner = Running(node)
    study = let_in(owner, tmp_path / "study")
    monkeypatch.setattr(Ledger, "is_denied", fall_silent)
    with channel.mutual(study) as opened:
        request = wire.StreamArtefactRequest(version=1, kind=wire.ARTEFACT_KIND_CARD)
        assert list(service.ReleaseServiceStub(opened).StreamArtefact(request, timeout=20))
    owner.stop()


def test_resuming_asks_only_for_what_is_missing(running: Running, study: Study) -> None:
    whole = (running.node.releases / "1" / Artefact.DECODER.filename).read_bytes()
    with channel.mutual(study) as opened:
        stub = service.ReleaseServiceStub(opened)
        request = wire.StreamArtefactRequest(version=1, kind=wire.ARTEFACT_KIND_DECODER, offset=len(whole) - 7)
        assert b"".join(chunk.data for chunk in stub.StreamArtefact(request, timeout=5)) == whole[-7:]


def test_nobody_is_approved_without_a_named_person_or_by_a_short_fingerprint(running: Running, tmp_path: Path) -> None:
    found = consumer.enrol(tmp_path / "other", invitation=running.node.invitation)
    with pytest.raises(BadInput, match="named"):
        authority.decide(running.node, found.fingerprint, authority.Decision.APPROVED, by="", now=datetime.now(UTC))
    with pytest.raises(BadInput, match="fingerprint"):
        authority.decide(
            running.node, found.fingerprint[:8], authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC)
        )
    assert consumer.enrol(tmp_path / "other").state == "pending"
