"""A node whose disk lost what was in a file, or whose clock was ahead: what is sound is served, all else is named."""

import logging
import threading
from pathlib import Path

import pytest

from data_owner import decisions, release, roots, servable
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.preconditions import check_bounded
from data_owner.privacy.accounting import Query
from data_owner.privacy.budget import Budget
from data_owner.release_status import State
from data_owner.serving import server
from data_owner.serving.trust_metadata import TrustMetadata
from data_owner.settings import PrivacySettings
from protocol.artefacts import PAYLOAD, SIGNATURES, Artefact
from protocol.freshness import Freshness
from protocol.root import KeyRole
from shared.clock import now
from shared.diagnosis import Diagnosis
from shared.errors import Fair4FreeError, PolicyRefusal, Unreachable
from shared.limits import LIMITS
from tests.test_decisions import another, attacked, denials, said
from tests.test_doctor import found_at
from tests.test_root import rotate

YEAR = 365 * 86_400
FILES = [SIGNATURES, *(kind.filename for kind in PAYLOAD)]


def approved(node: Node, made: dict[Artefact, bytes]) -> int:
    another(node, made)
    return decisions.approve(node.folder, by="Ada").version


def other(node: Node) -> dict[Artefact, bytes]:
    """Other bytes than those of the first release."""
    return {**release.trained_artefacts(node, 1), Artefact.DECODER: b"d"}


def empty(node: Node, version: int, name: str) -> Path:
    path = node.release(version) / name
    path.write_bytes(b"")
    return path


def listed(node: Node) -> list[int]:
    with Ledger(node.ledger) as log:
        document, _ = TrustMetadata(node, log).freshness(now())
    return [each.version for each in Freshness.from_bytes(document).releases]


def of_releases(node: Node) -> Diagnosis:
    return found_at(node, "releases")


def served(node: Node) -> None:
    """Starts, and stops once it is ready."""
    ended = threading.Event()
    server.serve(node, "127.0.0.1:0", "127.0.0.1:0", ready=lambda listening: ended.set(), stopping=ended)


@pytest.mark.parametrize("name", [*FILES, Artefact.MANIFEST.filename, release.STATE])
def test_a_release_of_which_a_file_is_lost_is_not_ready_and_doctor_and_serve_name_it(node: Node, name: str) -> None:
    empty(node, 1, name)
    with pytest.raises(Fair4FreeError) as refused:
        served(node)
    with pytest.raises(type(refused.value)):  # what /readyz asks
        server._check_servable(node)
    found = of_releases(node)
    assert not found.passed
    for told in (found.text, str(refused.value)):
        assert str(node.release(1)) in told
        assert told.endswith("restore it from its backup, or `fair4free-owner deny --version 1`")
        assert "fetch again" not in told


