"""The egress log on disk: append-only, one rule for owner and auditor, and every byte that left accounted for."""

import json
import shutil
import sqlite3
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner

import consumer
import consumer.cli
from consumer.study import Study
from data_owner import authority, ledger, ledger_export, release, roots, servable
from data_owner.cli import app
from data_owner.ledger import Ledger, new_entry
from data_owner.node import Node
from data_owner.reports.ledger_report import ledger_report
from protocol import access, identity
from protocol.artefacts import Artefact
from protocol.checkpoint import Checkpoint, origin
from protocol.entry import Approval, Denial, Enrolment, Entry, Override, Revocation, Served, Standing, parse_entry
from protocol.ledger_file import Countersigned, LedgerFile, VerifiedLedger, verify_ledger, witness_name
from protocol.manifest import Digest
from protocol.merkle import Tree
from protocol.note import Note
from protocol.refusals import Equivocation, NotCanonical, Rewritten, Rollback, RuleBroken, UnderThreshold, WrongNode
from protocol.root import KeyRole, Root, SignedRoot
from protocol.signing import Kind, sign
from protocol.trust import LastSeen, TrustedRelease
from shared.clock import now
from shared.errors import BadInput, PolicyRefusal, Unreachable, VerificationFailure
from shared.limits import LIMITS
from shared.report import Verdict
from tests.conftest import Running
from tests.kills import make_node, owner_writes
from tests.owner_in_memory import (
    KEYS,
    NOW,
    PARTY,
    Owner,
    certificate,
    fetch,
    honest_log,
    key,
    root_of,
    study_at,
    trusting,
)

MANIFEST = Owner().manifest()
APPROVAL = next(entry for entry in honest_log(MANIFEST) if isinstance(entry, Approval))
LET_IN = next(entry for entry in honest_log(MANIFEST) if isinstance(entry, Enrolment))
SERVED = next(entry for entry in honest_log(MANIFEST, served=1) if isinstance(entry, Served))
OTHER = APPROVAL.model_copy(update={"nonce": "77" * 16, "manifest": Digest.of(b"another manifest")})
DENIAL = Denial(at=NOW, nonce="44" * 16, by="Ada", version=3, reason="recalled")
OVERRIDE = Override(at=NOW, nonce="66" * 16, by="Ada", version=3, findings="cd" * 32, reason="accepted")
GONE = Revocation(at=NOW, nonce="55" * 16, by="Ada", party=PARTY)


@pytest.fixture
def log(tmp_path: Path) -> Ledger:
    Ledger.create(tmp_path / "ledger.sqlite")
    return Ledger(tmp_path / "ledger.sqlite")


# what may follow what


def test_what_was_approved_may_go_to_who_was_let_in() -> None:
    standing = Standing()
    for entry in (*honest_log(MANIFEST, served=2), DENIAL, GONE):
        standing.admit(entry)


def test_a_release_may_be_approved_again_until_it_is_served_and_the_same_one_afterwards() -> None:
    standing = Standing()
    for entry in (LET_IN, OTHER, APPROVAL, SERVED, APPROVAL):
        standing.admit(entry)


@pytest.mark.parametrize(
    "entries",
    [
        [APPROVAL, SERVED],
        [LET_IN, SERVED],
        [LET_IN, APPROVAL, GONE, SERVED],
        [LET_IN, APPROVAL, DENIAL, SERVED],
        [DENIAL, APPROVAL],
        [DENIAL, OVERRIDE],
        [LET_IN, APPROVAL, SERVED, OTHER],
        [LET_IN, APPROVAL, SERVED.model_copy(update={"sha256": "ab" * 32})],
        [LET_IN, APPROVAL, SERVED.model_copy(update={"offset": 30})],
        [LET_IN, APPROVAL, SERVED.model_copy(update={"artefact": Artefact.MANIFEST})],
        [LET_IN, APPROVAL, SERVED.model_copy(update={"version": 2})],
        [
            LET_IN.model_copy(update={"role": access.PartyRole.AUDITOR}),
            APPROVAL,
            SERVED.model_copy(
                update={"artefact": Artefact.DECODER, "sha256": MANIFEST.artefacts[Artefact.DECODER].sha256}
            ),
        ],
    ],
    ids=[
        "to a stranger",
        "not approved",
        "after revocation",
        "after denial",
        "approved after denial",
        "overridden after denial",
        "another release under a version served",
        "other bytes",
        "beyond the end",
        "as another artefact",
        "of another version",
        "a decoder to an auditor",
    ],
)
def test_what_was_not_allowed_cannot_be_in_a_log(entries: list[Entry], log: Ledger) -> None:
    standing = Standing()
    for entry in entries[:-1]:
        standing.admit(entry)
        log.append(entry)
    with pytest.raises(RuleBroken):
        standing.admit(entries[-1])
    with pytest.raises(RuleBroken):
        log.append(entries[-1])
    assert len(log.entries()) == len(entries) - 1


