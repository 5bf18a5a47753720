"""The key ceremony: root keys on media of their own, signed offline, rotated by old and new thresholds, followed."""

import json
import os
import re
import stat
import subprocess
import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

import consumer
from consumer import doctor as consumer_doctor
from consumer.study import Study
from data_owner import authority, ledger_export, release, roots, servable
from data_owner import doctor as owner_doctor
from data_owner.cli import app
from data_owner.node import Node
from data_owner.serving import server
from protocol.invitation import Invitation
from protocol.refusals import FastForward, UnderThreshold, WrongNode
from protocol.root import KeyRole, Root
from protocol.signing import Kind, check_threshold, sign
from shared import folder, keyring
from shared.clock import now
from shared.diagnosis import Diagnosis
from shared.errors import BadInput, Unreachable
from tests.conftest import Running
from tests.kills import NOW, Keys, make_node, owner_writes
from tests.owner_process import ROOT, let_in

STICK = "a passphrase for the stick"
MAIN = "from data_owner.cli import main; main()"


def run(*arguments: object, code: int = 0, passphrase: str | None = None) -> dict[str, str]:
    environment = {keyring.VARIABLE: passphrase, keyring.FILE_VARIABLE: None}
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"], env=environment)
    assert done.exit_code == code, done.output
    envelope = json.loads(done.stdout)
    found: dict[str, str] = envelope["result" if code == 0 else "error"]
    return found


def only_key(node: Node, role: KeyRole) -> Path:
    return next(node.keys.glob(f"{role}-*.key"))


def test_a_root_is_moved_to_two_of_three_keys_on_media_that_never_meet_the_node(tmp_path: Path) -> None:
    node = make_node(tmp_path / "node")
    sticks = [tmp_path / f"stick {number}" / "root.key" for number in range(3)]
    for path in sticks:
        run("root", "key", path, passphrase=STICK)
    document = tmp_path / "next.json"
    publics = [option for path in sticks for option in ("--key", f"{path}.pub")]
    proposed = run("root", "propose", node.folder, "--out", document, *publics, "--threshold", 2)
    first = only_key(node, KeyRole.ROOT)
    run("root", "sign", document, "--key", first)
    assert run("root", "install", node.folder, document, code=1)["kind"] == "UnderThreshold"
    run("root", "sign", document, "--key", sticks[0], passphrase=STICK)
    refused = run("root", "install", node.folder, document, code=1)
    assert refused["kind"] == "UnderThreshold"
    assert "signed by 1 of the owner's keys where 2 are needed" in refused["problem"]
    assert "another holder run `fair4free-owner root sign`" in refused["remedy"]
    assert run("root", "sign", document, "--key", sticks[2], passphrase="wrong", code=2)["field"] == str(sticks[2])
    assert run("root", "sign", document, "--key", sticks[2], passphrase=STICK)["sha256"] == proposed["sha256"]
    run("root", "install", node.folder, document)
    assert run("root", "show", node.folder)["version"] == 2
    assert not first.exists()
    assert run("root", "install", node.folder, document, code=1)["kind"] in ("Rollback", "UnderThreshold")


def test_a_file_that_is_no_public_key_is_refused(tmp_path: Path) -> None:
    node, other = make_node(tmp_path / "node"), tmp_path / "photo.pub"
    other.write_bytes(b"\xff\xd8\x00")
    run("root", "propose", node.folder, "--out", tmp_path / "next.json", "--key", other, code=2)


def test_a_sealed_key_is_private_never_replaced_and_not_in_the_clear(tmp_path: Path) -> None:
    path = tmp_path / "root.key"
    run("root", "key", path, passphrase=STICK)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert run("root", "key", path, passphrase=STICK, code=2)["field"] == str(path)
    secret = keyring.read(path, STICK.encode()).private_bytes_raw()
    assert secret not in path.read_bytes()
    assert secret.hex().encode() not in path.read_bytes()


