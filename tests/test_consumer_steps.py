"""What a consumer says of the files it is given: whence rows came and whether they can be audited."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
import torch
from safetensors.torch import load

import consumer
from consumer import lineage, steps
from consumer.distillation import measured_again
from consumer.lineage import BLOCKS, Lineage, Run, made_again
from consumer.reading import LEAST_ROWS, Rows, read_rows
from consumer.study import Study
from data_owner import authority
from data_owner.measure import reference
from data_owner.node import Node
from data_owner.records.disclosure import disclose
from data_owner.records.infer import infer
from data_owner.records.ingest import ingest
from protocol.artefacts import Artefact
from shared import folder
from shared.canonical import restore
from shared.card import Card
from shared.codec import group_positions
from shared.conform import conform
from shared.errors import BadInput, Unreachable, VerificationFailure
from shared.generation import Synthesiser
from shared.schema import MERGED, Schema
from shared.student import Distillation, Student, StudentSettings
from shared.table import TableWriter
from shared.tensor_metadata import metadata
from tests.conftest import QUICK_STUDENT, Running, patients, settings_for, with_merged_groups

ROWS = 300


@pytest.fixture(scope="module")
def study(approved_node: Path, tmp_path_factory: pytest.TempPathFactory) -> Study:
    """A study with a distilled student and rows 100..399 of a run of seed 5."""
    place = tmp_path_factory.mktemp("consumer")
    found = Study(place / "study")
    shutil.copytree(approved_node, place / "hospital")
    running = Running(Node(place / "hospital"))
    try:
        fingerprint = consumer.enrol(found.folder, invitation=running.node.invitation).fingerprint
        authority.decide(running.node, fingerprint, authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC))
        consumer.enrol(found.folder)
        consumer.fetch(found.folder)
    finally:
        running.stop()
    with patch("consumer.steps.StudentSettings", QUICK_STUDENT):
        consumer.distill(found.folder)
    consumer.generate(found.folder, rows=4 * ROWS, seed=5, shard="2/4")
    return found


def fitted(study: Study) -> tuple[Synthesiser, dict[str, str]]:
    return steps.synthesiser_with(steps.read_student(study), study, steps.release_with_decoder(study))


def origin(study: Study, path: Path) -> Lineage:
    synthesiser, expected = fitted(study)
    return lineage.origin_of(path, read_rows(path, synthesiser.schema), synthesiser, expected).lineage


def changed(study: Study, path: Path, change: Callable[[pa.Table], pa.Table]) -> Path:
    parquet.write_table(change(parquet.read_table(study.folder / "synthetic.parquet")), path)
    return path


def as_read(table: pd.DataFrame) -> Rows:
    return Rows(table, len(table), np.arange(len(table)), draw=0)


def cell(table: pa.Table) -> pa.Table:
    """The age of the last row is another."""
    ages = table["age"].to_pylist()
    return put(table, "age", [*ages[:-1], ages[-1] + 1])


def later(table: pa.Table) -> pa.Table:
    """An hour later on the same days."""
    return put(table, "admitted", table["admitted"].to_pandas() + pd.Timedelta(hours=1))


def named(table: pa.Table, column: str) -> pa.Table:
    """What stands for many is one of them."""
    return put(table, column, ["Bishop of York" if value == MERGED else value for value in table[column].to_pylist()])


def put(table: pa.Table, name: str, values: object) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, pa.array(values))


def said(table: pa.Table, **text: str) -> pa.Table:
    changed = {f"fair4free.{key}".encode(): value.encode() for key, value in text.items()}
    return table.replace_schema_metadata({**table.schema.metadata, **changed})


CHANGES: dict[str, Callable[[pa.Table], pa.Table]] = {
    "one cell": cell,
    "a row removed": lambda table: table.slice(0, ROWS - 1),
    "a row repeated": lambda table: pa.concat_tables([table, table.slice(0, 1)]),
    "a column added": lambda table: table.append_column("patient", pa.array(["Jane Doe"] * ROWS)),
    "a column added as if an index": lambda table: table.append_column(
        "__index_level_0__", pa.array(["Jane Doe"] * ROWS)
    ),
    "other times of the same days": later,
    "another order": lambda table: table.sort_by("age"),
    "another seed": lambda table: said(table, seed="6"),
    "no seed": lambda table: said(table, seed="five"),
    "another place": lambda table: said(table, rows="101-400"),
    "a place past all numbers": lambda table: said(table, rows=f"{2**70}-{2**70 + ROWS - 1}"),
    "no place": lambda table: said(table, rows="-"),
    "balanced groups": lambda table: said(table, groups="balanced"),
    "unheard-of groups": lambda table: said(table, groups="fair"),
}


def test_untouched_rows_are_proved_to_be_of_this_student(study: Study, tmp_path: Path) -> None:
    assert origin(study, study.folder / "synthetic.parquet") is Lineage.PROVED
    consumer.generate(study.folder, rows=ROWS, out=tmp_path / "balanced.parquet", balanced=True)
    assert origin(study, tmp_path / "balanced.parquet") is Lineage.PROVED
    consumer.generate(study.folder, rows=ROWS, out=tmp_path / "rows.csv")
    assert origin(study, tmp_path / "rows.csv") is Lineage.UNKNOWN
    pd.read_parquet(study.folder / "synthetic.parquet").to_parquet(tmp_path / "saved-again.parquet")
    assert origin(study, tmp_path / "saved-again.parquet") is Lineage.UNKNOWN


def test_rows_whose_place_others_take_during_an_audit_are_proved_all_the_same(study: Study, tmp_path: Path) -> None:
    shutil.copytree(study.folder, tmp_path / "study")

    def meanwhile(*given: object) -> Distillation:
        consumer.generate(tmp_path / "study", rows=ROWS, seed=6)
        return measured_again(*given)  # type: ignore[arg-type]

    with patch("consumer.audit_steps.measured_again", meanwhile):
        found = consumer.audit(tmp_path / "study")
    assert found.report.verdicts[0].value == "verified"


@pytest.mark.parametrize("name", CHANGES)
def test_altered_rows_under_true_metadata_are_not_proved(study: Study, name: str, tmp_path: Path) -> None:
    assert origin(study, changed(study, tmp_path / "rows.parquet", CHANGES[name])) is Lineage.ALTERED


@pytest.mark.parametrize("column", ["ward", "région"])
def test_words_in_the_place_of_merged_ones_are_not_proved(study: Study, column: str, tmp_path: Path) -> None:
    synthesiser, expected = fitted(study)
    # one category, and with it the group, is the merged one
    text = synthesiser.schema.to_bytes().decode().replace('"surgery"', f'"{MERGED}"').replace('"east"', f'"{MERGED}"')
    synthesiser = replace(synthesiser, schema=Schema.from_bytes(text.encode()))
    run = Run(5, 0, ROWS, balanced=False)
    with TableWriter(tmp_path / "rows.parquet", expected | run.said()) as writer:
        writer.write(restore(synthesiser.table(5, ROWS), synthesiser.schema))
    whole = parquet.read_table(tmp_path / "rows.parquet")
    assert MERGED in whole[column].to_pylist()

    def origin(table: pa.Table) -> Lineage:
        parquet.write_table(table, tmp_path / "given.parquet")
        rows = read_rows(tmp_path / "given.parquet", synthesiser.schema)
        return lineage.origin_of(tmp_path / "given.parquet", rows, synthesiser, expected).lineage

    assert origin(whole) is Lineage.PROVED
    assert origin(named(whole, column)) is Lineage.ALTERED


def test_the_report_names_columns_that_the_release_does_not_have(study: Study, tmp_path: Path) -> None:
    given = changed(study, tmp_path / "rows.parquet", CHANGES["a column added"])
    found = consumer.audit(study.folder, synthetic=given)
    assert ("Columns that are not of the release, not audited", "patient") in found.report.facts


def test_rows_across_the_edge_of_a_block_are_proved(study: Study) -> None:
    synthesiser, _ = fitted(study)
    with patch("shared.generation.LIMITS", steps.LIMITS.__class__(block_rows=64)):
        table = restore(pd.concat(synthesiser.rows(5, 40, 200), ignore_index=True), synthesiser.schema)
        run = Run(5, 40, 200, balanced=False)
        assert made_again(run, as_read(table), synthesiser)
        table.loc[63, "age"] += 1
        assert not made_again(run, as_read(table), synthesiser)


def test_rows_changed_anywhere_are_found_while_all_blocks_are_looked_at(study: Study) -> None:
    synthesiser, _ = fitted(study)
    with patch("shared.generation.LIMITS", steps.LIMITS.__class__(block_rows=64)):
        table = restore(pd.concat(synthesiser.rows(0, 0, 64 * BLOCKS), ignore_index=True), synthesiser.schema)
        run = Run(0, 0, 64 * BLOCKS, balanced=False)
        for block in range(BLOCKS):
            changed = table.copy()
            changed.loc[64 * block + 9, "age"] += 1
            assert not made_again(run, as_read(changed), synthesiser)


def test_pictures_that_were_drawn_are_compared_in_their_places(image_artefacts: dict[Artefact, bytes]) -> None:
    synthesiser, _ = reference(image_artefacts, StudentSettings(steps=50))
    made = restore(pd.concat(synthesiser.rows(3, 7, 207), ignore_index=True), synthesiser.schema)
    places = np.sort(np.random.default_rng(0).choice(200, 60, replace=False))
    rows = Rows(made.iloc[places].reset_index(drop=True), 200, places, draw=0)
    run = Run(3, 7, 207, balanced=False)
    assert made_again(run, rows, synthesiser)
    rows.table.loc[59, "image"] = rows.table["image"][58]
    assert not made_again(run, rows, synthesiser)


@pytest.mark.parametrize("path", ["pictures", "pictures.parquet"])
def test_pictures_that_the_last_audit_did_not_read_may_be_read_by_the_next(
    image_artefacts: dict[Artefact, bytes], path: str, tmp_path: Path
) -> None:
    """Were it always the same ones, all others could be replaced."""
    schema = Schema.from_bytes(image_artefacts[Artefact.SCHEMA])
    assert schema.image is not None
    names = [f"{number:03}".encode() for number in range(200)]
    labels = {column.name: column.categories[0] for column in (*schema.sensitive, schema.target)}
    with steps._writer(tmp_path / path, schema, 0, {}, replaces=False) as writer:
        writer.write(pd.DataFrame({schema.image.name: names, **labels}))
    with patch("consumer.reading.AUDITED_ROWS", 60):
        first, second = (read_rows(tmp_path / path, schema) for _ in range(2))
    assert set(first.places) != set(second.places)
    for rows in (first, second):
        assert (len(rows.table), rows.held) == (60, 200)
        assert rows.table[schema.image.name].tolist() == [names[place] for place in rows.places]


@pytest.mark.parametrize("other", ["manifest_sha256", "student_sha256"])
def test_rows_of_another_release_or_student_are_said_to_be_so(study: Study, other: str, tmp_path: Path) -> None:
    path = changed(study, tmp_path / "rows.parquet", lambda table: said(table, **{other: "ab" * 32}))
    assert origin(study, path) is Lineage.OTHER


def test_the_report_says_that_rows_were_altered(study: Study, tmp_path: Path) -> None:
    found = consumer.audit(study.folder, synthetic=changed(study, tmp_path / "rows.parquet", cell))
    assert (found.report.verdicts[0].level, found.report.verdicts[0].value) == ("bad", "mismatch")
    assert all(verdict.level != "good" for verdict in found.report.verdicts[1:4])
    assert all("on other rows" in verdict.text for verdict in found.report.verdicts[1:4])
    assert "altered" in found.report.to_html()
    assert "decoder" not in found.report.subtitle


@pytest.mark.parametrize(
    ("name", "balanced", "groups", "these"),
    [
        ("rows.parquet", True, "halfway to equally often (generate --balanced)", None),
        ("rows.parquet", False, "as recorded", "these are not."),
        ("rows.csv", True, "not known", "these are not known to be."),
    ],
)
def test_what_was_measured_of_models_of_balanced_rows_is_not_said_of_others(
    study: Study, name: str, balanced: bool, groups: str, these: str | None, tmp_path: Path
) -> None:
    """A model of rows with groups as recorded may be less fair, and more or less accurate."""
    rows = consumer.generate(study.folder, rows=ROWS, out=tmp_path / name, balanced=balanced).path
    report = consumer.audit(study.folder, synthetic=rows).report
    assert ("Groups", groups) in report.facts
    *of_models, alike = report.verdicts[1:4]
    for verdict in of_models:
        learned = "The owner's model learned from rows of generate --balanced, which "
        assert (learned in verdict.text) is (these is not None)
        assert these is None or (these in verdict.text and verdict.level != "good")
    assert "--balanced" not in alike.text


def test_the_report_says_that_records_trained_what_made_the_rows(study: Study) -> None:
    made = "The rows come from a decoder trained on some 480 records."
    assert consumer.audit(study.folder).report.subtitle.endswith(f" {made} This audit saw no record.")


@pytest.mark.parametrize(
    "told", [{"node": "clinic"}, {"target": "age"}, {"positive": "0"}, {"sensitive": ("région", "ward")}], ids=str
)
def test_a_card_of_another_node_or_schema_is_refused(study: Study, told: dict[str, object]) -> None:
    trusted = steps.release_with_decoder(study)
    card = Card.from_bytes(trusted.artefacts[Artefact.CARD]).model_copy(update=told).to_bytes()
    other = replace(trusted, artefacts={**trusted.artefacts, Artefact.CARD: card})
    with (
        patch("consumer.audit_steps.release_with_decoder", return_value=other),
        pytest.raises(VerificationFailure, match="another node, target") as caught,
    ):
        consumer.audit(study.folder)
    assert (caught.value.field, caught.value.remedy) == ("card", "ask the owner for a new release")


def one_weight_flipped(study: Study) -> Callable[[], object]:
    decoder = study.release(study.last_seen().release) / Artefact.DECODER.filename
    whole = decoder.read_bytes()
    decoder.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    return lambda: decoder.write_bytes(whole)


def past_its_end(study: Study) -> Callable[[], object]:
    ended = patch("consumer.receiving_steps.now", return_value=steps.release_with_decoder(study).manifest.expires)
    ended.start()
    return ended.stop


@pytest.mark.parametrize("spoil", [one_weight_flipped, past_its_end])
@pytest.mark.parametrize(
    "step",
    [consumer.distill, lambda path: consumer.generate(path, rows=9), consumer.audit],
    ids=["distill", "generate", "audit"],
)
def test_no_step_uses_a_release_that_was_changed_since_or_has_ended(
    study: Study, step: Callable[[Path], object], spoil: Callable[[Study], Callable[[], object]]
) -> None:
    undo = spoil(study)
    try:
        before = {path: path.read_bytes() for path in study.folder.rglob("*") if path.is_file()}
        with pytest.raises(VerificationFailure):
            step(study.folder)
        assert {path: path.read_bytes() for path in study.folder.rglob("*") if path.is_file()} == before
    finally:
        undo()


def test_of_a_long_table_rows_are_drawn_and_not_the_first_taken(study: Study, tmp_path: Path) -> None:
    rows = pd.read_parquet(study.folder / "synthetic.parquet").sort_values("died")
    rows.to_csv(tmp_path / "sorted.csv", index=False)
    few = len(rows) // 3
    with patch("consumer.audit_report.AUDITED_ROWS", few):
        found = consumer.audit(study.folder, synthetic=tmp_path / "sorted.csv")
    assert ("Synthetic rows", f"{few:,} of {len(rows):,}, drawn at random") in found.report.facts
    assert found.synthetic_only.recall > 0.0, "a third of the sorted rows would be of one class"


def test_no_file_of_the_analyst_is_replaced_by_synthetic_rows(study: Study, tmp_path: Path) -> None:
    patients(30).to_csv(tmp_path / "mine.csv", index=False)
    before = (tmp_path / "mine.csv").read_bytes()
    with pytest.raises(BadInput, match="there already"):
        consumer.generate(study.folder, rows=10, out=tmp_path / "mine.csv")
    assert (tmp_path / "mine.csv").read_bytes() == before


def test_too_few_rows_are_refused_and_the_fewest_are_audited(study: Study, tmp_path: Path) -> None:
    for rows in (1, 6, LEAST_ROWS - 1):
        few = consumer.generate(study.folder, rows=rows, out=tmp_path / f"{rows}.csv").path
        patients(rows).to_csv(tmp_path / "real.csv", index=False)
        for given in ({"synthetic": few}, {"real": tmp_path / "real.csv"}):
            with pytest.raises(BadInput, match=f"fewer than {LEAST_ROWS} rows") as caught:
                consumer.audit(study.folder, **given)
            assert caught.value.remedy
    enough = consumer.generate(study.folder, rows=LEAST_ROWS, out=tmp_path / "enough.csv").path
    patients(LEAST_ROWS).to_csv(tmp_path / "real.csv", index=False)
    found = consumer.audit(study.folder, synthetic=enough, real=tmp_path / "real.csv")
    assert found.on_own_records is not None
    assert len(repr(found)) < 1000, "the report's pictures are not printed"
    assert consumer.audit(study.folder, synthetic=enough, real=patients(LEAST_ROWS)).on_own_records is not None
    for path in (study.report, study.figures):
        assert path.stat().st_mode & 0o777 == folder.PRIVATE, "the analyst's own rows are drawn there"
    with pytest.raises(BadInput, match=f"fewer than {LEAST_ROWS} rows"):
        consumer.audit(study.folder, synthetic=enough, real=patients(LEAST_ROWS - 1))


@pytest.mark.parametrize("said", [None, "", '{"distance": 1e-5, "gau', "[]", "{}", "[" * 5000])
def test_a_student_that_does_not_say_how_it_was_distilled_is_refused(study: Study, said: str | None) -> None:
    whole = study.student.read_bytes()
    lineage = {"manifest_sha256": metadata(whole)["manifest_sha256"], "distillation": said}
    student = Student.from_bytes(whole, fitted(study)[0].statistics.latent)
    try:
        study.student.write_bytes(student.to_bytes({key: text for key, text in lineage.items() if text is not None}))
        with pytest.raises(BadInput, match="run `fair4free distill` again") as caught:
            consumer.audit(study.folder)
    finally:
        study.student.write_bytes(whole)
    assert caught.value.field == str(study.student)


def test_a_student_of_another_release_generates_nothing(study: Study, tmp_path: Path) -> None:
    whole = study.student.read_bytes()
    student = Student.from_bytes(whole, fitted(study)[0].statistics.latent)
    try:
        study.student.write_bytes(student.to_bytes({**metadata(whole), "manifest_sha256": "ab" * 32}))
        with pytest.raises(VerificationFailure, match="not distilled from the release last fetched"):
            consumer.generate(study.folder, rows=1, out=tmp_path / "rows.csv")
    finally:
        study.student.write_bytes(whole)
    assert not (tmp_path / "rows.csv").exists()


def test_an_audit_before_there_are_rows_says_how_to_make_them(study: Study) -> None:
    kept = study.synthetic.rename(study.folder / "kept.parquet")
    try:
        with pytest.raises(Unreachable, match="run `fair4free generate`") as caught:
            consumer.audit(study.folder)
    finally:
        kept.rename(study.synthetic)
    assert caught.value.field == str(study.synthetic)


def test_what_a_notebook_has_set_of_torch_changes_neither_a_student_nor_a_row(study: Study, tmp_path: Path) -> None:
    again = Study(tmp_path / "study")
    shutil.copytree(study.folder, again.folder)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"), patch("consumer.steps.StudentSettings", QUICK_STUDENT):
            consumer.distill(again.folder)
            consumer.generate(again.folder, rows=4 * ROWS, seed=5, shard="2/4")
            assert torch.get_default_dtype() is torch.float64
            assert torch.get_default_device().type == "meta"
    finally:
        torch.set_default_dtype(torch.float32)
    weights, expected = (load(each.student.read_bytes()) for each in (again, study))
    assert all(torch.equal(weights[name], expected[name]) for name in expected)
    assert parquet.read_table(again.synthetic).equals(parquet.read_table(study.synthetic))


def test_a_damaged_student_is_the_study_s_own_affair(study: Study) -> None:
    whole = study.student.read_bytes()
    try:
        study.student.write_bytes(whole[:-40])
        with pytest.raises(VerificationFailure, match="run `fair4free distill` again") as caught:
            consumer.generate(study.folder, rows=1)
    finally:
        study.student.write_bytes(whole)
    assert caught.value.field == str(study.student)


@pytest.mark.parametrize("version", [-1, 0, 2**31, 2**40])
def test_a_version_that_no_release_has_is_refused(version: int, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a version"):
        consumer.fetch(tmp_path, version=version)


# reading


def coded(rows: int = 600) -> tuple[Schema, pd.DataFrame]:
    """Codes with leading zeros, and categories named like what means missing elsewhere, beside real gaps."""
    table = patients(rows)
    codes = {"surgery": "001", "medicine": "002", "intensive care": "None"}
    table["ward"] = table["ward"].map(codes)
    table["région"] = table["région"].map({"north": "01", "south": "02", "east": "NA"})
    return disclose(ingest(table, settings_for(table)), 10)


def test_codes_and_categories_named_like_gaps_come_back_from_csv_as_they_were(tmp_path: Path) -> None:
    schema, table = coded()
    with TableWriter(tmp_path / "rows.csv", {}) as writer:
        writer.write(restore(table, schema))
    found = conform(schema, read_rows(tmp_path / "rows.csv", schema).table)
    pd.testing.assert_frame_equal(found[["ward", "région", "died"]], table[["ward", "région", "died"]])
    assert found["ward"].isna().any()


def test_a_word_for_a_gap_is_a_gap_where_no_category_has_that_name(tmp_path: Path) -> None:
    schema, table = coded()
    own = restore(table, schema)
    own["ward"] = own["ward"].fillna("NA")
    own.to_csv(tmp_path / "own.csv", index=False)
    found = conform(schema, read_rows(tmp_path / "own.csv", schema).table)
    pd.testing.assert_series_equal(found["ward"], table["ward"])
    assert (found["région"] == "NA").any()


def test_own_records_of_a_small_group_are_of_the_merged_one() -> None:
    table, schema, disclosed = with_merged_groups()
    assert (MERGED, MERGED) in [group.values for group in schema.groups]
    own = pd.concat([table, table.iloc[:1].assign(région="west")], ignore_index=True)
    found = conform(schema, own)
    assert found["région"].tolist() == [*disclosed["région"], MERGED]
    assert found["sex"].tolist() == [*disclosed["sex"], MERGED]
    assert len(group_positions(schema, found)) == len(own)


def test_without_a_merged_group_an_unknown_combination_is_still_refused() -> None:
    table = patients()
    table["sex"] = pd.Series(np.where((np.arange(600) % 2 == 0) | (table["région"] == "east"), "f", "m"), dtype="str")
    settings = infer(table, name="small", source="frame", target="died", sensitive=("région", "sex"), positive="1")
    schema, _ = disclose(ingest(table, settings), 10)
    with pytest.raises(BadInput, match="combination of sensitive values"):
        group_positions(schema, conform(schema, table.assign(sex="m")))


def test_a_category_that_the_schema_lacks_is_refused_and_the_error_says_which_it_has() -> None:
    table = patients()
    settings = infer(table, name="n", source="frame", target="died", sensitive=("région",), positive="1")
    schema, _ = disclose(ingest(table, settings), 10)
    with pytest.raises(BadInput) as caught:
        conform(schema, table.assign(région=table["région"].mask(table.index == 3, "secret")))
    known = schema.sensitive[0]
    assert caught.value.field == "région"
    assert ", ".join(known.categories) in caught.value.remedy
    assert "secret" not in str(caught.value)
