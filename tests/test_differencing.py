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
from data_owner.records.differencing import Comparison, Rows, View, view_of
from data_owner.records.records_file import RecordsFile
from data_owner.records.source import as_parquet
from data_owner.settings import ColumnSettings, OwnerSettings, PrivacySettings
from protocol.artefacts import Artefact
from shared import folder
from shared.errors import BadInput, Fair4FreeError, PolicyRefusal, Unreachable
from shared.table import read_table
from tests.conftest import QUICK, patients, record_measured, rows_of, write_draft
from tests.pictures import pictures
from tests.test_decisions import of_node
from tests.test_doctor import found_at
from tests.test_private_node import edit

FEW = "others than those of release"


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
        assert "not 10 or more rows more or fewer" in said
        assert "leave out others drawn at random, until there are 10 rows more or fewer" in said
    with Ledger(node.ledger) as log:
        assert log.approved() == [1]
    assert node.rows(version).read_bytes() == rows_of(node)
    assert node.rows(version).stat().st_mode & 0o777 == folder.PRIVATE


def corrected(count: int, removed: int = 0) -> pd.DataFrame:
    """One value of so many patients is another, and so many others have left."""
    table = patients().copy()
    table.loc[table.index[-count:], "age"] += 1
    return table.iloc[removed:]


@pytest.mark.parametrize(
    "table", [patients().iloc[9:], with_others(1), with_others(30), corrected(30), corrected(5, removed=1)]
)
def test_others_are_not_approved_unless_they_are_the_minimum_count_more_or_fewer(
    node: Node, table: pd.DataFrame
) -> None:
    """Rows that were corrected hide nobody who left."""
    version = drafted(node, table)
    assert FEW in refused(node, "approve")
    assert release.status(node, version).state == "measured"
    assert not (node.release(version) / Artefact.MANIFEST.filename).exists()


@pytest.mark.parametrize(
    "table",
    [patients().sample(frac=1.0, random_state=1), patients().iloc[10:], pd.concat([patients(), patients(10, seed=9)])],
)
def test_the_same_records_and_those_that_are_enough_more_or_fewer_are_approved(node: Node, table: pd.DataFrame) -> None:
    assert approved(node, table) == 2


def test_a_release_is_compared_with_every_one_that_was_approved_whatever_became_of_it(node: Node) -> None:
    assert approved(node, patients().iloc[40:]) == 2
    for version in (1, 2):
        decisions.deny(node.folder, by="Ada", reason="a patient asked for it", version=version)
    for nearest, table in ((1, patients().iloc[1:]), (2, patients().iloc[41:])):
        drafted(node, table)
        assert f"{FEW} {nearest}," in refused(node, "approve")
    assert approved(node, patients().iloc[20:]) == 5


def test_of_two_releases_near_each_other_the_records_of_one_are_approved_again_and_no_others(node: Node) -> None:
    """As a lower minimum count let them out: what they tell beside each other is out already."""
    policy = read_settings(node).policy
    edit(node, policy=policy.model_copy(update={"minimum_count": 5}))
    assert approved(node, patients().iloc[5:]) == 2
    edit(node, policy=policy)
    hold(node, patients())
    assert compared(node) == "the same records as release 1; hardly more or fewer rows than release 2"
    hold(node, patients().iloc[2:])
    with pytest.raises(PolicyRefusal, match=FEW):
        compared(node)


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


def test_a_change_to_a_whole_column_does_not_hide_who_is_missing(node: Node) -> None:
    hold(node, patients().iloc[1:].assign(age=lambda table: table["age"] + 1))
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
    said = "the same records as release 1; 10 or more rows more or fewer than release 2."
    assert ["Beside earlier releases", said] in of_node(node)["facts"]


def test_what_is_kept_of_the_rows_lies_in_nothing_served_and_who_serves_cannot_read_it(node: Node) -> None:
    kept = Rows.from_bytes(node.rows(1).read_bytes())
    assert kept.count == 600
    assert any(place in node.rows(1).parents for place in node.withheld)
    for path in node.release(1).iterdir():
        data = path.read_bytes()
        assert kept.sha256.encode() not in data
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
        assert other == first


@pytest.mark.parametrize(
    "columns",
    [
        {"n": [1, 1], "when": ["2021-01-01"] * 2, "label": ["a", "a"]},
        {"n": [1], "when": ["2021-01-01"], "label": ["b"]},
        {"n": [1], "when": ["2021-01-02"], "label": ["a"]},
        {"n": [np.nan], "when": ["2021-01-01"], "label": ["a"]},
        {"n": [1], "when": ["2021-01-01"], "label": [None]},
    ],
)
def test_rows_are_others_by_any_cell_and_by_how_often_they_are_there(columns: dict[str, list[object]]) -> None:
    before, after = of(n=[1], when=["2021-01-01"], label=["a"]), of(**columns)
    assert Comparison.of(1, before, after) == Comparison(1, same=False, apart=after.count - 1)


def test_rows_are_told_by_digests_that_any_libraries_and_an_earlier_program_make() -> None:
    """Were they others, a release of the same records would be refused. That program kept the digest of every row."""

    def digest(data: bytes) -> bytes:
        return hashlib.sha256(data).digest()[:8]

    microseconds = 18_628 * 86_400 * 1e6
    lines = [struct.pack("<dd", n, microseconds) + digest("é".encode()) for n in (1.0, 2.0)]
    digests = b"".join(sorted(map(digest, lines), key=lambda each: int.from_bytes(each, "little")))
    found = of(n=[2, 1], when=["2021-01-01"] * 2, label=["é"] * 2)
    assert found == Rows(view=VIEW, count=2, sha256=hashlib.sha256(digests).hexdigest())
    earlier = VIEW.model_dump_json().encode() + b"\n" + digests
    assert found == Rows.from_bytes(earlier)
    with pytest.raises(BadInput, match="cut short"):
        Rows.from_bytes(earlier[:-1])


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