def test_a_passphrase_may_come_from_a_mounted_file_and_an_empty_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("from a secret\n")
    monkeypatch.setenv(keyring.FILE_VARIABLE, str(secret))
    node = make_node(tmp_path / "node")
    assert not (node.keys / keyring.BESIDE).exists()
    roots.signing_key(node, KeyRole.RELEASE)
    secret.write_text(" ")
    with pytest.raises(BadInput, match="empty"):
        roots.signing_key(node, KeyRole.RELEASE)
    monkeypatch.delenv(keyring.FILE_VARIABLE)
    with pytest.raises(Unreachable, match="cannot be read"):
        roots.signing_key(node, KeyRole.RELEASE)


def test_keys_that_cannot_be_opened_are_told_to_who_starts_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path / "node")
    server.release_server(node, server.Oversight(lambda: True))
    monkeypatch.setenv(keyring.VARIABLE, "another")
    with pytest.raises(Unreachable, match="the passphrase is not this key's"):
        server.release_server(node, server.Oversight(lambda: True))


def public(key: Ed25519PrivateKey) -> str:
    return key.public_key().public_bytes_raw().hex()


def two_of_three(node: Node) -> list[Ed25519PrivateKey]:
    """Hand the root of a new node to three holders, two of whom must sign. Returns their keys."""
    holders = [Ed25519PrivateKey.generate() for _ in range(3)]
    document = roots.propose(node, NOW, [public(key) for key in holders], 2, []).to_bytes()
    signed = None
    for key in (roots.signing_key(node, KeyRole.ROOT), *holders[:2]):
        signed = roots.add_signature(document, signed, key)
    assert signed is not None
    roots.install(node, document, signed, NOW)
    return holders


def test_installing_a_root_removes_the_nodes_own_old_keys_and_no_key_of_a_person(tmp_path: Path) -> None:
    node = make_node(tmp_path / "node")
    first = only_key(node, KeyRole.ROOT)
    kept = [node.keys / name for name in ("root-ada.key", "release-old.key", "root-0123456789abcdef.key.bak")]
    for path in kept:
        path.write_text("sealed elsewhere")
    two_of_three(node)
    assert not first.exists()
    assert all(path.exists() for path in kept)
    for role in roots.ONLINE:
        roots.signing_key(node, role)


def test_a_proposal_replaces_no_other_and_is_not_signed_beside_the_signatures_of_one(tmp_path: Path) -> None:
    node, document = make_node(tmp_path / "node"), tmp_path / "root-2.json"
    propose = ("root", "propose", node.folder, "--out", document, "--renew", "log")
    run(*propose)
    run("root", "sign", document, "--key", only_key(node, KeyRole.ROOT))
    held = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    refused = run(*propose, code=2)
    assert (refused["kind"], refused["field"]) == ("BadInput", str(document))
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == held
    document.unlink()
    assert run(*propose, code=2)["field"] == str(document.with_suffix(".sig"))
    document.with_suffix(".sig").unlink()
    run(*propose)
    run("root", "sign", document, "--key", only_key(node, KeyRole.ROOT))
    run("root", "install", node.folder, document)


def test_a_root_key_is_not_made_where_another_public_half_lies(tmp_path: Path) -> None:
    path, other = tmp_path / "root.key", tmp_path / "root.key.pub"
    other.write_text("another")
    assert run("root", "key", path, passphrase=STICK, code=2)["field"] == str(other)
    assert other.read_text() == "another"
    assert not path.exists()


def test_fewer_root_keys_than_must_sign_now_are_proposed_only_with_a_threshold(tmp_path: Path) -> None:
    node = make_node(tmp_path / "node")
    one, two, three = (public(key) for key in two_of_three(node))
    with pytest.raises(BadInput, match="2 that must sign") as refused:
        roots.propose(node, NOW, [one], None, [])
    assert "--threshold" in refused.value.remedy
    for keys, threshold, needed in (([one], 1, 1), ([one, two], None, 2), ([], None, 2), ([one, two, three], 3, 3)):
        assert roots.propose(node, NOW, keys, threshold, []).roles[KeyRole.ROOT].threshold == needed


