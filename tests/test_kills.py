"""Stopped anywhere or out of space: the log stays consistent, no release half-appears, nothing acknowledged is lost."""

import errno
import json
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from consumer import fetching
from data_owner import roots
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.privacy.accounting import Query
from data_owner.privacy.budget import Budget
from data_owner.settings import PrivacySettings
from protocol.artefacts import Artefact
from protocol.checkpoint import Checkpoint
from protocol.merkle import EMPTY
from protocol.root import KeyRole
from protocol.trust import TrustedRelease
from shared import folder
from shared.errors import Unreachable
from shared.table import TableWriter
from tests.kills import NOW, PROOF, SIGNATURES, TRUSTED, Keys, check_owner, make_node, make_study, owner_writes

ROOT = Path(__file__).parent.parent
KILLS = 300


def test_a_kill_at_every_write_point_and_at_random_moments_breaks_no_promise(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.kills", str(tmp_path), str(KILLS)], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["owner"] + found["consumer"] >= KILLS
    assert found["owner"] >= found["owner_points"] > 100
    assert found["consumer"] >= found["consumer_points"] > 50


WRITES = """
import time
from pathlib import Path
import pandas as pd
import typer
from shared.console import Json, run, shell
from shared.table import TableWriter
app = typer.Typer()
@app.command()
def write(json: Json = False):
    with shell("write", json), TableWriter(Path("rows.parquet"), {}) as writer:
        writer.write(pd.DataFrame({"a": [1]}))
        print("writing", flush=True)
        time.sleep(60)
run(app, extra="consumer")
"""


@pytest.mark.parametrize("arguments", [[], ["--json"]], ids=str)
def test_a_command_that_is_terminated_leaves_no_part_of_a_file(arguments: list[str], tmp_path: Path) -> None:
    start = [sys.executable, "-c", WRITES, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(start, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        assert [path.name[:14] for path in tmp_path.iterdir()] == [".rows.parquet."]
        process.terminate()
        assert process.wait(60) == 143
    assert not list(tmp_path.iterdir())


@contextmanager
def full_disk(after: int) -> Iterator[None]:
    """The disk has no space left from the n-th time on that something is forced to it."""
    count, fsync, replace = 0, os.fsync, Path.replace

    def one_more() -> None:
        nonlocal count
        count += 1
        if count > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def synced(handle: int) -> None:
        one_more()
        fsync(handle)

    def replaced(path: Path, target: Path) -> Path:
        one_more()
        return replace(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", synced)
        patch.setattr(Path, "replace", replaced)
        yield


def test_a_disk_that_fills_up_while_a_release_is_approved_refuses_cleanly_and_recovers(tmp_path: Path) -> None:
    node = make_node(tmp_path / "node")
    keys = {role: roots.signing_key(node, role) for role in (KeyRole.RELEASE, KeyRole.LOG)}
    acknowledged: list[str] = []
    for after in range(0, 30, 3):
        with full_disk(after), pytest.raises(Unreachable, match="free space"):
            owner_writes(node, keys, acknowledged.append)
        assert not list(node.folder.rglob(".*"))
        check_owner(node, keys, acknowledged, Checkpoint("log", 0, EMPTY))
    acknowledged.clear()
    owner_writes(node, keys, acknowledged.append)
    assert len(acknowledged) == 9


def test_a_file_is_forced_to_the_disk_before_it_takes_its_name_and_the_name_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, done = tmp_path / "file", list[str]()
    fsync, replace = os.fsync, Path.replace

    def synced(handle: int) -> None:
        done.append("names" if stat.S_ISDIR(os.fstat(handle).st_mode) else "bytes")
        fsync(handle)

    def replaced(source: Path, target: Path) -> Path:
        done.append("replaced")
        return replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    folder.write(path, b"bytes")
    assert done == ["bytes", "replaced", "names"]


def test_what_the_log_and_the_budget_acknowledge_is_forced_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[tuple[str, int]] = []

    class Watched(sqlite3.Connection):
        def execute(self, sql: str, *parameters: Any) -> sqlite3.Cursor:
            if sql == "COMMIT":
                ((_, _, path),) = super().execute("PRAGMA database_list")
                ((synchronous,),) = super().execute("PRAGMA synchronous")
                kept.append((Path(path).name, synchronous))
            return super().execute(sql, *parameters)

    node = make_node(tmp_path / "node")
    keys = {role: roots.signing_key(node, role) for role in (KeyRole.RELEASE, KeyRole.LOG)}
    Budget.create(node.budget)
    monkeypatch.setattr(sqlite3, "connect", partial(sqlite3.connect, factory=Watched))
    owner_writes(node, keys, lambda what: None)
    Budget(node.budget).charge([Query(what="all of it", noise_multiplier=9.0)], PrivacySettings(epsilon=1.0), "", 0)
    full = 2
    assert set(kept) == {(node.ledger.name, full), (node.budget.name, full)}


def test_rows_are_forced_to_the_disk_before_they_are_given_their_name(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path / "rows.parquet", {})
    with full_disk(0), pytest.raises(Unreachable, match="free space"), writer:
        writer.write(pd.DataFrame({"a": [1]}))
    assert not list(tmp_path.iterdir())


def test_a_log_on_a_full_disk_takes_nothing_in_and_goes_on_when_there_is_space(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SQLite's own full-disk error, by a limit on its pages."""
    node = make_node(tmp_path / "node")
    keys = {role: roots.signing_key(node, role) for role in (KeyRole.RELEASE, KeyRole.LOG)}
    connect = sqlite3.connect

    def small(*arguments: object, **options: object) -> sqlite3.Connection:
        found: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
        found.execute("PRAGMA max_page_count = 1")  # means: no page more than there are
        return found

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(Unreachable, match="disk is full"):
        owner_writes_until_it_fails(node, keys)
    monkeypatch.setattr(sqlite3, "connect", connect)
    check_owner(node, keys, [], Checkpoint("log", 0, EMPTY))
    with Ledger(node.ledger) as log:
        before = len(log.entries())
    owner_writes(node, keys, lambda text: None)
    with Ledger(node.ledger) as log:
        assert len(log.entries()) == before + 8


def test_an_auditor_who_becomes_an_analyst_gets_what_was_left_out_before(tmp_path: Path) -> None:
    study = make_study(tmp_path / "study")
    seen = study.last_seen().model_copy(update={"checkpoint": PROOF.checkpoint})
    card = TrustedRelease(TRUSTED.manifest, {Artefact.CARD: TRUSTED.artefacts[Artefact.CARD]})
    fetching.keep(study, card, SIGNATURES, PROOF, seen)
    fetching.keep(study, TRUSTED, SIGNATURES, PROOF, seen)
    assert fetching.verify(study, NOW).release == TRUSTED


def owner_writes_until_it_fails(node: Node, keys: Keys) -> None:
    for _ in range(100):
        owner_writes(node, keys, lambda text: None)


def test_a_disk_that_fills_up_at_the_consumer_keeps_no_half_release_and_the_next_fetch_completes_it(
    tmp_path: Path,
) -> None:
    study = make_study(tmp_path / "study")
    seen = study.last_seen().model_copy(update={"checkpoint": PROOF.checkpoint})
    for after in range(12):
        with full_disk(after), pytest.raises(Unreachable, match="free space"):
            fetching.keep(study, TRUSTED, SIGNATURES, PROOF, seen)
        assert study.last_seen().release == 0
        assert not study.release(3).exists()
        assert not list(study.folder.rglob(".*"))
    fetching.keep(study, TRUSTED, SIGNATURES, PROOF, seen)
    assert fetching.verify(study, NOW).approval.by == "Ada"
