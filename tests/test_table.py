"""Tables keep their types through the canonical form, and files appear whole or not at all."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_owner.disclosure import disclose
from data_owner.ingest import ingest
from shared.conform import conform
from shared.errors import BadInput
from shared.table import TableWriter, read_table, restore
from tests.conftest import patients, settings_for


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    whole=st.sampled_from(["int64", "int32", "int8", "Int64", "uint16"]),
    number=st.sampled_from(["float64", "float32"]),
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    flag=st.sampled_from(["bool", "boolean"]),
    ward=st.sampled_from(["str", "category"]),
)
def test_restore_undoes_canonical_in_every_type(
    seed: int, whole: str, number: str, unit: str, flag: str, ward: str
) -> None:
    table = patients(300, seed)
    types = {"age": whole, "lactate": number, "ventilated": flag, "ward": ward, "admitted": f"datetime64[{unit}]"}
    table = table.assign(ward=table["ward"].fillna("surgery")).astype(types)
    records = ingest(table, settings_for(table))
    schema, canonical = disclose(records, 10)
    back = restore(canonical, schema)
    tolerance = 1e-6 if number == "float32" else 0.0
    pd.testing.assert_frame_equal(
        back.astype({"ventilated": "bool"}), table.astype({"ventilated": "bool", "age": back["age"].dtype}), rtol=tolerance
    )
    assert str(back["age"].dtype) == whole.lower()


def test_gaps_in_whole_numbers_come_back_as_gaps_in_whole_numbers() -> None:
    table = patients()
    age = table["age"].astype("float64").mask(table.index < 100)
    schema, canonical = disclose(ingest(table.assign(age=age), settings_for(table)), 10)
    back = restore(canonical, schema)["age"]
    assert str(back.dtype) == "Int64"
    assert back.isna().sum() == 100


def test_iso_dates_come_back_as_iso_dates() -> None:
    table = patients().assign(admitted=patients()["admitted"].dt.strftime("%Y-%m-%d"))
    schema, canonical = disclose(ingest(table, settings_for(table)), 10)
    assert restore(canonical, schema)["admitted"].tolist() == table["admitted"].tolist()


def test_conform_takes_a_restored_table_back() -> None:
    table = patients()
    schema, canonical = disclose(ingest(table, settings_for(table)), 10)
    pd.testing.assert_frame_equal(conform(schema, restore(canonical, schema)), canonical, check_dtype=False)
    with pytest.raises(BadInput, match="lacks"):
        conform(schema, table.drop(columns="ward"))


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_streamed_parts_are_one_table(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"rows{suffix}"
    parts = [patients(50, seed) for seed in range(3)]
    with TableWriter(path, {"fair4free.seed": "7"}) as writer:
        for part in parts:
            writer.write(part)
            assert not path.exists()
    whole = pd.concat(parts, ignore_index=True)
    back = read_table(path)
    assert back.columns.tolist() == whole.columns.tolist()
    np.testing.assert_allclose(back["lactate"], whole["lactate"])
    assert back["ward"].fillna("").tolist() == whole["ward"].fillna("").tolist()
    if suffix == ".parquet":
        assert parquet.read_metadata(path).metadata[b"fair4free.seed"] == b"7"


def test_a_writer_that_fails_leaves_the_old_file_and_no_part(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("old")

    def fail_half_way() -> None:
        with TableWriter(path, {}) as writer:
            writer.write(patients(10))
            raise RuntimeError("stopped")

    with pytest.raises(RuntimeError):
        fail_half_way()
    assert [found.name for found in tmp_path.iterdir()] == ["rows.csv"]
    assert path.read_text() == "old"