def test_a_holder_sees_how_many_root_keys_the_root_asks_for_before_and_when_she_signs(tmp_path: Path) -> None:
    node, stick, document = make_node(tmp_path / "node"), tmp_path / "root.key", tmp_path / "next.json"
    publics = []
    for number, key in enumerate(two_of_three(node)):
        path = tmp_path / f"{number}.pub"
        path.write_text(public(key))
        publics += ["--key", path]
    run("root", "key", stick, passphrase=STICK)
    proposed = run("root", "propose", node.folder, "--out", document, *publics)
    signed = run("root", "sign", document, "--key", stick, passphrase=STICK)
    for said in (proposed, signed):
        assert (said["threshold"], said["root_keys"]) == (2, 3)
    words = [
        ["root", "propose", node.folder, "--out", tmp_path / "again.json", *publics],
        ["root", "sign", document, "--key", stick],
    ]
    for each in words:
        done = CliRunner().invoke(app, list(map(str, each)), env={keyring.VARIABLE: STICK, keyring.FILE_VARIABLE: None})
        assert "2 of 3 root keys must sign" in done.stdout
        assert re.match("root 3( proposed)?, sha256 [0-9a-f]{64}, ", done.stdout), "before the name of the node"


def test_a_root_that_has_ended_is_not_put_in_force_and_a_holder_sees_when_one_ends(tmp_path: Path) -> None:
    node, document = make_node(tmp_path / "node"), tmp_path / "root-2.json"
    with patch("shared.clock.moment", lambda: datetime(2001, 1, 1, tzinfo=UTC)):
        proposed = CliRunner().invoke(app, ["root", "propose", str(node.folder), "--out", str(document)])
    key = only_key(node, KeyRole.ROOT)
    signed = CliRunner().invoke(app, ["root", "sign", str(document), "--key", str(key)])
    for said in (proposed.stdout, signed.stdout):
        assert "ends 2003-01-01" in said
    assert run("root", "sign", document, "--key", key)["expires"] == Root.from_bytes(document.read_bytes()).expires
    refused = run("root", "install", node.folder, document, code=1)
    assert (refused["kind"], refused["problem"]) == ("Expired", "version 2 ended 2003-01-01")
    assert "propose a root again" in refused["remedy"]
    assert run("root", "show", node.folder)["version"] == 1


def test_the_version_in_force_is_not_installed_again_and_no_owner_is_told_to_ask_the_owner(tmp_path: Path) -> None:
    node, document = make_node(tmp_path / "node"), tmp_path / "root-2.json"
    run("root", "propose", node.folder, "--out", document)
    run("root", "sign", document, "--key", only_key(node, KeyRole.ROOT))
    rotate(node, KeyRole.LOG)
    refused = run("root", "install", node.folder, document, code=1)
    assert (refused["kind"], refused["problem"]) == ("Rollback", "version 2 is in force already")
    assert refused["remedy"].startswith("nothing is to be done if `root show` says what you expect")


def test_what_no_holder_signed_or_is_another_nodes_sends_nobody_to_the_owner(tmp_path: Path) -> None:
    node, document = make_node(tmp_path / "node"), tmp_path / "root-2.json"
    run("root", "propose", node.folder, "--out", document)
    run("root", "sign", document, "--key", only_key(node, KeyRole.ROOT))
    root = Root.from_bytes(document.read_bytes())
    document.write_bytes(root.model_copy(update={"expires": root.expires + 1}).to_bytes())
    refused = run("root", "install", node.folder, document, code=1)
    assert refused["kind"] == "BadSignature"
    assert refused["remedy"].startswith("copy the document and its .sig again")
    foreign = root.model_copy(update={"node": "clinic"}).to_bytes()
    with pytest.raises(WrongNode, match="Remedy: propose a root again"):
        roots.install(node, foreign, roots.add_signature(foreign, None, roots.signing_key(node, KeyRole.ROOT)), now())
    assert run("root", "show", node.folder)["version"] == 1


