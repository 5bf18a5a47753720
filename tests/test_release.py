"""The life of a release: no way to serving around measuring and a named person."""

import dataclasses
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from data_owner import attack_steps, decisions, digests, preconditions, release, roots, servable, steps
from data_owner.cli import app
from data_owner.learning import fitting
from data_owner.learning.fitting import Prepared
from data_owner.learning.training import Trained
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.records.records_file import RecordsFile
from data_owner.release_status import SERVABLE, State, Status, step
from data_owner.serving.trust_metadata import TrustMetadata
from data_owner.settings import OwnerSettings, TrainingSettings
from protocol.artefacts import SIGNATURES, TRAINED, Artefact
from protocol.freshness import Freshness
from protocol.manifest import Manifest
from protocol.root import KeyRole
from shared import folder
from shared.clock import now
from shared.errors import BadInput, PolicyRefusal, Unreachable, VerificationFailure
from shared.schema import NumericColumn
from shared.table import read_table
from tests.conftest import QUICK, patients, record_measured, short_training, write_draft


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(State), st.booleans(), st.booleans(), st.integers(0, 3)), max_size=12))
def test_no_path_leads_on_from_denied_or_to_serving_without_a_clean_gate_and_a_named_person(
    events: list[tuple[State, bool, bool, int]],
) -> None:
    status = Status(state=State.DRAFT, at=0)
    clean = named = safe = False
    for to, is_named, is_clean, people in events:
        before = status.state
        try:
            status = step(
                status,
                to,
                at=1,
                by="Ada" if is_named else " ",
                reason="because",
                failures=() if is_clean else ("density is low",),
                overridden_by=["Ada", "Ben", "Cy"][:people],
            )
            if to is State.MEASURED and people == 1:  # an attack succeeded
                status = status.model_copy(update={"exceeded": ("reconstruction",)})
        except (BadInput, PolicyRefusal):
            continue
        assert before is not State.DENIED
        clean = is_clean if to is State.MEASURED else clean
        named = is_named if to is State.APPROVED else named
        safe = not status.exceeded or people >= 2 if to is State.APPROVED else safe
        if status.state in SERVABLE:
            assert clean
            assert named
            assert safe


def test_a_refused_release_cannot_be_approved_and_the_reason_is_said() -> None:
    status = Status(state=State.MEASURED, at=0, failures=("coverage is 0.40, the policy asks for 0.70",))
    with pytest.raises(PolicyRefusal, match=r"coverage is 0\.40"):
        step(status, State.APPROVED, at=1, by="Ada")


def test_what_blocks_a_release_is_not_called_a_success_of_an_attack() -> None:
    """A policy may refuse what could not be told, too."""
    unsure = "membership: not shown to be within the limit"
    status = Status(state=State.MEASURED, at=0, exceeded=(unsure,))
    with pytest.raises(PolicyRefusal, match=f"attacks block this release: {unsure}") as caught:
        step(status, State.APPROVED, at=1, by="Ada")
    assert "succe" not in str(caught.value)


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("approve", "--by", " "), "--by"),
        (("override", "--by", " ", "--reason", "urgent"), "--by"),
        (("override", "--by", "Ada", "--reason", " "), "--reason"),
        (("deny", "--version", "2", "--by", " ", "--reason", "recalled"), "--by"),
        (("deny", "--version", "2", "--by", "Ada", "--reason", " "), "--reason"),
        (("approve", "--by", "Ada\nrelease 2 is verified"), "--by"),
        (("override", "--by", "Ada\u202e", "--reason", "urgent"), "--by"),
        (("override", "--by", "Ada", "--reason", "urgent\x1b[2J"), "--reason"),
        (("deny", "--version", "2", "--by", "Ada", "--reason", "recalled\nDENIED since: release 1"), "--reason"),
    ],
)
def test_a_decision_by_nobody_or_for_no_reason_or_that_forges_a_line_is_bad_usage_and_changes_nothing(
    node: Node, words: tuple[str, ...], option: str
) -> None:
    version = write_draft(node, dict.fromkeys(TRAINED, b"d"))
    before = record_measured(node, version, b"{}", exceeded=("reconstruction",))
    done = CliRunner().invoke(app, [words[0], str(node.folder), *words[1:], "--json"])
    assert (done.exit_code, json.loads(done.stdout)["error"]["field"]) == (2, option)
    assert release.status(node, version) == before


