"""Files that somebody else hands over: none of them makes a command wait or fills the memory."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pytest
from typer.testing import CliRunner

from consumer import receiving_steps
from consumer.enrolment import enrol
from consumer.study import Study
from data_owner import ledger_export
from data_owner.cli import app
from data_owner.node import Node
from data_owner.records.images import read_labelled
from protocol.ledger_file import LedgerFile
from protocol.trust import LastSeen
from shared import folder
from shared.errors import BadInput, Unreachable
from shared.limits import LIMITS
from tests.owner_in_memory import invitation, trusting

GOOD = "invitation.json"


def of_root(*words: str) -> Callable[[Path], None]:
    """The command of a root, with the file in the place of FILE."""

    def run(path: Path) -> None:
        given = [str(path) if word == "FILE" else word for word in words]
        with patch.object(Node, "open"):
            done = CliRunner().invoke(app, ["root", *given, "--json"])
        error = json.loads(done.stdout)["error"]
        raise {"BadInput": BadInput, "Unreachable": Unreachable}[error["kind"]](
            error["problem"], field=error["field"], remedy=error["remedy"]
        )

    return run


READERS: dict[str, Callable[[Path], object]] = {
    "an invitation, to an analyst": lambda path: enrol(Study(path.parent / "study"), path, "Bea"),
    "a ledger, to an analyst": lambda path: receiving_steps.verify_ledger(path.parent / "study", path),
    "an invitation, to an officer": lambda path: ledger_export.verified(path, path, None),
    "a ledger, to an officer": lambda path: ledger_export.verified(path, path.with_name(GOOD), None),
    "last_seen.json, to an officer": lambda path: ledger_export.verified(path, path.with_name(GOOD), path),
    "a root, to who signs": of_root("sign", "FILE", "--key", "key"),
    "a root, to who installs": of_root("install", "node", "FILE"),
    "a public key": of_root("propose", "node", "--out", "next.json", "--key", "FILE"),
}


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / GOOD).write_bytes(invitation(trusting()).to_bytes())
    return tmp_path


def held_open(path: Path) -> int:
    """A pipe there, that can be opened at once and never ends."""
    os.mkfifo(path)
    return os.open(path, os.O_RDWR)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_in_the_place_of_a_file_is_refused(name: str, place: Path) -> None:
    held = held_open(place / "given")
    try:
        with pytest.raises(BadInput, match="is a pipe or a device, not a file") as caught:
            READERS[name](place / "given")
    finally:
        os.close(held)
    assert caught.value.field.endswith("given")


@pytest.mark.parametrize("name", READERS)
def test_a_folder_in_the_place_of_a_file_cannot_be_read(name: str, place: Path) -> None:
    (place / "given").mkdir()
    with pytest.raises(Unreachable, match="cannot be read"):
        READERS[name](place / "given")


@pytest.mark.parametrize("name", READERS)
def test_a_file_beyond_its_limit_is_refused_before_it_is_read_whole(name: str, place: Path) -> None:
    (place / "given").touch()
    os.truncate(place / "given", 8 * LIMITS.invitation_bytes)
    with (
        patch.object(LedgerFile, "most_bytes", LIMITS.invitation_bytes),
        patch.object(LastSeen, "most_bytes", LIMITS.invitation_bytes),
        pytest.raises(BadInput, match="larger than the limit") as caught,
    ):
        READERS[name](place / "given")
    assert caught.value.field.endswith("given")
    assert caught.value.remedy


def test_as_many_bytes_as_the_limit_are_read_and_one_more_is_not(tmp_path: Path) -> None:
    path = tmp_path / "given"
    path.write_bytes(b"12345")
    assert folder.read(path, "", 5) == b"12345"
    with pytest.raises(BadInput, match="larger than the limit"):
        folder.read(path, "", 4)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["list.txt", "faces.zip", "faces.npy"])
def test_a_pipe_in_the_place_of_pictures_or_their_list_is_refused(name: str, tmp_path: Path) -> None:
    labels = tmp_path / ("list.txt" if name == "list.txt" else "labels.csv")
    (tmp_path / "labels.csv").write_text("file,shape\na.png,bar\n")
    held = held_open(tmp_path / name)
    try:
        with pytest.raises(BadInput, match="is a pipe or a device, not a file"):
            read_labelled(tmp_path / name, labels)
    finally:
        os.close(held)