@pytest.mark.parametrize("kept", [0, 100])
@pytest.mark.parametrize("suffix", [".json", ".sig"])
def test_what_a_medium_damaged_is_named_and_no_signature_on_it_is_forgotten(
    tmp_path: Path, suffix: str, kept: int
) -> None:
    node, document = make_node(tmp_path / "node"), tmp_path / "root-2.json"
    run("root", "propose", node.folder, "--out", document)
    run("root", "sign", document, "--key", only_key(node, KeyRole.ROOT))
    damaged = document.with_suffix(suffix)
    left = damaged.read_bytes()[:kept]
    damaged.write_bytes(left)
    for words in (["sign", document, "--key", only_key(node, KeyRole.ROOT)], ["install", node.folder, document]):
        refused = run("root", *words, code=3)
        assert (refused["field"], refused["problem"]) == (str(damaged), "damaged: not canonical JSON")
        assert f"copy {damaged.name} again" in refused["remedy"]
        assert ("every holder sign again" in refused["remedy"]) is (suffix == ".sig")
        assert damaged.read_bytes() == left


@pytest.mark.parametrize("change", [{"threshold": 2}, {"root_keys": ["ab" * 32] * 2}, {"root_keys": ["nonsense"]}])
def test_keys_that_do_not_make_a_root_are_refused(tmp_path: Path, change: dict[str, object]) -> None:
    node = make_node(tmp_path / "node")
    wanted: dict[str, object] = {"root_keys": [], "threshold": None, "renew": [], **change}
    with pytest.raises(BadInput, match="do not make a root"):
        roots.propose(node, NOW, **wanted)  # type: ignore[arg-type]


@pytest.mark.parametrize("role", ["root", "reader"])
def test_only_a_role_whose_key_is_at_the_node_gets_a_new_one_there(tmp_path: Path, role: str) -> None:
    node, document = make_node(tmp_path / "node"), tmp_path / "root.json"
    kept = sorted(node.keys.iterdir())
    words = ["root", "propose", str(node.folder), "--out", str(document), "--renew", "log", "--renew", role, "--json"]
    done = CliRunner().invoke(app, words)
    assert (done.exit_code, json.loads(done.stdout)["error"]["field"]) == (2, "--renew")
    assert sorted(node.keys.iterdir()) == kept
    assert not document.exists()


@pytest.mark.parametrize("path", ["", ".", "/"])
def test_a_path_without_a_name_is_no_file_to_write(tmp_path: Path, path: str) -> None:
    node = make_node(tmp_path / "node")
    for words in (["root", "key", path], ["root", "propose", node.folder, "--out", path]):
        assert run(*words, passphrase=STICK, code=2)["problem"] == "not the name of a file"


def test_nobody_is_asked_for_the_passphrase_of_a_key_that_is_not_there_or_without_a_terminal(tmp_path: Path) -> None:
    node, document = make_node(tmp_path / "node"), tmp_path / "root.json"
    run("root", "propose", node.folder, "--out", document)
    missing, stick = tmp_path / "missing.key", tmp_path / "stick.key"
    run("root", "key", stick, passphrase=STICK)
    for key, code in ((missing, 3), (stick, 2)):
        done = subprocess.run(
            [sys.executable, "-c", MAIN, "root", "sign", document, "--key", key],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            start_new_session=True,  # which has no terminal
        )
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 2), done.stderr
        assert "Passphrase of" not in done.stderr


def rotate(node: Node, *renew: KeyRole) -> None:
    proposed = roots.propose(node, now(), [], None, renew).to_bytes()
    old = roots.signing_key(node, KeyRole.ROOT)
    roots.install(node, proposed, roots.add_signature(proposed, None, old), now())