@pytest.mark.parametrize("name", [*FILES, Artefact.MANIFEST.filename, release.STATE])
def test_a_damaged_release_keeps_no_other_from_being_served(
    node: Node, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    version = approved(node, other(node))
    empty(node, version, name)
    with caplog.at_level(logging.ERROR):
        served(node)
    (record,) = (each for each in caplog.records if each.getMessage() == "a release cannot be fetched")
    assert str(node.release(version)) in vars(record)["problem"]
    assert listed(node) == ([1, version] if name in FILES else [1])
    assert not of_releases(node).passed
    said(node, "--version", str(version))
    assert of_releases(node).passed


def test_a_recall_and_an_approval_do_not_depend_on_the_state_of_another_release(node: Node) -> None:
    lost = approved(node, other(node))
    empty(node, lost, release.STATE)
    newer = approved(node, other(node) | {Artefact.DECODER: b"e"})
    assert listed(node) == [1, newer]
    said(node, "--version", "1")
    assert listed(node) == [newer]


def test_a_release_whose_state_is_lost_is_written_off_by_the_log_and_its_bytes_stay_denied(node: Node) -> None:
    state = empty(node, 1, release.STATE)
    assert "restore it from its backup, or `fair4free-owner deny --version 1`" in of_releases(node).text
    said(node, "--version", "1")
    assert denials(node) == [(1, "Ada", "recalled")]
    assert state.read_bytes() == b""
    assert of_releases(node).text.startswith("1 denied; nothing to serve")
    with pytest.raises(PolicyRefusal, match="denied cannot become denied"):
        decisions.deny(node.folder, by="Ada", reason="recalled", version=1)
    another(node, release.trained_artefacts(node, 1))
    with pytest.raises(PolicyRefusal, match="release 1, which was denied"):
        decisions.approve(node.folder, by="Ada")


def test_a_denial_covers_the_same_bytes_where_their_state_is_lost(node: Node) -> None:
    again = approved(node, release.trained_artefacts(node, 1))
    empty(node, 1, release.STATE)
    assert "and with it 1, which is the same byte for byte" in said(node, "--version", str(again))
    assert denials(node) == [(1, "Ada", "recalled"), (again, "Ada", "recalled")]


def test_releases_of_which_nothing_is_left_are_not_taken_for_the_same(node: Node) -> None:
    lost = approved(node, other(node))
    for version in (1, lost):
        empty(node, version, release.STATE)
        (node.release(version) / Artefact.DECODER.filename).unlink()
    assert decisions.deny(node.folder, by="Ada", reason="lost", version=1).same == ()


def test_an_older_copy_of_a_state_does_not_bring_back_what_was_denied(node: Node) -> None:
    state = node.release(1) / release.STATE
    before = state.read_bytes()
    said(node, "--version", "1")
    state.write_bytes(before)
    assert listed(node) == []
    with pytest.raises(PolicyRefusal, match="its state is an older copy"):
        server._check_servable(node)
    another(node, release.trained_artefacts(node, 1))
    with pytest.raises(PolicyRefusal, match="release 1, which was denied"):
        decisions.approve(node.folder, by="Ada")
    assert of_releases(node).text.endswith("denied. Remedy: run `fair4free-owner deny --version 1`")
    said(node, "--version", "1")
    assert release.status(node, 1).state is State.DENIED


@pytest.mark.parametrize("restored", [True, False])
def test_no_damage_and_no_backup_bring_back_the_bytes_of_a_denied_release(node: Node, restored: bool) -> None:
    made = release.trained_artefacts(node, 1)
    kept = (node.release(1) / release.STATE).read_bytes()
    for name in (release.STATE, Artefact.DECODER.filename):
        empty(node, 1, name)
    said(node, "--version", "1")
    if restored:
        (node.release(1) / release.STATE).write_bytes(kept)
    another(node, made)
    with pytest.raises(PolicyRefusal, match="release 1, which was denied"):
        decisions.approve(node.folder, by="Ada")
    assert listed(node) == []


def test_an_older_copy_of_the_state_of_a_draft_that_was_denied_is_named_and_not_approved(node: Node) -> None:
    version = another(node, other(node))
    state = node.release(version) / release.STATE
    before = state.read_bytes()
    said(node, "--version", str(version))
    state.write_bytes(before)
    assert f"`fair4free-owner deny --version {version}`" in of_releases(node).text
    with pytest.raises(PolicyRefusal, match="the release was denied"):
        decisions.approve(node.folder, by="Ada")
    assert not (node.release(version) / Artefact.MANIFEST.filename).exists()


def test_a_page_that_cannot_say_what_was_decided_does_not_say_otherwise(node: Node) -> None:
    version = attacked(node)
    decisions.write_privacy_report(node.folder)
    empty(node, version, release.STATE)
    said(node, "--version", str(version))
    assert not node.privacy_report.exists()
    assert not node.privacy_figures.exists()


def test_a_lost_state_does_not_hide_whether_a_privacy_budget_bounds_a_release(node: Node) -> None:
    Budget(node.budget).charge([Query(what="all", noise_multiplier=9.0)], PrivacySettings(epsilon=2.0), "key", now())
    state = empty(node, 1, release.STATE)
    said(node, "--version", "1")
    with pytest.raises(Unreachable, match="nothing says whether a privacy budget bounds it") as refused:
        check_bounded(node, read_settings(node))
    assert refused.value.field == str(state)
    assert "deny" not in refused.value.remedy


def test_a_rotation_signs_a_release_whose_state_is_lost_and_no_bytes_that_are_damaged(node: Node) -> None:
    for name in (SIGNATURES, Artefact.MANIFEST.filename, release.STATE):
        path = node.release(1) / name
        kept = path.read_bytes()
        empty(node, 1, name)
        if name != release.STATE:
            with pytest.raises(Unreachable, match="damaged") as refused:
                rotate(node, KeyRole.RELEASE)
            assert refused.value.field == str(path)
        else:
            rotate(node, KeyRole.RELEASE)
        path.write_bytes(kept)
    servable.load(node, 1, now(), roots.newest(node))


def test_a_release_from_a_clock_that_was_ahead_is_neither_listed_nor_ready_and_the_next_replaces_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(decisions, "now", lambda: now() + YEAR)
        ahead = approved(node, other(node))
    assert listed(node) == [1]
    served(node)
    said(node, "--version", "1")
    with pytest.raises(PolicyRefusal, match="approved while the clock was ahead: no consumer accepts it") as refused:
        served(node)
    assert refused.value.field == f"release {ahead}"
    assert "run train, gate, approve, and leave this one undenied" in refused.value.remedy
    with pytest.raises(PolicyRefusal, match="clock was ahead"):
        server._check_servable(node)
    found = of_releases(node)
    assert not found.passed
    assert str(refused.value) in found.text
    replaced = approved(node, other(node))
    assert listed(node) == [replaced]
    assert of_releases(node).passed
    served(node)


def test_a_release_is_listed_from_the_moment_at_which_consumers_accept_it(node: Node) -> None:
    created = servable.read_manifest(node, 1).created
    assert list(servable.manifests(node, created - LIMITS.clock_skew_seconds)) == [1]
    assert servable.manifests(node, created - LIMITS.clock_skew_seconds - 1) == {}