def test_people_who_override_are_counted_once_for_each_finding() -> None:
    standing = Standing()
    for person, findings in (("Ada", "cd"), ("  ADA ", "cd"), ("Ben", "cd"), ("Ben", "ef")):
        standing.admit(OVERRIDE.model_copy(update={"by": person, "findings": findings * 32}))
    assert standing.overrides == {(3, "cd" * 32): {"ada", "ben"}, (3, "ef" * 32): {"ben"}}


# on disk


def test_entries_survive_and_two_writers_see_each_other(log: Ledger, tmp_path: Path) -> None:
    other = Ledger(tmp_path / "ledger.sqlite")
    assert [log.append(LET_IN), other.append(APPROVAL), log.append(SERVED)] == [0, 1, 2]
    assert other.entries() == log.entries() == [each.to_bytes() for each in (LET_IN, APPROVAL, SERVED)]


def test_nothing_in_a_log_can_be_changed_or_removed_by_a_statement(log: Ledger, tmp_path: Path) -> None:
    log.append(LET_IN)
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        for statement in ("UPDATE entries SET entry = x'00'", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                database.execute(statement)
    database.close()


@pytest.mark.parametrize("statement", ["DELETE FROM entries", "UPDATE entries SET entry = :other"])
def test_an_owner_whose_log_lost_or_changed_what_it_signed_for_signs_nothing_more(
    statement: str, log: Ledger, tmp_path: Path
) -> None:
    other = SERVED.model_copy(update={"nonce": "77" * 16})
    for entry in (LET_IN, APPROVAL, SERVED):
        log.append(entry)
    log.checkpoint(origin("hospital"), KEYS[KeyRole.LOG][0])
    log.close()
    with sqlite3.connect(tmp_path / "ledger.sqlite") as database:
        for trigger in ("entries_stay", "entries_keep"):
            database.execute(f"DROP TRIGGER {trigger}")
        database.execute(f"{statement} WHERE place = 2", {"other": other.to_bytes()})
    database.close()
    with Ledger(tmp_path / "ledger.sqlite") as cut, pytest.raises(VerificationFailure, match="missing or changed"):
        cut.checkpoint(origin("hospital"), KEYS[KeyRole.LOG][0])


def test_a_log_that_vanished_is_not_begun_anew(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="not there"):
        Ledger(tmp_path / "ledger.sqlite")


def test_a_file_that_is_no_log_is_said_to_be_so(tmp_path: Path) -> None:
    (tmp_path / "ledger.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(Unreachable):
        Ledger(tmp_path / "ledger.sqlite")


def test_two_entries_alike_have_different_hashes() -> None:
    one, other = (ledger.new_entry(Revocation, at=NOW, by="Ada", party=PARTY) for _ in range(2))
    assert one.to_bytes() != other.to_bytes()


@pytest.mark.parametrize("reason", ["x" * 1001, "\ud800", ""])
def test_words_that_a_log_cannot_take_are_refused_before_anything_is_done(node: Node, reason: str) -> None:
    with pytest.raises((BadInput, PolicyRefusal)):
        release.deny(node, 1, by="Ada", reason=reason, now=NOW)
    assert list(servable.manifests(node, now())) == [1]


def test_the_longest_words_a_log_takes_can_be_read_back(log: Ledger, tmp_path: Path) -> None:
    log.append(ledger.new_entry(Denial, at=NOW, by="\U00020000" * 200, version=1, reason="\U00020000" * 1000))
    assert len(Ledger(tmp_path / "ledger.sqlite").entries()) == 1


# as a file, for somebody who holds only public keys


def signed_root(root: Root, by: Ed25519PrivateKey = KEYS[KeyRole.ROOT][0]) -> SignedRoot:
    document = root.to_bytes()
    signatures = sign(Kind.ROOT, document, [by]).to_bytes()
    return SignedRoot(document=document.decode(), signatures=signatures.decode())


def exported(entries: list[Entry], log_key: Ed25519PrivateKey = KEYS[KeyRole.LOG][0], **change: object) -> LedgerFile:
    tree = Tree(entry.to_bytes() for entry in entries)
    checkpoint = Checkpoint(origin("hospital"), len(tree), tree.root()).signed(log_key).decode()
    file = LedgerFile(
        roots=(signed_root(Owner().first_root()),),
        checkpoint=checkpoint,
        entries=tuple(entry.to_bytes().decode() for entry in entries),
        countersigned=(countersigned(checkpoint, PARTY),),
    )
    return file.model_copy(update=change)


def countersigned(checkpoint: str, party: str, at: int = NOW) -> Countersigned:
    note = Note.from_bytes(checkpoint.encode()).cosigned(witness_name(party), key("witness"), at)
    public = key("witness").public_key().public_bytes_raw().hex()
    return Countersigned(party=party, key=public, note=note.to_bytes().decode())


def test_an_honest_file_is_verified_and_tells_who_countersigned() -> None:
    file = exported(honest_log(MANIFEST, served=2))
    found = verify_ledger(LedgerFile.from_bytes(file.to_bytes()), Owner().first_root())
    assert found.checkpoint.size == 5
    assert found.countersigned == ((PARTY, 5, NOW),)
    assert found.standing.approved[3] == APPROVAL


@pytest.mark.parametrize(
    "attack",
    [
        lambda file: {"entries": file.entries[:-1]},
        lambda file: {"entries": (*file.entries, file.entries[-1])},
        lambda file: {"entries": file.entries[::-1]},
        lambda file: {"entries": tuple(each.replace("Ada", "Eve") for each in file.entries)},
        lambda file: {"entries": (*file.entries[:-1], file.entries[-1].replace('"length":7', '"length":6'))},
        lambda file: {
            "checkpoint": Checkpoint(origin("hospital"), 5, b"\x00" * 32).signed(KEYS[KeyRole.LOG][0]).decode()
        },
        lambda file: {"checkpoint": exported(honest_log(MANIFEST, served=1)).checkpoint},
        lambda file: {"countersigned": exported(honest_log(MANIFEST, served=9)).countersigned},
        lambda file: {"countersigned": (file.countersigned[0].model_copy(update={"key": "ab" * 32}),)},
        lambda file: {"countersigned": file.countersigned * 2},
        lambda file: {"countersigned": (*file.countersigned, countersigned(file.checkpoint, "ef" * 32))},
    ],
    ids=[
        "last left out",
        "one repeated",
        "reversed",
        "another name",
        "fewer bytes",
        "another root hash",
        "an old checkpoint",
        "shorter than countersigned",
        "countersigned by another key",
        "countersigned twice by one",
        "countersigned by nobody it let in",
    ],
)
def test_a_file_that_was_changed_is_refused(attack: object) -> None:
    file = exported(honest_log(MANIFEST, served=2))
    with pytest.raises(VerificationFailure):
        verify_ledger(file.model_copy(update=attack(file)), Owner().first_root())  # type: ignore[operator]


def test_a_file_of_another_node_or_log_key_proves_nothing() -> None:
    file = exported(honest_log(MANIFEST))
    with pytest.raises(UnderThreshold):
        verify_ledger(file, root_of(KEYS, node="clinic"))
    with pytest.raises(WrongNode):
        verify_ledger(
            file.model_copy(update={"checkpoint": Owner(node="clinic").checkpoint().decode()}), Owner().first_root()
        )


NEW_LOG_KEY = key("the next log key")
ROOTS = (Owner().first_root(), root_of({**KEYS, KeyRole.LOG: [NEW_LOG_KEY]}, version=2))


def test_a_log_is_signed_by_the_key_of_the_newest_root_in_the_file() -> None:
    entries, both = honest_log(MANIFEST), tuple(map(signed_root, ROOTS))
    assert verify_ledger(exported(entries, NEW_LOG_KEY, roots=both), ROOTS[0]).checkpoint.size == len(entries)
    for signer, roots_ in ((key("mallory"), both[:1]), (KEYS[KeyRole.LOG][0], both)):
        with pytest.raises(UnderThreshold):
            verify_ledger(exported(entries, signer, roots=roots_), ROOTS[0])
    foisted = (both[0], signed_root(ROOTS[1], by=key("mallory")))
    with pytest.raises(UnderThreshold):
        verify_ledger(exported(entries, NEW_LOG_KEY, roots=foisted), ROOTS[0])


def test_a_log_key_that_a_study_knows_to_be_replaced_speaks_no_longer() -> None:
    entries, both = honest_log(MANIFEST), tuple(map(signed_root, ROOTS))
    seen = LastSeen(roots=both)
    verify_ledger(exported(entries, NEW_LOG_KEY, roots=both), ROOTS[0], seen)
    with pytest.raises(Rollback, match="new export"):
        verify_ledger(exported(entries), ROOTS[0], seen)
    with pytest.raises(Rollback, match="new export"):
        verify_ledger(exported(entries), ROOTS[1])
    other = signed_root(root_of({**KEYS, KeyRole.LOG: [key("another log")]}, version=2))
    with pytest.raises(UnderThreshold, match="do not lead from the one"):
        verify_ledger(exported(entries, key("another log"), roots=(both[0], other)), ROOTS[0], seen)


def test_a_checkpoint_by_all_keys_that_a_role_may_have_leaves_one_line_for_a_consumer() -> None:
    note = Note.from_bytes(Owner().checkpoint())
    for number in range(LIMITS.signatures - 1):
        note = note.signed(origin("hospital"), key(f"log {number}"))
    party = witness_name(PARTY)
    whole = Note.from_bytes(note.to_bytes()).cosigned(party, key("witness"), NOW)
    assert Note.from_bytes(whole.to_bytes()).cosignature_time(party, key("witness").public_key()) == NOW
    with pytest.raises(NotCanonical, match="too many"):
        Note.from_bytes(whole.cosigned(party, key("another witness"), NOW).to_bytes())


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """It has fetched release 3."""
    monkeypatch.setattr("consumer.receiving_steps.now", lambda: NOW)
    found = study_at(tmp_path / "study", trusting())
    fetch(Owner(log=honest_log(MANIFEST, served=2)), found)
    return found


def sent(kind: Artefact, offset: int = 0, length: int | None = None) -> Served:
    """What is logged where an artefact of release 3 goes to this study: all of it, or from a byte as many."""
    digest = Digest.of(MANIFEST.to_bytes()) if kind is Artefact.MANIFEST else MANIFEST.artefacts[kind]
    length = digest.length - offset if length is None else length
    change = {"artefact": kind, "sha256": digest.sha256, "offset": offset, "length": length}
    return SERVED.model_copy(update={**change, "nonce": f"{offset:08x}" * 4})


def said_of(study: Study, file: LedgerFile) -> tuple[dict[str, object], str]:
    """What `verify --ledger` says, as values and as text on one line."""
    path = study.folder.parent / "ledger.json"
    path.write_bytes(file.to_bytes())
    arguments = ["verify", str(study.folder), "--ledger", str(path)]
    as_json, as_text = (CliRunner().invoke(consumer.cli.app, [*arguments, *json_]) for json_ in (["--json"], []))
    assert as_json.exit_code == as_text.exit_code == 0, as_text.output
    return json.loads(as_json.stdout)["result"]["ledger"], as_text.stdout


def test_a_ledger_that_denies_the_release_a_study_holds_is_true_and_says_who_denied_it_and_why(study: Study) -> None:
    log = honest_log(MANIFEST, served=2)
    values, text = said_of(study, exported(log))
    assert (values["denial"], values["bytes_served"]) == (None, 14)
    assert "DENIED" not in text
    assert "14 bytes of release 3 are logged as sent to this study" in text
    again = DENIAL.model_copy(update={"by": "Eve", "reason": "also"})
    values, text = said_of(study, exported([*log, DENIAL, again]))
    assert values["denial"] == DENIAL.model_dump(mode="json")
    assert "DENIED since: release 3, by Ada: recalled" in text


def test_every_time_in_a_log_that_is_verified_can_be_shown() -> None:
    def shown(entries: list[Entry], at: int) -> str:
        file = exported(entries)
        seen = countersigned(file.checkpoint, PARTY, at)
        file = LedgerFile.from_bytes(file.model_copy(update={"countersigned": (seen,)}).to_bytes())
        return ledger_report(verify_ledger(file, Owner().first_root())).to_html()

    last, log = LIMITS.last_second, honest_log(MANIFEST)
    late = DENIAL.model_copy(update={"at": last})
    assert shown([*log, late], last).count("9999-12-31 23:59:59") == 2
    for at in (last + 1, 2**63, 2**64 - 1):
        with pytest.raises(VerificationFailure, match="a time that no clock shows"):
            shown(log, at)
    with pytest.raises(VerificationFailure, match="at: Input should be less than or equal to 253402300799"):
        shown([*log, late.model_copy(update={"at": last + 1})], last)


@pytest.mark.parametrize("entry", [APPROVAL, DENIAL, OVERRIDE, LET_IN, GONE], ids=lambda entry: entry.kind)
def test_an_entry_in_whose_words_a_line_ends_is_in_no_log(entry: Entry) -> None:
    for name in {"by", "name", "reason"} & set(type(entry).model_fields):
        for forged in ("Ada\nNOT DENIED", "Ada\u2028NOT DENIED", "Ada\u202e"):
            data = entry.model_copy(update={name: forged}).to_bytes()
            with pytest.raises(VerificationFailure, match=f"{name}: must be one line"):
                parse_entry(data)


def test_a_ledger_that_approves_another_release_under_the_version_a_study_holds_is_refused() -> None:
    log = honest_log(MANIFEST)
    seen = LastSeen(
        roots=(signed_root(Owner().first_root()),),
        release=3,
        manifest_sha256=MANIFEST.digest,
        checkpoint=exported(log).checkpoint,
    )
    verify_ledger(exported(log), Owner().first_root(), seen)
    with pytest.raises(Equivocation, match="does not approve release 3 as it was fetched"):
        verify_ledger(exported([*log, OTHER]), Owner().first_root(), seen)
    with pytest.raises(Equivocation, match="does not approve release 2 as it was fetched"):
        verify_ledger(exported(log), Owner().first_root(), seen.model_copy(update={"release": 2}))


@pytest.mark.parametrize("left_out", Artefact)
def test_a_ledger_without_one_artefact_that_a_study_holds_is_said_to_leave_it_out(
    left_out: Artefact, study: Study
) -> None:
    log = [*honest_log(MANIFEST, served=2), *map(sent, Artefact)]
    values, text = said_of(study, exported(log))
    assert values["unlogged"] == []
    assert "NOT LOGGED" not in text
    log = [*honest_log(MANIFEST, served=2), *(sent(kind) for kind in Artefact if kind is not left_out)]
    values, text = said_of(study, exported(log))
    assert values["unlogged"] == [left_out]
    assert f"NOT LOGGED, or not whole, as sent to this study's key: {left_out}. If" in text


def test_of_another_key_and_of_another_release_nothing_counts_as_sent_to_a_study(study: Study) -> None:
    study.certificate.write_bytes(certificate(identity.new_key()))
    other = study.party()
    log = [*honest_log(MANIFEST, served=2), *map(sent, Artefact), LET_IN.model_copy(update={"party": other})]
    older = SERVED.model_copy(update={"party": other, "version": 2, "nonce": "88" * 16})
    log += [APPROVAL.model_copy(update={"version": 2, "nonce": "99" * 16}), older]
    values, _ = said_of(study, exported(log))
    assert (values["bytes_served"], values["unlogged"]) == (0, list(Artefact))


@pytest.mark.parametrize(
    ("parts", "is_whole"),
    [
        ([(0, None), (20, None)], True),
        ([(20, None), (0, 20)], True),
        ([(0, 30)], False),
        ([(0, 10), (20, None)], False),
        ([(20, None)], False),
    ],
    ids=["resumed", "in two parts", "to a part", "with a gap", "from a part"],
)
def test_an_artefact_is_logged_where_its_parts_make_all_of_it(
    parts: list[tuple[int, int | None]], is_whole: bool
) -> None:
    log = [*honest_log(MANIFEST), *(sent(Artefact.CARD, *part) for part in parts)]
    found = verify_ledger(exported(log), Owner().first_root())
    auditor = TrustedRelease(MANIFEST, {Artefact.CARD: Owner().artefacts[Artefact.CARD]})
    expected = (Artefact.MANIFEST,) if is_whole else (Artefact.MANIFEST, Artefact.CARD)
    assert found.unlogged(auditor, PARTY) == expected


def test_a_rewritten_log_does_not_continue_what_was_seen() -> None:
    checkpoint = exported(honest_log(MANIFEST, served=4)).checkpoint
    root = signed_root(Owner().first_root())
    seen = LastSeen(roots=(root,), checkpoint=checkpoint)
    rewritten = honest_log(MANIFEST, served=6)
    rewritten[1] = rewritten[1].model_copy(update={"at": NOW - 81})
    with pytest.raises(Rewritten, match="does not continue"):
        verify_ledger(exported(rewritten), Owner().first_root(), seen)
    verify_ledger(exported(honest_log(MANIFEST, served=6)), Owner().first_root(), seen)


def test_a_file_exported_before_what_was_seen_is_refused_with_the_advice_to_ask_for_a_new_one() -> None:
    root = signed_root(Owner().first_root())
    checkpoint = exported(honest_log(MANIFEST, served=4)).checkpoint
    seen = LastSeen(roots=(root,), checkpoint=checkpoint)
    with pytest.raises(Rollback, match="ask the owner for a new export"):
        verify_ledger(exported(honest_log(MANIFEST, served=3)), Owner().first_root(), seen)


def test_the_report_adds_up_bytes_by_party_day_and_kind_and_by_record() -> None:
    found = verify_ledger(exported(honest_log(MANIFEST, served=3)), Owner().first_root())
    report = ledger_report(found)
    assert report.sections[0].tables[0].rows == ((PARTY, "analyst", "2027-01-15", "card", 21),)
    assert report.sections[1].tables[0].rows == ((3, 600, 7, 0.01, 21),)
    assert "21" in report.to_html()
    assert "`" not in report.to_html()
    unrecorded = replace(found, standing=Standing())
    assert ledger_report(unrecorded).sections[1].tables[0].rows == ()


def whole(ledger: VerifiedLedger) -> Verdict:
    return next(each for each in ledger_report(ledger).verdicts if each.title == "Whether the log is whole")


def test_a_log_that_its_owner_signed_anew_without_its_transfers_is_not_called_whole() -> None:
    root, log = Owner().first_root(), honest_log(MANIFEST, served=3)
    sent_nothing = exported([entry for entry in log if not isinstance(entry, Served)])
    said = whole(verify_ledger(sent_nothing, root))
    assert (said.level, said.value) == ("caution", "not shown")
    assert "not held to what an analyst saw" in said.text
    assert "--seen" in said.text
    seen = LastSeen(roots=(signed_root(root),), checkpoint=exported(log).checkpoint)
    with pytest.raises(Rollback):
        verify_ledger(sent_nothing, root, seen)


def test_a_log_that_was_held_to_what_an_analyst_saw_is_called_whole_as_far_as_that_goes() -> None:
    root, log = Owner().first_root(), honest_log(MANIFEST, served=3)
    seen = LastSeen(roots=(signed_root(root),), checkpoint=exported(log[:-1]).checkpoint)
    said = whole(verify_ledger(exported(log), root, seen))
    assert (said.level, said.value) == ("neutral", f"{len(log) - 1} of {len(log)} entries")
    assert "approves release" not in said.text
    seen = seen.model_copy(update={"release": 3, "manifest_sha256": MANIFEST.digest})
    assert "It approves release 3 as they fetched it." in whole(verify_ledger(exported(log), root, seen)).text
    seen = LastSeen(roots=(signed_root(root),), checkpoint=exported(log).checkpoint)
    assert whole(verify_ledger(exported(log), root, seen)).level == "good"


def test_the_page_about_a_log_names_the_hospital() -> None:
    report = ledger_report(verify_ledger(exported(honest_log(MANIFEST)), Owner().first_root()))
    assert report.title == "What left hospital"
    assert f"tree hash {Tree(entry.to_bytes() for entry in honest_log(MANIFEST)).root().hex()}" in report.subtitle


def test_different_bytes_are_those_that_left_once_whoever_fetched_them_and_however_often() -> None:
    ben = "ef" * 32
    parts = [sent(Artefact.CARD, *part) for part in ((0, 7), (5, 5), (20, 1), (20, 1), (0, 10))]
    to_ben = [sent(Artefact.CARD, 9, 3).model_copy(update={"party": ben}), sent(Artefact.SCHEMA, 35, 1)]
    log = [*honest_log(MANIFEST), LET_IN.model_copy(update={"party": ben}), *parts, *to_ben]
    found = verify_ledger(exported(log), Owner().first_root())
    assert found.different_bytes(3) == 12 + 1 + 1, "of the card 0 to 12 and 20, of the schema the last"
    assert ledger_report(found).sections[1].tables[0].rows == ((3, 600, 14, 0.02, 28),)
    assert found.different_bytes(2) == 0


def bad_news(*entries: Entry) -> list[str]:
    found = verify_ledger(exported([*honest_log(MANIFEST), *entries]), Owner().first_root())
    return [f"{each.title}: {each.text}" for each in ledger_report(found).verdicts if each.level == "bad"]


def test_the_report_says_first_who_recalled_what_had_been_approved() -> None:
    assert bad_news() == [], "a release that was denied and never approved did not leave"
    assert bad_news(DENIAL) == ["Denied since: release 3, by Ada: recalled. Who fetched it has it still."]
    found = verify_ledger(exported([*honest_log(MANIFEST), DENIAL]), Owner().first_root())
    assert ("Releases denied", "2") in ledger_report(found).facts


def test_the_report_says_first_who_overrode_what_attacks_found_on_a_release_that_left() -> None:
    log = [*honest_log(MANIFEST)]
    by_ada, by_ben = OVERRIDE, OVERRIDE.model_copy(update={"by": "Ben"})
    assert bad_news(by_ada, by_ada.model_copy(update={"by": " ADA"}), log[2]) == []
    assert bad_news(by_ada, by_ben.model_copy(update={"version": 4}), log[2]) == []
    assert bad_news(by_ada, by_ben, log[2]) == [
        "Attacks overridden: release 3, by Ada, Ben. Its card says whether it was approved over what attacks found."
    ]


def test_the_commands_export_verify_and_report_without_a_network(tmp_path: Path) -> None:
    node = make_node(tmp_path / "node")
    owner_writes(
        node, {role: roots.signing_key(node, role) for role in (KeyRole.RELEASE, KeyRole.LOG)}, lambda text: None
    )
    authority.write_invitation(node, "localhost:1", "localhost:2")
    file, page = tmp_path / "ledger.json", tmp_path / "ledger.html"

    def run(*arguments: object, code: int = 0) -> dict[str, object]:
        done = CliRunner().invoke(app, ["ledger", *map(str, arguments), "--json"])
        assert done.exit_code == code, done.output
        envelope: dict[str, object] = json.loads(done.stdout)
        return envelope

    run("export", node.folder, "--out", file)
    earlier, later = tmp_path / "earlier.json", tmp_path / "later.json"
    for seen in (earlier, later):
        shown = ledger_export.export(node)
        seen.write_bytes(LastSeen(roots=shown.roots, checkpoint=shown.checkpoint).to_bytes())
        with Ledger(node.ledger) as log:
            log.append(new_entry(Denial, at=NOW, by="Ada", version=9, reason="recalled"))
    invitation = tmp_path / "invitation.json"
    node.invitation.rename(invitation)
    shutil.rmtree(node.folder)  # from here on there are only public keys
    said = run("verify", file, "--invitation", invitation)["result"]
    assert isinstance(said, dict)
    assert said["denials"][0]["by"] == "Ada"
    assert said["seen"] is None
    said = run("verify", file, "--invitation", invitation, "--seen", earlier)["result"]
    assert isinstance(said, dict)
    assert said["seen"] == {"file": str(earlier), "entries": said["entries"]}
    words = ["ledger", "verify", str(file), "--invitation", str(invitation)]
    alone, held = (CliRunner().invoke(app, [*words, *seen]).stdout for seen in ([], ["--seen", str(earlier)]))
    assert f"It continues what {earlier} has seen, {said['entries']} entries." in " ".join(held.split())
    assert "has seen" not in alone
    assert "whether entries were left out" in " ".join(alone.split())
    for command in ("verify", "report"):
        assert "exported before what was seen" in str(
            run(command, file, "--invitation", invitation, "--seen", later, code=1)["error"]
        )
    assert not page.exists()
    later.write_bytes(b"{}")
    assert "is damaged" in str(run("verify", file, "--invitation", invitation, "--seen", later, code=2)["error"])
    run("report", file, "--invitation", invitation, "--out", page)
    assert "not held to what an analyst saw" in page.read_text()
    reported = run("report", file, "--invitation", invitation, "--seen", earlier, "--out", page)["result"]
    assert isinstance(reported, dict)
    assert reported["seen"] == said["seen"]
    assert ("bad", "Denied since") in {(each["level"], each["title"]) for each in reported["verdicts"]}
    assert "not held to what an analyst saw" not in page.read_text()
    assert "108,000" in page.read_text()  # four artefacts, each its name four thousand times
    assert json.loads(page.with_suffix(".figures.json").read_text())["title"] == "What left hospital"
    file.write_bytes(file.read_bytes().replace(b"Ada", b"Eve"))
    for command in ("verify", "report"):
        assert run(command, file, "--invitation", invitation, code=1)["exit_code"] == 1


def test_what_the_ledger_commands_write_replaces_nothing_but_what_they_wrote(node: Node, tmp_path: Path) -> None:
    authority.write_invitation(node, "localhost:1", "localhost:2")
    file, page = tmp_path / "ledger.json", tmp_path / "ledger.html"
    other = tmp_path / "other.figures.json"
    export, report = ["export", node.folder], ["report", file, "--invitation", node.invitation]

    def run(words: list[object], out: object) -> str:
        done = CliRunner().invoke(app, ["ledger", *map(str, words), "--out", str(out), "--json"])
        assert done.exit_code in (0, 2), done.output
        return json.loads(done.stdout).get("error", {}).get("problem", "")  # type: ignore[no-any-return]

    for _ in range(2):  # every night to the same name
        assert run(export, file) == run(report, page) == ""
    for written, title in ((page, "<title>"), (page.with_suffix(".figures.json"), '"title": "')):
        text = written.read_text()
        assert f"{title}What left hospital" in text
        written.write_text(text.replace(f"{title}What left hospital", f"{title}What left"))  # as before it named one
    assert run(report, page) == ""
    other.write_text("mine")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for words, kept in ((report, file), (export, page), (export, other), (report, other.with_name("other.html"))):
        assert run(words, kept) == "it is there already"
    for place in (node.ledger, node.folder / "new.json", node.keys / "new.json"):
        assert run(export, place) == run(report, place) == "it is inside a node"
    for nameless in ("", ".", "/"):
        assert run(export, nameless) == run(report, nameless) == "not the name of a file"
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_reports_of_a_ledger_keep_their_figures_apart_whatever_dots_are_in_their_names(
    node: Node, tmp_path: Path
) -> None:
    authority.write_invitation(node, "localhost:1", "localhost:2")
    file = tmp_path / "ledger.json"
    file.write_bytes(ledger_export.export(node).to_bytes())
    words = ["ledger", "report", str(file), "--invitation", str(node.invitation), "--json", "--out"]
    for name, figures in (
        ("left.2024-01", "left.2024-01.figures.json"),
        ("left.2024-02", "left.2024-02.figures.json"),
        ("left.2024-02.html", "left.2024-02.figures.json"),
        ("left", "left.figures.json"),
    ):
        told = json.loads(CliRunner().invoke(app, [*words, str(tmp_path / name)]).stdout)["result"]
        assert told["figures"] == str(tmp_path / figures)
        assert Path(told["figures"]).is_file()


# over a real socket


def test_every_byte_served_in_a_session_is_in_the_log_to_the_byte(running: Running, tmp_path: Path) -> None:
    study = Study(tmp_path / "study")
    enrolled = consumer.enrol(study.folder, invitation=running.node.invitation)
    authority.decide(running.node, enrolled.fingerprint, authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC))
    consumer.enrol(study.folder)
    for _ in range(2):
        consumer.fetch(study.folder)
    files = ledger_export.export(running.node)
    found = verify_ledger(files, study.invitation().trusted_root())
    logged = [entry for entry in found.entries if isinstance(entry, Served)]
    by_kind = {kind: sum(each.length for each in logged if each.artefact is kind) for kind in Artefact}
    place = study.release(1)
    assert by_kind == {kind: 2 * (place / kind.filename).stat().st_size for kind in Artefact}
    assert {entry.party for entry in logged} == {enrolled.fingerprint}
    assert found.countersigned[0][0] == enrolled.fingerprint
    exported_to = tmp_path / "ledger.json"
    exported_to.write_bytes(files.to_bytes())
    running.stop()
    assert consumer.verify(study.folder).approval.by == "Dr. Test"
    held = consumer.verify_ledger(study.folder, exported_to)
    assert held.checkpoint.size == len(files.entries)
    assert held.unlogged(consumer.verify(study.folder).release, enrolled.fingerprint) == ()
    ledger_export.verified(exported_to, running.node.invitation, study.last_seen_file)
    with Ledger(running.node.ledger) as log:
        log.append(new_entry(Denial, at=now(), by="Ada", version=1, reason="recalled"))
    seen = study.last_seen()
    longer = ledger_export.export(running.node).model_copy(update={"countersigned": ()})
    study.remember(seen.model_copy(update={"checkpoint": longer.checkpoint}))
    with pytest.raises(VerificationFailure, match="exported before"):
        consumer.verify_ledger(study.folder, exported_to)
    with pytest.raises(VerificationFailure, match="exported before"):
        ledger_export.verified(exported_to, running.node.invitation, study.last_seen_file)
    unseen = tmp_path / "unseen.json"
    unseen.write_bytes(study.last_seen().model_copy(update={"checkpoint": ""}).to_bytes())
    with pytest.raises(BadInput, match="has seen no checkpoint"):
        ledger_export.verified(exported_to, running.node.invitation, unseen)


def test_a_denial_that_was_stopped_before_it_was_logged_is_completed_by_denying_again(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(log: Ledger, entry: Entry) -> int:
        raise KeyboardInterrupt

    append = Ledger.append
    monkeypatch.setattr(Ledger, "append", stopped)
    with pytest.raises(KeyboardInterrupt):
        release.deny(node, 1, by="Ada", reason="recalled", now=NOW)
    monkeypatch.setattr(Ledger, "append", append)
    assert servable.manifests(node, now()) == {}
    release.deny(node, 1, by="Ada", reason="recalled", now=NOW)
    with Ledger(node.ledger) as log:
        assert log.is_denied(1)