def test_releases_stay_valid_when_the_release_key_is_renewed_and_the_old_key_is_gone(tmp_path: Path) -> None:
    node = make_node(tmp_path / "node")
    keys: Keys = {role: roots.signing_key(node, role) for role in (KeyRole.RELEASE, KeyRole.LOG)}
    with pytest.raises(InterruptedError):
        owner_writes(node, keys, stop_when_approved)
    old = only_key(node, KeyRole.RELEASE)
    rotate(node, KeyRole.RELEASE, KeyRole.LOG)
    assert not old.exists()
    servable.load(node, 1, NOW, roots.newest(node))


def test_an_approval_that_was_cut_short_does_not_stand_in_the_way_of_a_rotation(tmp_path: Path) -> None:
    node = make_node(tmp_path / "node")
    keys: Keys = {role: roots.signing_key(node, role) for role in (KeyRole.RELEASE, KeyRole.LOG)}
    with pytest.raises(InterruptedError):
        owner_writes(node, keys, stop_when_approved)
    release.deny(node, 1, by="Ada", reason="cut short", now=NOW)
    (node.releases / "1" / "manifest.json").unlink()
    before = (node.releases / "1" / "manifest.sig").read_bytes()
    rotate(node, KeyRole.RELEASE)
    assert (node.releases / "1" / "manifest.sig").read_bytes() == before


def test_no_key_is_renewed_under_another_passphrase_than_the_one_that_was_moved_away(tmp_path: Path) -> None:
    node = make_node(tmp_path / "node")
    (node.keys / keyring.BESIDE).unlink()
    held = {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()}
    with pytest.raises(Unreachable, match="cannot be read") as refused:
        roots.propose(node, NOW, [], None, [KeyRole.LOG])
    assert keyring.FILE_VARIABLE in refused.value.remedy
    assert {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()} == held