def test_a_draft_cannot_be_approved_and_the_remedy_names_the_gate(node: Node) -> None:
    draft = {Artefact.DECODER: b"d", Artefact.STATISTICS: b"s", Artefact.SCHEMA: b"{}"}
    write_draft(node, draft)
    with pytest.raises(PolicyRefusal) as caught:
        decisions.approve(node.folder, by="Ada")
    assert "gate" in caught.value.remedy


def test_a_changed_policy_needs_a_new_gate(node: Node) -> None:
    draft = {Artefact.DECODER: b"d", Artefact.STATISTICS: b"s", Artefact.SCHEMA: b"{}"}
    write_draft(node, draft)
    record_measured(node, 2, b"{}")
    node.settings.write_text(node.settings.read_text().replace("density_of_real = 0.6", "density_of_real = 0.9"))
    with pytest.raises(PolicyRefusal, match="policy changed"):
        decisions.approve(node.folder, by="Ada")


def test_a_release_that_nothing_says_was_attacked_is_not_approved(node: Node) -> None:
    settings = read_settings(node)
    draft = release.trained_artefacts(node, 1)
    version = write_draft(node, draft)
    card = folder.read(node.release(1) / Artefact.CARD.filename, "")
    policy = digests.policy_id(settings)
    limits = settings.policy.attacks
    release.record_measured(node, version, card, 600, (), policy, now(), exceeded=(), findings="", limits=limits)
    folder.write(node.attacks(version), b"whatever was found", folder.PRIVATE)
    with pytest.raises(PolicyRefusal, match="cut off"):
        decisions.approve(node.folder, by="Ada")
    assert release.status(node, version).state is State.MEASURED


def test_other_records_than_those_trained_on_need_another_training(node: Node) -> None:
    draft = {Artefact.DECODER: b"d", Artefact.STATISTICS: b"s", Artefact.SCHEMA: b"{}"}
    write_draft(node, draft)
    patients(seed=9).to_parquet(node.records)
    with pytest.raises(PolicyRefusal, match="changed since this release was trained"):
        steps.gate(node.folder)


def test_only_approved_releases_in_date_are_servable(node: Node) -> None:
    write_draft(node, dict.fromkeys(TRAINED, b"d"))
    assert list(servable.manifests(node, now())) == [1]
    assert servable.manifests(node, now() + 400 * 86_400) == {}
    release.deny(node, 1, by="Ada", reason="recalled", now=now())
    assert servable.manifests(node, now()) == {}


@pytest.mark.parametrize("kind", Artefact)
def test_a_file_changed_after_approval_is_never_served(node: Node, kind: Artefact) -> None:
    path = node.releases / "1" / kind.filename
    path.write_bytes(path.read_bytes()[:-2] + b"!}")
    with pytest.raises((VerificationFailure, Unreachable)) as refused:
        servable.load(node, 1, now(), roots.newest(node))
    assert refused.value.field.startswith(str(node.release(1)))
    assert refused.value.remedy == release.restore_or_deny(1)


def test_a_manifest_that_nobody_signed_is_never_served(node: Node) -> None:
    path = node.release(1) / Artefact.MANIFEST.filename
    manifest = Manifest.from_bytes(path.read_bytes())
    path.write_bytes(manifest.model_copy(update={"expires": manifest.expires + 86_400}).to_bytes())
    with pytest.raises(VerificationFailure, match="signature"):
        servable.load(node, 1, now(), roots.newest(node))


