"""Two releases whose records differ in a few people name those few: the second is not approved."""

import hashlib
import io
import shutil
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from typer.testing import CliRunner

from data_owner import decisions, release, steps
from data_owner.cli import app
from data_owner.learning import fitting
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.preconditions import check_apart
from data_owner.records import records_file
from data_owner.records.differencing import Rows, View, changed, view_of
from data_owner.records.records_file import RecordsFile
from data_owner.records.source import as_parquet
from data_owner.settings import ColumnSettings, OwnerSettings, PrivacySettings
from protocol.artefacts import Artefact
from shared import folder
from shared.errors import Fair4FreeError, PolicyRefusal, Unreachable
from shared.table import read_table
from tests.conftest import QUICK, patients, record_measured, rows_of, write_draft
from tests.pictures import pictures
from tests.test_decisions import of_node
from tests.test_doctor import found_at
from tests.test_private_node import edit

FEW = "fewer than 10 records differ from those of release"


def hold(node: Node, table: pd.DataFrame) -> None:
    """What an operator does whose records have changed."""
    folder.write(node.records, as_parquet(table), folder.PRIVATE)


def drafted(node: Node, table: pd.DataFrame) -> int:
    """A release of these records, as training and the gate leave it; it differs from any other by its decoder."""
    hold(node, table)
    made = {**release.trained_artefacts(node, 1), Artefact.DECODER: repr(release.versions(node)).encode()}
    version = write_draft(node, made)
    record_measured(node, version, folder.read(node.release(1) / Artefact.CARD.filename, ""))
    return version


def compared(node: Node, privacy: PrivacySettings | None = None) -> str:
    settings = read_settings(node).model_copy(update={"privacy": privacy})
    return check_apart(node, settings, RecordsFile(node.records))


def approved(node: Node, table: pd.DataFrame) -> int:
    drafted(node, table)
    return decisions.approve(node.folder, by="Ada").version


def refused(node: Node, step: str) -> str:
    """What the command says that refuses by policy."""
    done = CliRunner().invoke(app, [step, str(node.folder), *(["--by", "Ada"] if step == "approve" else [])])
    assert done.exit_code == 1, done.output
    return " ".join(done.output.split())


def with_others(count: int) -> pd.DataFrame:
    """So many patients replaced by others: twice as many rows were removed or added."""
    return pd.concat([patients().iloc[count:], patients(count, seed=9)], ignore_index=True)