@pytest.mark.parametrize("node_is_opened_by", ["a file beside", "a variable"])
def test_no_key_under_a_holders_passphrase_takes_the_place_of_one_that_the_node_can_open(
    tmp_path: Path, node_is_opened_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, document = make_node(tmp_path / "node"), tmp_path / "root-2.json"
    own = None
    if node_is_opened_by == "a variable":
        own = (node.keys / keyring.BESIDE).read_text()
        (node.keys / keyring.BESIDE).unlink()
    first = only_key(node, KeyRole.ROOT)
    key = keyring.read(first, (own or (node.keys / keyring.BESIDE).read_text()).encode())
    everything = [option for role in roots.ONLINE for option in ("--renew", role)]
    held = set(node.folder.rglob("*"))
    refused = run("root", "propose", node.folder, "--out", document, *everything, passphrase=STICK, code=2)
    assert keyring.VARIABLE in refused["remedy"]
    assert set(node.folder.rglob("*")) == held
    with monkeypatch.context() as patch:  # as an owner before this was refused would have
        patch.setattr(roots, "_check_opened", lambda node, root: None)
        run("root", "propose", node.folder, "--out", document, *everything, passphrase=STICK)
    document.with_suffix(".sig").write_bytes(roots.add_signature(document.read_bytes(), None, key))
    for given in (own, STICK):
        assert "the passphrase" in run("root", "install", node.folder, document, passphrase=given, code=2)["problem"]
    assert run("root", "show", node.folder)["version"] == 1
    if own is not None:
        monkeypatch.setenv(keyring.VARIABLE, own)
    for role in roots.ONLINE:
        roots.signing_key(node, role)


@pytest.mark.parametrize("role", roots.ONLINE)
def test_a_damaged_key_is_restored_or_removed_and_its_role_renewed_and_no_passphrase_is_blamed(
    tmp_path: Path, role: KeyRole
) -> None:
    node, document = make_node(tmp_path / "node"), tmp_path / "root-2.json"
    damaged = only_key(node, role)
    damaged.write_bytes(b"")
    propose = ("root", "propose", node.folder, "--out", document, "--renew", role)
    refused = run(*propose, code=2)
    with pytest.raises(BadInput) as named:
        roots.signing_key(node, role)
    for field, remedy in ((refused["field"], refused["remedy"]), (named.value.field, named.value.remedy)):
        assert field == str(damaged)
        assert remedy.startswith("restore it from its backup, or remove it and renew its role")
        assert keyring.VARIABLE not in remedy
    damaged.unlink()
    with pytest.raises(Unreachable, match=f"from its backup, or renew its role with `root propose --renew {role}`"):
        roots.signing_key(node, role)
    run(*propose)
    run("root", "sign", document, "--key", only_key(node, KeyRole.ROOT))
    run("root", "install", node.folder, document)
    roots.signing_key(node, role)


def test_a_node_whose_passphrase_is_lost_gets_new_keys_from_who_holds_the_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = make_node(tmp_path / "node")
    holders = two_of_three(node)
    (node.keys / keyring.BESIDE).unlink()
    monkeypatch.setenv(keyring.VARIABLE, "a new passphrase")
    for role in roots.ONLINE:
        only_key(node, role).unlink()
    document = roots.propose(node, now(), [], None, roots.ONLINE).to_bytes()
    signed = None
    for key in holders[1:]:
        signed = roots.add_signature(document, signed, key)
    assert signed is not None
    assert roots.install(node, document, signed, now()).version == 3
    server.release_server(node, server.Oversight(lambda: True))


@pytest.mark.parametrize("name", ["1.json", "1.sig"])
def test_a_root_that_the_disk_lost_is_named_by_its_path_and_restored_and_no_owner_is_told_to_fetch(
    tmp_path: Path, name: str
) -> None:
    node = make_node(tmp_path / "node")
    damaged = node.roots / name
    damaged.write_bytes(b"")
    with pytest.raises(Unreachable) as served:
        server.serve(node, "127.0.0.1:0", "127.0.0.1:0")
    assert served.value.field == str(damaged)
    for words in (("show",), ("propose", "--out", tmp_path / "next.json")):
        said = run("root", words[0], node.folder, *words[1:], code=3)
        assert (said["field"], said["problem"]) == (str(damaged), "damaged: not canonical JSON")
        assert said["remedy"] == "restore the node's root folder from its backup"
    with pytest.raises(Unreachable, match="damaged"):
        ledger_export.export(node)


@pytest.mark.parametrize("missing", [1, 2])
def test_a_root_that_is_gone_from_among_others_is_named_and_no_older_one_is_in_force(
    tmp_path: Path, missing: int
) -> None:
    node = make_node(tmp_path / "node")
    rotate(node)
    rotate(node)
    (node.roots / f"{missing}.json").unlink()
    said = run("root", "propose", node.folder, "--out", tmp_path / "next.json", code=3)
    assert said["field"] == str(node.roots / f"{missing}.json")
    assert said["remedy"] == "restore the node's root folder from its backup"
    assert not (tmp_path / "next.json").exists()


def stop_when_approved(line: str) -> None:
    if line.startswith("approval"):
        raise InterruptedError


def test_a_consumer_follows_a_rotation_while_the_owner_serves(running: Running, tmp_path: Path) -> None:
    study = Study(tmp_path / "study")
    found = consumer.enrol(study.folder, invitation=running.node.invitation)
    authority.decide(running.node, found.fingerprint, authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC))
    consumer.enrol(study.folder)
    consumer.fetch(study.folder)
    rotate(running.node, *roots.ONLINE)
    rotate(running.node, KeyRole.FRESHNESS)
    consumer.fetch(study.folder)
    assert study.last_seen().trusted_root().version == 3
    consumer.verify(study.folder)
    running.invite(running.address)  # names the newest root: the study has followed to it, so it knows it
    consumer.enrol(study.folder, invitation=running.node.invitation)
    consumer.fetch(study.folder)
    new = Study(tmp_path / "new")
    consumer.enrol(new.folder, invitation=running.node.invitation)
    assert new.last_seen().trusted_root().version == 3


