"""A run of any length takes the memory of a few blocks."""

import weakref
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow.parquet as parquet
import pytest

import consumer
from consumer import steps
from protocol.artefacts import Artefact
from shared import generation
from shared.generation import Synthesiser, parse_release
from shared.limits import LIMITS
from shared.student import Student


def test_while_rows_are_made_and_written_few_blocks_are_alive(
    artefacts: dict[Artefact, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema, decoder, statistics = parse_release(
        *(artefacts[kind] for kind in (Artefact.SCHEMA, Artefact.DECODER, Artefact.STATISTICS))
    )
    synthesiser = Synthesiser(schema, decoder, statistics, Student(decoder.architecture.latent))
    tables: dict[str, list[weakref.ref[pd.DataFrame]]] = {"made": [], "written": []}
    most = 0

    def noted(kind: str, table: pd.DataFrame) -> pd.DataFrame:
        nonlocal most
        tables[kind].append(weakref.ref(table))
        most = max(most, sum(each() is not None for each in tables[kind]))
        return table

    block, restore = Synthesiser._block, generation.restore
    monkeypatch.setattr(generation, "LIMITS", replace(LIMITS, block_rows=64))
    monkeypatch.setattr(Synthesiser, "_block", lambda *given, **named: noted("made", block(*given, **named)))
    monkeypatch.setattr(generation, "restore", lambda *given: noted("written", restore(*given)))
    monkeypatch.setattr(steps, "release_with_decoder", lambda study: None)
    monkeypatch.setattr(steps, "read_student", lambda study: b"")
    monkeypatch.setattr(steps, "synthesiser_with", lambda student, study, trusted: (synthesiser, {}))
    consumer.generate(tmp_path / "study", rows=64 * 40, out=tmp_path / "rows.parquet")
    assert parquet.read_metadata(tmp_path / "rows.parquet").num_rows == 64 * 40
    assert len(tables["made"]) == len(tables["written"]) == 40
    assert most <= generation.AT_ONCE + 2, "those that are being made, the one handed over and the one written"