def test_a_version_that_is_not_servable_is_not_loaded(node: Node) -> None:
    with pytest.raises(BadInput):
        servable.load(node, 9, now(), roots.newest(node))


@pytest.mark.parametrize("is_denied", [True, False])
def test_versions_only_rise_also_when_a_folder_is_gone(node: Node, is_denied: bool) -> None:
    if is_denied:
        release.deny(node, 1, by="Ada", reason="recalled", now=now())
    shutil.rmtree(node.release(1))
    assert write_draft(node, dict.fromkeys(TRAINED, b"d")) == 2


def test_what_was_denied_is_not_let_out_by_training_it_again(node: Node) -> None:
    again = write_draft(node, release.trained_artefacts(node, 1))
    card = folder.read(node.release(1) / Artefact.CARD.filename, "")
    record_measured(node, again, card)
    release.deny(node, 1, by="Ada", reason="recalled", now=now())
    for step_ in (steps.gate, lambda path: decisions.approve(path, by="Ben")):
        with pytest.raises(PolicyRefusal, match="release 1, which was denied") as caught:
            step_(node.folder)
        assert "train again" in caught.value.remedy
    other = write_draft(node, {**release.trained_artefacts(node, 1), Artefact.DECODER: b"d"})
    record_measured(node, other, card)
    assert decisions.approve(node.folder, by="Ben").version == other