def test_doctor_tells_the_same_digest_of_the_root_on_both_sides_once_the_study_has_followed_a_rotation(
    running: Running, tmp_path: Path
) -> None:
    def told(findings: list[Diagnosis]) -> str:
        return next(each.text for each in findings if each.name == "root").partition(" until")[0].rstrip(",")

    study = let_in(running, tmp_path / "study")
    rotate(running.node, KeyRole.FRESHNESS)
    assert told(consumer_doctor.diagnose(study)) != told(owner_doctor.diagnose(running.node))
    consumer.fetch(study.folder)
    assert told(consumer_doctor.diagnose(study)) == told(owner_doctor.diagnose(running.node))
    assert told(owner_doctor.diagnose(running.node)) == f"version 2, sha256 {roots.newest(running.node).digest}"
    with pytest.raises(UnderThreshold, match="ask the owner, by telephone, whether its keys were changed"):
        check_threshold(Kind.ROOT, b"", sign(Kind.ROOT, b"", [Ed25519PrivateKey.generate()]).to_bytes(), {}, 1)


def test_a_study_that_was_away_while_roots_were_rotated_and_the_owner_moved_goes_on_by_the_new_invitation(
    running: Running, tmp_path: Path
) -> None:
    study = let_in(running, tmp_path / "study")
    old = study.invitation().model_copy(update={"address": "localhost:1", "enrolment_address": "localhost:1"})
    folder.write(study.invitation_file, old.to_bytes())
    rotate(running.node, *roots.ONLINE)
    rotate(running.node)
    with pytest.raises(Unreachable):
        consumer.fetch(study.folder)
    assert consumer.enrol(study.folder, invitation=running.invite(running.address)).state == "approved"
    assert study.invitation().root == old.root
    consumer.fetch(study.folder)
    assert study.last_seen().trusted_root().version == 3


def test_a_study_that_fetched_while_both_clocks_were_ahead_goes_on_once_the_freshness_key_is_renewed(
    running: Running, tmp_path: Path
) -> None:
    def found_by_doctor() -> Diagnosis:
        return next(each for each in consumer_doctor.diagnose(study) if each.name == "clock")

    study = let_in(running, tmp_path / "study")
    consumer.fetch(study.folder)
    assert found_by_doctor().passed
    ahead = now() + 60 * 86_400
    with ExitStack() as clocks:
        for clock in ("data_owner.serving.server.now", "consumer.receiving_steps.now", "shared.clock.now"):
            clocks.enter_context(patch(clock, lambda: ahead))
        consumer.fetch(study.folder)
    with pytest.raises(FastForward, match=r"last seen was signed in the future\. Remedy: check this machine's clock"):
        consumer.fetch(study.folder)
    assert not found_by_doctor().passed
    assert "renew the freshness key" in found_by_doctor().text
    assert "## A clock was ahead" in (ROOT / "deploy" / "RUNBOOK.md").read_text("utf-8")
    rotate(running.node, KeyRole.FRESHNESS)
    consumer.fetch(study.folder)
    assert found_by_doctor().passed


def test_an_invitation_whose_root_is_not_signed_by_its_own_keys_is_refused(running: Running, tmp_path: Path) -> None:
    invitation = Invitation.from_bytes(running.node.invitation.read_bytes())
    other = make_node(tmp_path / "mallory")
    forged = invitation.model_copy(update={"root": roots.chain(other)[0][0].decode()})
    path = tmp_path / "forged.json"
    folder.write(path, forged.to_bytes())
    with pytest.raises(UnderThreshold):
        consumer.enrol(tmp_path / "study", invitation=path)