def test_without_one_patient_a_retrained_release_is_refused_at_the_gate_and_at_approval(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold(node, patients().iloc[1:])
    monkeypatch.setattr(steps, "fit", lambda prepared, training, **how: fitting.fit(prepared, training, QUICK))
    version = steps.train(node.folder)
    record_measured(node, version, folder.read(node.release(1) / Artefact.CARD.filename, ""))
    for step in ("gate", "approve"):
        said = refused(node, step)
        assert f"records: {FEW} 1, which was approved before" in said
        assert "release the same records as then, or wait until 10 or more were removed or added" in said
    with Ledger(node.ledger) as log:
        assert log.approved() == [1]
    assert node.rows(version).read_bytes() == rows_of(node)
    assert node.rows(version).stat().st_mode & 0o777 == folder.PRIVATE


@pytest.mark.parametrize("table", [patients().iloc[9:], with_others(1), with_others(4)])
def test_as_long_as_fewer_rows_than_the_minimum_count_were_removed_or_added_none_is_approved(
    node: Node, table: pd.DataFrame
) -> None:
    version = drafted(node, table)
    assert FEW in refused(node, "approve")
    assert release.status(node, version).state == "measured"
    assert not (node.release(version) / Artefact.MANIFEST.filename).exists()


@pytest.mark.parametrize("table", [patients().sample(frac=1.0, random_state=1), patients().iloc[10:], with_others(5)])
def test_the_same_records_and_those_of_which_enough_changed_are_approved(node: Node, table: pd.DataFrame) -> None:
    assert approved(node, table) == 2


def test_a_release_is_compared_with_every_one_that_was_approved_whatever_became_of_it(node: Node) -> None:
    assert approved(node, patients().iloc[40:]) == 2
    for version in (1, 2):
        decisions.deny(node.folder, by="Ada", reason="a patient asked for it", version=version)
    for nearest, table in ((1, patients().iloc[1:]), (2, patients().iloc[41:])):
        drafted(node, table)
        assert f"{FEW} {nearest}," in refused(node, "approve")
    assert approved(node, patients().iloc[20:]) == 5


def test_a_draft_that_nobody_approved_is_in_nobodys_hands(node: Node) -> None:
    decisions.deny(node.folder, by="Ada", reason="not good", version=drafted(node, patients().iloc[20:]))
    assert approved(node, patients().iloc[21:]) == 3


def test_approval_reads_the_records_before_the_lock_and_compares_again_under_it(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    drafted(node, patients())
    waits: list[bool] = []

    def watched(node: Node, settings: OwnerSettings, records: RecordsFile, own: int) -> str:
        try:
            with folder.locked(node.lock, waits=False):
                waits.append(False)
        except Unreachable:
            waits.append(True)
            monkeypatch.setattr(records_file, "read_table", None)
        return check_apart(node, settings, records, own)

    monkeypatch.setattr(decisions, "check_apart", watched)
    decisions.approve(node.folder, by="Ada")
    assert waits == [False, True]


def test_training_and_doctor_read_the_records_once_however_many_look_at_them(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []
    monkeypatch.setattr(records_file, "read_table", lambda path: (reads.append(path), read_table(path))[1])
    monkeypatch.setattr(steps, "fit", lambda prepared, training, **how: fitting.fit(prepared, training, QUICK))
    steps.train(node.folder)
    assert found_at(node, "records").passed
    assert reads == [node.records] * 2


def test_what_owner_toml_says_of_columns_by_now_does_not_hide_who_is_missing(node: Node) -> None:
    found = read_settings(node).columns
    renamed = {"lactate": ColumnSettings(kind="exclude"), "age": found["age"].model_copy(update={"kind": "number"})}
    edit(node, columns=found | renamed)
    drafted(node, patients().iloc[1:])
    assert f"{FEW} 1," in refused(node, "approve")


def test_records_without_a_column_that_was_released_cannot_be_compared_and_the_column_is_named(node: Node) -> None:
    columns = {name: entry for name, entry in read_settings(node).columns.items() if name != "lactate"}
    edit(node, columns=columns)
    drafted(node, patients().drop(columns="lactate").iloc[1:])
    said = refused(node, "approve")
    assert "lactate: not as it was read for release 1, which was approved before" in said
    assert 'kind = "exclude"' in said


def test_under_a_budget_no_two_releases_are_compared(node: Node) -> None:
    hold(node, patients().iloc[1:])
    assert compared(node, privacy=PrivacySettings(epsilon=1.0)) == ""
    with pytest.raises(PolicyRefusal, match=FEW):
        compared(node)


@pytest.mark.parametrize("state_is_there", [True, False])
def test_what_was_kept_of_an_approved_release_and_is_gone_or_damaged_is_named_with_its_backup(
    node: Node, state_is_there: bool
) -> None:
    path = node.rows(1)
    if not state_is_there:
        (node.release(1) / release.STATE).unlink()
    for data in (path.read_bytes()[:-3], b"", None):
        path.unlink() if data is None else path.write_bytes(data)
        with pytest.raises(Fair4FreeError) as lost:
            compared(node)
        assert (lost.value.field, lost.value.exit_code) == (str(path), 3)
        assert "restore it from its backup" in lost.value.remedy
        assert str(path) in found_at(node, "records").text


def test_of_a_release_whose_state_is_lost_the_records_are_compared_all_the_same(node: Node) -> None:
    (node.release(1) / release.STATE).unlink()
    hold(node, patients().iloc[1:])
    with pytest.raises(PolicyRefusal, match=FEW):
        compared(node)


@pytest.mark.parametrize("rows_sha256", ["", "0" * 64])
def test_a_release_without_digests_of_its_own_rows_is_not_approved_whoever_made_it(
    node: Node, rows_sha256: str
) -> None:
    version = drafted(node, patients())
    state = release.status(node, version).model_copy(update={"rows_sha256": rows_sha256})
    folder.write(node.release(version) / release.STATE, state.model_dump_json().encode())
    with pytest.raises(Unreachable, match="restore it from its backup"):
        decisions.approve(node.folder, by="Ada")
    assert release.status(node, version).state == "measured"


def test_where_no_row_is_the_same_nothing_tells_who_is_missing_and_that_is_said(node: Node) -> None:
    hold(node, patients().iloc[1:].assign(age=lambda table: table["age"] + 1))
    assert "nothing tells who is missing: release 1" in compared(node)
    hold(node, patients().iloc[1:].astype({"lactate": "float32"}))
    with pytest.raises(PolicyRefusal, match=FEW):
        compared(node)


def test_doctor_says_before_training_what_the_gate_will_and_the_page_what_a_release_was_compared_with(
    node: Node,
) -> None:
    assert found_at(node, "records").text == "600 rows, 8 columns; the same records as release 1"
    hold(node, patients().iloc[1:])
    assert f"{FEW} 1" in found_at(node, "records").text
    approved(node, patients().iloc[30:])
    approved(node, patients())
    decisions.write_privacy_report(node.folder)
    said = "the same records as release 1; 10 or more records differ from those of release 2."
    assert ["Beside earlier releases", said] in of_node(node)["facts"]


def test_no_digest_of_a_row_lies_in_what_is_served_and_who_serves_cannot_read_the_file(node: Node) -> None:
    kept = Rows.from_bytes(node.rows(1).read_bytes()).digests
    assert len(kept) == 600
    assert any(place in node.rows(1).parents for place in node.withheld)
    for path in node.release(1).iterdir():
        data = path.read_bytes()
        assert not any(digest.tobytes() in data for digest in kept)
        assert str(node.rows(1).name).encode() not in data


VIEW = View(columns={"n": "number", "when": "date", "label": "category"})


def of(**columns: object) -> Rows:
    return Rows.of(pd.DataFrame(columns), VIEW)


def test_rows_are_the_same_in_whatever_types_a_file_gives_them_and_in_whatever_order() -> None:
    first = of(n=[1, 2, 0], when=pd.to_datetime(["2021-01-01", "2021-01-02", None]), label=["a", None, "1"])
    for other in (
        of(label=["1", "a", None], when=[None, "2021-01-01", "2021-01-02"], n=[-0.0, 1.0, 2.0]),
        of(
            n=pd.array([2, 0, 1], "Int64"),
            when=pd.to_datetime(["2021-01-02", None, "2021-01-01"]).astype("datetime64[s]"),
            label=pd.Categorical([None, "1", "a"]),
        ),
        Rows.from_bytes(first.to_bytes()),
    ):
        assert other.to_bytes() == first.to_bytes()
        assert changed(first, other) == 0


@pytest.mark.parametrize(
    ("columns", "count"),
    [
        ({"n": [1, 1], "when": ["2021-01-01"] * 2, "label": ["a", "a"]}, 1),
        ({"n": [1], "when": ["2021-01-01"], "label": ["b"]}, 2),
        ({"n": [1], "when": ["2021-01-02"], "label": ["a"]}, 2),
        ({"n": [np.nan], "when": ["2021-01-01"], "label": ["a"]}, 2),
        ({"n": [1], "when": ["2021-01-01"], "label": [None]}, 2),
    ],
)
def test_rows_are_counted_as_often_as_they_are_there_and_any_cell_makes_another(
    columns: dict[str, list[object]], count: int
) -> None:
    before = of(n=[1], when=["2021-01-01"], label=["a"])
    after = of(**columns)
    assert changed(before, after) == changed(after, before) == count


def test_digests_are_those_that_were_kept_by_whichever_libraries() -> None:
    """Were they others, all rows would seem changed, and any two releases far enough apart."""

    def digest(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()[:8]

    microseconds = 18_628 * 86_400 * 1e6
    row = struct.pack("<dd", 1.0, microseconds) + digest("é".encode())
    assert of(n=[1], when=["2021-01-01"], label=["é"]).digests.tobytes() == digest(row)


def test_of_pictures_the_pixels_count_and_not_how_they_are_written(image_node: Path, tmp_path: Path) -> None:
    shutil.copytree(image_node, tmp_path / "clinic")
    node, table = Node(tmp_path / "clinic"), pictures()
    picture = next(name for name, kind in view_of(read_settings(node)).columns.items() if kind == "image")

    def rewritten(data: bytes) -> bytes:
        Image.open(io.BytesIO(data)).save(out := io.BytesIO(), "PNG", compress_level=0)
        return out.getvalue()

    hold(node, table.assign(**{picture: table[picture].map(rewritten)}))
    assert compared(node) == "the same records as release 1"
    table.loc[0, picture] = table.loc[1, picture]
    hold(node, table)
    with pytest.raises(PolicyRefusal, match=FEW):
        compared(node)
    table.loc[0, picture] = b"no picture"
    hold(node, table)
    with pytest.raises(PolicyRefusal, match="not as it was read for release 1"):
        compared(node)
