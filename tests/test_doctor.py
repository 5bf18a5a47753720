"""The doctor holds records to all that `train` would refuse before it trains, and names what ends or runs out."""

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from data_owner import decisions, doctor, release, steps
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.privacy.accounting import Query, affordable
from data_owner.privacy.budget import Budget
from data_owner.release_status import State, Status, next_step, step
from data_owner.settings import PrivacySettings
from protocol.artefacts import Artefact
from shared import keyring
from shared.clock import now
from shared.diagnosis import Diagnosis
from shared.errors import Fair4FreeError
from shared.limits import LIMITS
from tests.conftest import patients, record_measured, write_draft
from tests.test_private_marginals import PUBLIC, people
from tests.test_private_node import COLUMNS, edit, of_records


def test_a_group_that_is_large_enough_but_for_what_is_held_out_is_found(tmp_path: Path) -> None:
    node, table = Node(tmp_path / "hospital"), patients()
    table["région"] = ["west"] * 10 + ["north", "south"] * 295
    steps.init(node.folder, data=table, target="died", sensitive=("région",), positive="1", small_groups="merge")
    assert of_records(node).text == "600 rows, 8 columns"
    edit(node, policy=read_settings(node).policy.model_copy(update={"small_groups": "refuse"}))
    found = of_records(node)
    assert not found.passed
    assert "records to train on" in found.text


def test_before_a_draw_the_doctor_finds_what_would_refuse_it_and_charges_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path / "hospital")
    steps.init(node.folder, data=people()[COLUMNS], target="died", sensitive=("sex",), positive="1", epsilon=1.0)
    assert "must be declared" in of_records(node).text
    columns = {name: entry.model_copy(update=PUBLIC[name]) for name, entry in read_settings(node).columns.items()}
    edit(node, columns=columns)
    assert of_records(node) == Diagnosis("records", True, "2,000 rows, 4 columns")
    assert Budget(node.budget).charges() == []


@pytest.mark.parametrize(
    ("check", "lasts", "warned", "remedy"),
    [
        (doctor._releases, 90, 14, "run train, gate, approve"),
        (doctor._root, LIMITS.root_days, 14, "propose, sign and install the next"),
        (doctor._keys, LIMITS.authority_days, LIMITS.authority_warning_days, "make a new node"),
    ],
)
def test_what_ends_soon_is_found_in_time(
    node: Node, check: Callable[[Node, datetime], str], lasts: int, warned: int, remedy: str
) -> None:
    assert "until" in check(node, datetime.now(UTC) + timedelta(days=lasts - warned - 1))
    with pytest.raises(Fair4FreeError, match=remedy):
        check(node, datetime.now(UTC) + timedelta(days=lasts - warned + 1))


def test_a_release_ends_after_the_days_that_owner_toml_says(node: Node) -> None:
    edit(node, policy=read_settings(node).policy.model_copy(update={"release_days": 10}))
    made = {**release.trained_artefacts(node, 1), Artefact.DECODER: b"another"}
    version = write_draft(node, made)
    record_measured(node, version, (node.releases / "1" / Artefact.CARD.filename).read_bytes())
    manifest = decisions.approve(node.folder, by="Dr. Test")
    assert manifest.expires - manifest.created == 10 * 86_400


def test_a_budget_that_was_lowered_below_what_is_spent_is_found(node: Node) -> None:
    query = Query(what="all of it", noise_multiplier=(0.5 / affordable(2.0, 1e-5)) ** 0.5)
    Budget(node.budget).charge([query], PrivacySettings(epsilon=2.0), "key", now())
    for epsilon in (2.0, 1.0):
        edit(node, privacy=PrivacySettings(epsilon=epsilon))
        found = found_at(node, "privacy")
        assert found.passed is (epsilon == 2.0)
        assert f"of {epsilon:g} is spent in 1 charges" in found.text


def found_at(node: Node, name: str) -> Diagnosis:
    return next(found for found in doctor.diagnose(node) if found.name == name)


def test_of_a_release_that_attacks_block_the_doctor_says_what_lets_it_be_approved(node: Node) -> None:
    decisions.deny(node.folder, by="Ada", reason="recalled")
    version = write_draft(node, release.trained_artefacts(node, 1))
    record_measured(node, version, b"{}", exceeded=("reconstruction",))
    assert "train again, or let 2 people `fair4free-owner override` it (0 did)" in found_at(node, "releases").text
    for person in ("Ada", "Ben"):
        decisions.override(node.folder, by=person, reason="urgent")
    assert found_at(node, "releases").text.endswith("approve or deny it")


def test_of_a_denied_release_the_doctor_asks_for_a_new_one_though_the_gate_had_refused_it() -> None:
    refused = Status(state=State.MEASURED, at=0, failures=("accuracy",))
    assert "change the policy" in next_step(refused)
    denied = step(refused, State.DENIED, at=0, by="Ada", reason="recalled")
    assert next_step(denied) == "train a new release"


def test_nobody_else_gets_into_a_node_whatever_the_umask(tmp_path: Path) -> None:
    node, there = Node(tmp_path / "made" / "hospital"), Node(tmp_path / "there")
    was = os.umask(0)
    try:
        there.folder.mkdir(0o750)
        for each in (node, there):
            steps.init(each.folder, data=patients(), target="died", sensitive=("région",), positive="1")
    finally:
        os.umask(was)
    assert [each.folder.stat().st_mode & 0o777 for each in (node, there)] == [0o700, 0o750]
    assert found_at(node, "private files").passed
    found = found_at(there, "private files")
    assert not found.passed
    assert str(there.roots) in found.text
    there.folder.chmod(0o700)  # as the remedy says
    assert found_at(there, "private files").passed


def test_a_folder_in_which_others_may_write_is_found(node: Node) -> None:
    assert found_at(node, "private files").passed
    node.folder.chmod(0o775)
    found = found_at(node, "private files")
    assert not found.passed
    assert "others can write there" in found.text
    assert f"run chmod 700 on {node.folder}" in found.text


@pytest.mark.parametrize(
    ("mode", "said"),
    [(0o400, ""), (0o440, ""), *((mode, "others can read or change it") for mode in (0o444, 0o602, 0o460))],
)
def test_a_passphrase_that_was_moved_away_is_held_to_be_private_too(
    node: Node, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int, said: str
) -> None:
    moved = tmp_path / "passphrase"
    (node.keys / keyring.BESIDE).rename(moved)
    monkeypatch.setenv(keyring.FILE_VARIABLE, str(moved))
    moved.chmod(mode)
    found = found_at(node, "private files")
    assert found.passed is (said == "")
    assert said in found.text
    assert (f"{moved}: " in found.text and "run chmod 400 on it" in found.text) is (said != "")


@pytest.mark.parametrize(("free", "passed"), [(2**30, True), (2**30 - 1, False)])
def test_a_disk_that_is_almost_full_is_found(
    node: Node, monkeypatch: pytest.MonkeyPatch, free: int, passed: bool
) -> None:
    monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    assert found_at(node, "disk").passed is passed


def test_a_check_bears_one_name_whether_it_passes_or_not(node: Node) -> None:
    sound = doctor.diagnose(node)
    for path in (node.settings, node.budget, node.ledger, *node.roots.iterdir(), *node.keys.iterdir()):
        path.write_bytes(b"damaged")
    damaged = doctor.diagnose(node)
    assert [found.name for found in damaged] == [found.name for found in sound]
    fail_now = {found.name for found, was in zip(damaged, sound, strict=True) if was.passed and not found.passed}
    assert {"records", "policy", "privacy", "keys", "root", "egress log"} <= fail_now
