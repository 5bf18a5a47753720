"""Who is let in at all: TLS 1.3, certificates of this owner's authority, in their time."""

import contextlib
import os
import shutil
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import consumer
from consumer import channel, doctor, fetching
from consumer.study import Study
from data_owner import authority
from data_owner import doctor as owner_doctor
from data_owner.node import Node
from data_owner.serving import server, tls_version
from protocol import identity, transport
from protocol.access import PartyRole
from protocol.refusals import FastForward, Freeze
from shared import folder, keyring
from shared.clock import now
from shared.diagnosis import Diagnosis
from shared.errors import BadInput, PolicyRefusal, Unreachable
from shared.limits import LIMITS
from tests.conftest import Running
from tests.owner_process import ROOT, OwnerProcess, let_in, owner_process

CHECK = "/grpc.health.v1.Health/Check"


@pytest.fixture(scope="module")
def owner(approved_node: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnerProcess]:
    place = tmp_path_factory.mktemp("authenticating")
    shutil.copytree(approved_node, place / "hospital")
    with owner_process(Node(place / "hospital"), place / "log") as found:
        yield found
        assert found.stop() == 0


@pytest.fixture
def study(owner: OwnerProcess, tmp_path: Path) -> Study:
    return let_in(owner, tmp_path / "study")


def test_a_client_that_knows_only_tls_1_2_gets_no_connection(owner: OwnerProcess, study: Study) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(owner.node.keys / authority.AUTHORITY)
    context.load_cert_chain(study.certificate, study.key)
    context.set_alpn_protocols(["h2"])
    with socket.create_connection(owner.address) as plain, context.wrap_socket(plain) as secured:
        assert secured.version() == "TLSv1.3"
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(owner.address) as plain, pytest.raises(OSError):  # noqa: PT011
        context.wrap_socket(plain)
    assert not tls_version.speaks_below_1_3(*owner.address, 5)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = closed.getsockname()
    with pytest.raises(ConnectionRefusedError):
        tls_version.speaks_below_1_3(*nobody, 5)


def test_a_consumer_refuses_an_owner_that_knows_only_tls_1_2(owner: OwnerProcess, study: Study) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(owner.node.keys / authority.SERVER, owner.node.keys / authority.SERVER_KEY)
    context.set_alpn_protocols(["h2"])
    results = []
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context.minimum_version = context.maximum_version = version
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            folder.write(study.invitation_file, study.invitation().model_copy(update={"address": address}).to_bytes())
            with channel.mutual(study) as opened:
                opened.unary_unary(CHECK).future(b"", timeout=5)
                plain, _ = listener.accept()
                plain.settimeout(5)
                try:
                    with context.wrap_socket(plain, server_side=True) as secured:
                        results.append(secured.version())
                except OSError:
                    results.append("refused")
    assert results == ["refused", "TLSv1.3"]


@pytest.mark.parametrize(
    ("imports", "suites", "said"),
    [
        ("grpc, consumer", None, "PolicyRefusal"),
        ("grpc, consumer, data_owner", None, "PolicyRefusal"),
        ("grpc, consumer", transport.NO_P256_SUITE_BELOW_1_3, "Channel"),
        ("consumer, grpc", None, "Channel"),
        ("data_owner, grpc, consumer", None, "Channel"),
    ],
)
def test_a_consumer_opens_no_channel_where_grpc_was_loaded_before_it_was_told_of_tls_1_3(
    study: Study, imports: str, suites: str | None, said: str
) -> None:
    ask = (
        f"import {imports}\n"
        "from consumer import channel\n"
        "from consumer.study import Study\n"
        "from pathlib import Path\n"
        "try: found = channel.mutual(Study(Path(r'%s')))\n"
        "except consumer.errors.PolicyRefusal as error: found = error\n"
        "print(type(found).__name__)"
    )
    environment = {name: value for name, value in os.environ.items() if name != transport.SUITES}
    if suites:
        environment[transport.SUITES] = suites
    done = subprocess.run(
        [sys.executable, "-c", ask % study.folder], env=environment, cwd=ROOT, capture_output=True, text=True
    )
    assert done.stdout.strip() == said, done.stderr