def deny(node: Node, *words: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(app, ["deny", str(node.folder), "--by", "Ada", "--reason", "recalled", *words, "--json"])
    envelope = json.loads(done.stdout)
    return done.exit_code, envelope.get("result") or envelope["error"]


def test_a_recall_never_takes_a_newer_draft_for_the_release_that_is_served(node: Node) -> None:
    write_draft(node, dict.fromkeys(TRAINED, b"d"))
    code, error = deny(node)
    assert (code, error["field"], error["remedy"]) == (2, "--version", "name the one to deny: 1, 2")
    assert release.status(node, 2).state is State.DRAFT
    assert deny(node, "--version", "2") == (0, {"version": 2, "state": "denied", "servable": [1], "same": []})
    assert deny(node, "--version", "1") == (0, {"version": 1, "state": "denied", "servable": [], "same": []})


def test_the_newest_release_is_denied_unnamed_where_no_other_is_served(node: Node) -> None:
    done = CliRunner().invoke(app, ["deny", str(node.folder), "--by", "Ada", "--reason", "recalled"])
    assert done.exit_code == 0, done.output
    assert "release 1 denied" in done.output
    assert "served: none" in done.output


def test_a_denial_that_comes_between_is_not_overwritten(node: Node) -> None:
    """Somebody denies while another process is about to mark the release as served."""
    with folder.locked(node.lock):
        serving = threading.Thread(target=release.mark_served, args=(node, 1, now()))
        serving.start()
        serving.join(0.5)
        assert serving.is_alive(), "it waits for its turn"
        denied = step(release.status(node, 1), State.DENIED, at=now(), by="Ada", reason="recalled")
        folder.write(node.releases / "1" / release.STATE, denied.model_dump_json().encode())
    serving.join()
    assert release.status(node, 1).state is State.DENIED
    assert servable.manifests(node, now()) == {}


def test_while_one_trains_another_is_refused_and_changes_nothing(node: Node) -> None:
    held = {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()}
    with folder.locked(node.training_lock), pytest.raises(Unreachable, match="another run"):
        steps.train(node.folder)
    node.training_lock.unlink()
    assert {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()} == held


def test_an_edit_while_it_trains_is_not_taken_for_what_it_was_trained_under(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def edited(prepared: fitting.Prepared, training: TrainingSettings, **how: Any) -> Trained:
        text = node.settings.read_text("utf-8")
        node.settings.write_text(text.replace("minimum_count = 10", "minimum_count = 11"), "utf-8")
        return fitting.fit(prepared, training, QUICK)

    monkeypatch.setattr(steps, "fit", edited)
    steps.train(node.folder)
    with pytest.raises(PolicyRefusal, match="changed since this release was trained"):
        steps.gate(node.folder)


def test_records_swapped_while_they_are_read_need_another_training(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = steps.prepare

    def swapped(node: Node, settings: OwnerSettings, records: RecordsFile) -> fitting.Prepared:
        prepared = prepare(node, settings, records)
        read_table(node.records).iloc[1:].to_parquet(node.records)
        return prepared

    with short_training() as patch:
        patch.setattr(steps, "prepare", swapped)
        steps.train(node.folder)
    with pytest.raises(PolicyRefusal, match="changed since this release was trained"):
        steps.gate(node.folder)


@pytest.mark.parametrize("left", ["encoder", "history"])
def test_what_another_training_left_is_not_measured_as_this_release(node: Node, left: str) -> None:
    """It was cut off before its draft: encoder and history are of the node, and of the same shapes."""
    for path in (node.encoder, node.history):
        folder.write(path, b"of release 2", folder.PRIVATE)
    assert write_draft(node, release.trained_artefacts(node, 1)) == 2
    preconditions.check_teacher(node, 2)
    folder.write(getattr(node, left), b"of another training", folder.PRIVATE)
    with pytest.raises(VerificationFailure, match="encoder and the history are not of this release") as caught:
        steps.gate(node.folder)
    assert caught.value.remedy == "train again"


def test_a_release_that_is_out_is_not_measured_again(node: Node) -> None:
    held = {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()}
    with pytest.raises(PolicyRefusal, match="approved cannot become measured"):
        steps.gate(node.folder)
    assert {path: path.read_bytes() for path in node.folder.rglob("*") if path.is_file()} == held


def test_a_version_is_named_by_its_number_and_not_by_being_falsy(node: Node) -> None:
    with pytest.raises(BadInput, match="no such release"):
        decisions.deny(node.folder, by="Ada", reason="recalled", version=0)
    assert list(servable.manifests(node, now())) == [1]


@pytest.mark.parametrize("words", [("privacy",), ("deny", "--by", "Ada", "--reason", "recalled")])
def test_a_version_that_there_is_not_is_bad_usage_and_the_newest_is_named(node: Node, words: tuple[str, ...]) -> None:
    done = CliRunner().invoke(app, [words[0], str(node.folder), *words[1:], "--version", "99", "--json"])
    error = json.loads(done.stdout)["error"]
    assert (done.exit_code, error["field"]) == (2, "--version")
    assert "the newest is 1" in error["remedy"]


@pytest.mark.parametrize("name", [SIGNATURES, Artefact.MANIFEST.filename, Artefact.CARD.filename])
def test_of_an_approved_release_of_which_a_file_is_gone_the_remedy_is_one_that_works(node: Node, name: str) -> None:
    (node.release(1) / name).unlink()
    with pytest.raises(Unreachable, match="cannot be read") as served:
        servable.load(node, 1, now(), roots.newest(node))
    remedies = [served.value.remedy]
    if name != Artefact.CARD.filename:
        with pytest.raises(Unreachable, match="cannot be read") as signed:
            roots._sign_releases(node, roots.signing_key(node, KeyRole.RELEASE))
        remedies.append(signed.value.remedy)
    assert all("fair4free-owner deny --version 1" in remedy for remedy in remedies)
    assert decisions.deny(node.folder, by="Ada", reason="a file is gone", version=1).version == 1


def test_a_policy_that_changed_after_an_approval_is_put_back_and_not_measured_again(node: Node) -> None:
    node.settings.write_text(node.settings.read_text().replace("density_of_real = 0.6", "density_of_real = 0.9"))
    with pytest.raises(PolicyRefusal, match="policy changed") as caught:
        attack_steps.attack(node.folder)
    assert caught.value.remedy.startswith("put the policy in owner.toml back")


def test_what_is_no_release_among_the_releases_stops_nobody(node: Node) -> None:
    (node.releases / "7").mkdir()
    (node.releases / "8").write_text("note")
    assert list(servable.manifests(node, now())) == [1]


def test_a_damaged_state_is_named_and_not_quoted(node: Node) -> None:
    state = node.releases / "1" / release.STATE
    state.write_text('{"state": "surprise')
    with pytest.raises(Unreachable, match="not the state") as caught:
        release.status(node, 1)
    assert "surprise" not in str(caught.value)


def test_a_node_under_another_name_than_its_roots_approves_nothing(node: Node) -> None:
    node.settings.write_text(node.settings.read_text().replace('name = "hospital"', 'name = "clinic"'))
    with pytest.raises(PolicyRefusal, match="another name"):
        decisions.approve(node.folder, by="Ada")


def test_a_statement_from_a_clock_that_was_ahead_ends_with_the_clock_set_right(node: Node) -> None:
    with Ledger(node.ledger) as log:
        says = TrustMetadata(node, log)
        ahead, _ = says.freshness(now() + 20 * 86_400)
        today, _ = says.freshness(now())
    assert Freshness.from_bytes(ahead).version > now() + 19 * 86_400
    assert abs(Freshness.from_bytes(today).version - now()) < 60


@pytest.mark.parametrize("what", ["file", "link"])
def test_a_node_is_made_in_a_folder(tmp_path: Path, what: str) -> None:
    place = tmp_path / "hospital"
    place.write_text("") if what == "file" else place.symlink_to(tmp_path / "nowhere")
    with pytest.raises(BadInput, match="not a folder"):
        steps.init(place, data=patients(), target="died", sensitive=("région",))


def stop_training(node: Node) -> None:
    """Leaves a checkpoint that is damaged besides."""

    def stop(done: int, total: int, message: str) -> None:
        if node.checkpoint.is_file():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        steps.train(node.folder, progress=stop)
    node.checkpoint.write_bytes(b"PK\x03\x04 cut")


def test_a_damaged_checkpoint_says_how_to_begin_anew(node: Node) -> None:
    with short_training():
        stop_training(node)
        with pytest.raises(BadInput, match="damaged") as caught:
            steps.train(node.folder)
        assert "--restart" in caught.value.remedy
        assert steps.train(node.folder, restart=True) == 2


def test_training_that_another_version_began_begins_anew(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    with short_training():
        stop_training(node)
        monkeypatch.setattr(fitting, "version", lambda package: "0.0.9")
        assert steps.train(node.folder) == 2
        assert release.status(node, 2).teacher_sha256 == digests.teacher_digest(node)


def test_training_on_another_coding_of_the_same_records_begins_anew(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    def coded_otherwise(*given: object) -> Prepared:
        prepared = prepare(*given)  # type: ignore[arg-type]
        columns = tuple(
            each.model_copy(update={"decimals": each.decimals + 1})
            if isinstance(each, NumericColumn) and each.kind == "number"
            else each
            for each in prepared.schema.columns
        )
        assert columns != prepared.schema.columns
        return dataclasses.replace(prepared, schema=prepared.schema.model_copy(update={"columns": columns}))

    prepare = steps.prepare
    with short_training():
        stop_training(node)
        monkeypatch.setattr(steps, "prepare", coded_otherwise)
        assert steps.train(node.folder) == 2


def test_the_remedy_for_a_release_without_its_manifest_can_be_followed(node: Node) -> None:
    (node.releases / "1" / Artefact.MANIFEST.filename).unlink()
    assert servable.manifests(node, now()) == {}
    assert "fair4free-owner deny --version 1" in servable.faults(node, now(), roots.newest(node))[1].remedy
    assert decisions.deny(node.folder, by="Ada", reason="its manifest is lost", version=1).servable == ()