def test_an_owner_that_would_speak_tls_1_2_does_not_serve(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(node.keys / authority.SERVER, node.keys / authority.SERVER_KEY)
    context.maximum_version = ssl.TLSVersion.TLSv1_2

    def let_in_whoever_comes(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                plain, _ = listener.accept()
                context.wrap_socket(plain, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=let_in_whoever_comes, args=(listener,), daemon=True).start()
        host, port = listener.getsockname()
        assert tls_version.speaks_below_1_3(host, port, 5)
        with pytest.raises(PolicyRefusal, match="accepts TLS below"):
            tls_version.check(f"{host}:{port}")

    def started(listening: server.Listening) -> None:
        raise AssertionError("it serves")

    with monkeypatch.context() as patch:
        patch.setattr(tls_version, "speaks_below_1_3", lambda host, port, seconds: True)
        with pytest.raises(PolicyRefusal, match="accepts TLS below"):
            server.serve(node, "127.0.0.1:0", "127.0.0.1:0", ready=started)


def client_certificate(owner: OwnerProcess, study: Study, moment: datetime) -> bytes:
    """Issued by the true authority, as if it were `moment`."""
    keys = owner.node.keys
    return identity.issue_client_certificate(
        identity.new_request(study.key.read_bytes(), "analyst"),
        "analyst",
        (keys / authority.AUTHORITY_KEY).read_bytes(),
        (keys / authority.AUTHORITY).read_bytes(),
        moment,
        PartyRole.ANALYST,
    )


@pytest.mark.parametrize(
    ("days", "said"),
    [
        pytest.param(-31, "it has expired", id="expired"),
        pytest.param(2, "it is not valid yet", id="issued by a clock that runs ahead"),
    ],
)
def test_a_certificate_out_of_its_time_gets_no_connection(
    owner: OwnerProcess, study: Study, days: int, said: str
) -> None:
    folder.write(study.certificate, client_certificate(owner, study, datetime.now(UTC) + timedelta(days=days)))
    with pytest.raises(Unreachable, match="check this machine's clock"):
        consumer.fetch(study.folder, version=1)
    found = next(each for each in doctor.diagnose(study) if each.name == "certificate")
    assert not found.passed
    assert said in found.text
    assert "check this machine's clock; if it is right, run `fair4free enrol`" in found.text


def date_authority(node: Node, begins: datetime) -> None:
    """Give the node's authority a certificate of the same key that was made then."""
    key = (node.keys / authority.AUTHORITY_KEY).read_bytes()
    folder.write(node.keys / authority.AUTHORITY, identity.new_authority(key, "hospital", begins), folder.PRIVATE)


ENDED = timedelta(days=-LIMITS.authority_days, hours=-1)
AHEAD = timedelta(days=2)


def test_an_owner_whose_authority_is_out_of_its_time_is_not_ready_and_does_not_start(
    node: Node, tmp_path: Path
) -> None:
    def never(listening: server.Listening) -> None:
        raise AssertionError("it serves")

    moment = datetime.now(UTC)
    with owner_process(node, tmp_path / "log") as owner:
        for since, ready in ((ENDED, 503), (timedelta(), 200), (AHEAD, 503)):
            date_authority(node, moment + since)
            assert owner.ask("/readyz")[0] == ready
            ends = (moment + since + timedelta(days=LIMITS.authority_days)).timestamp()
            assert owner.metric("fair4free_authority_expires_timestamp_seconds") == int(ends)
    for since, said in ((ENDED, "authority: ended .* make a new node"), (AHEAD, "authority: not valid before .* wait")):
        date_authority(node, moment + since)
        with pytest.raises(PolicyRefusal, match=said):
            server.serve(node, "127.0.0.1:0", "127.0.0.1:0", ready=never)


def test_the_doctor_names_an_authority_out_of_its_time_and_asks_nobody_to_start_the_server(node: Node) -> None:
    moment = datetime.now(UTC)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    authority.write_invitation(node, nobody, nobody)
    for since, said in ((ENDED, "authority: ended"), (AHEAD, "authority: not valid before")):
        date_authority(node, moment + since)
        for check in (owner_doctor._keys, owner_doctor._listening):
            with pytest.raises(PolicyRefusal, match=said):
                check(node, moment)


def test_a_certificate_ends_with_the_authority_and_none_is_issued_after_that(running: Running, tmp_path: Path) -> None:
    node, moment = running.node, datetime.now(UTC)
    study = let_in(running, tmp_path / "study")
    date_authority(node, moment - timedelta(days=LIMITS.authority_days - 5))
    consumer.enrol(study.folder)
    ends = identity.certificate_expires((node.keys / authority.AUTHORITY).read_bytes())
    assert identity.certificate_expires(study.certificate.read_bytes()) == ends
    date_authority(node, moment + ENDED)
    with pytest.raises(PolicyRefusal, match="the owner refuses this for now: authority: ended"):
        consumer.enrol(study.folder)


def test_an_analyst_is_told_of_an_authority_that_ended_and_of_no_renewal_that_could_not_outlive_it(
    running: Running, tmp_path: Path
) -> None:
    node, moment = running.node, datetime.now(UTC)
    study = let_in(running, tmp_path / "study")

    def found(since: timedelta) -> dict[str, Diagnosis]:
        date_authority(node, moment + since)
        dated = (node.keys / authority.AUTHORITY).read_text()
        folder.write(
            study.invitation_file, study.invitation().model_copy(update={"certificate_authority": dated}).to_bytes()
        )
        return {each.name: each for each in doctor.diagnose(study)}

    date_authority(node, moment - timedelta(days=LIMITS.authority_days - 5))
    consumer.enrol(study.folder)
    assert found(-timedelta(days=LIMITS.authority_days - 5))["certificate"].passed
    assert not found(timedelta())["certificate"].passed, "the next would last longer"
    assert found(timedelta())["authority"].passed
    ended = found(ENDED)["authority"]
    assert not ended.passed
    assert "start a new study with it" in ended.text


def test_who_cannot_reach_the_owner_to_enrol_is_not_told_to_enrol(study: Study) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        nobody = f"127.0.0.1:{closed.getsockname()[1]}"
    lost = study.invitation().model_copy(update={"address": nobody, "enrolment_address": nobody})
    folder.write(study.invitation_file, lost.to_bytes())
    for call, renews in ((consumer.fetch, True), (consumer.enrol, False)):
        with pytest.raises(Unreachable, match="cannot be reached") as refused:
            call(study.folder)
        assert refused.value.remedy.startswith("check this machine's clock")
        assert ("fair4free enrol" in refused.value.remedy) is renews


@pytest.mark.parametrize("name", ["key", "certificate"])
@pytest.mark.parametrize("part", [0.0, 0.5])
def test_a_damaged_key_or_certificate_is_named_and_does_not_abort_the_process(
    study: Study, name: str, part: float
) -> None:
    path: Path = getattr(study, name)
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    fetch = [sys.executable, "-c", "from consumer.cli import main; main()", "fetch", str(study.folder)]
    done = subprocess.run(fetch, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == BadInput.exit_code, done.stderr
    assert str(path) in done.stderr
    found = {each.name: each.text for each in doctor.diagnose(study) if not each.passed}
    assert str(path) in found[name]
    assert "enrol" in found[name]
    assert found["owner"] == found[name]


def test_a_certificate_of_a_key_that_was_replaced_is_named_and_not_the_network(study: Study) -> None:
    folder.write(study.key, identity.new_key(), folder.PRIVATE)
    with pytest.raises(BadInput, match="of another key") as refused:
        consumer.fetch(study.folder)
    assert refused.value.field == str(study.certificate)


def test_the_doctor_finds_a_witness_key_that_does_not_open(study: Study) -> None:
    def witness() -> Diagnosis:
        return next(each for each in doctor.diagnose(study) if each.name == "witness")

    assert witness().passed
    consumer.fetch(study.folder)
    assert witness().passed
    passphrase = study.witness_key.with_name(keyring.BESIDE)
    for path in (passphrase, study.witness_key):
        was = path.read_bytes()
        path.write_bytes(b"")
        assert not witness().passed
        assert "or start a new study" in witness().text
        path.write_bytes(was)
        path.chmod(0o644)
        assert not witness().passed
        assert f"{path}: others can read it" in witness().text
        path.chmod(0o600)
    assert witness().passed


def test_a_clock_some_minutes_off_is_borne_and_a_worse_one_is_named(owner: OwnerProcess, study: Study) -> None:
    folder.write(study.certificate, client_certificate(owner, study, datetime.now(UTC) + timedelta(minutes=4)))
    for skew in (-240, 0, 240):
        fetching.fetch(study, 1, now() + skew)
    with pytest.raises(FastForward, match="clock"):
        fetching.fetch(study, 1, now() - 86_400)
    with pytest.raises(Freeze, match="clock"):
        fetching.fetch(study, 1, now() + 400 * 86_400)


def test_a_certificate_of_another_authority_gets_no_connection(owner: OwnerProcess, study: Study) -> None:
    authority_key, moment = identity.new_key(), datetime.now(UTC)
    other = identity.new_authority(authority_key, "hospital", moment)
    request = identity.new_request(study.key.read_bytes(), "analyst")
    forged = identity.issue_client_certificate(request, "analyst", authority_key, other, moment, PartyRole.ANALYST)
    folder.write(study.certificate, forged)
    with pytest.raises(Unreachable):
        consumer.fetch(study.folder, version=1)
