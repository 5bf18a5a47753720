"""A file nobody has seen, through every command, as real processes; and how large a release may get."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
import torch
import typer

import consumer.cli
import data_owner.cli
from data_owner import fitting
from data_owner.attacks.attack import Attack
from data_owner.cli import _unsure
from data_owner.datasets import DATASETS, load
from data_owner.disclosure import disclose
from data_owner.infer import infer
from data_owner.ingest import ingest
from data_owner.teacher import TeacherSettings
from protocol.artefacts import Artefact
from shared.architecture import Architecture
from shared.card import AttackVerdict
from shared.console import shell
from shared.decoder import Decoder
from shared.errors import Unreachable
from shared.statistics import measure
from tests.conftest import QUICK, patients, settings_for

ROOT = Path(__file__).parent.parent


def command(program: str, *arguments: str, cwd: Path, code: int = 0) -> dict[str, object]:
    """Run one command with --json; returns its result, or its error when `code` is not 0."""
    done = subprocess.run(
        [sys.executable, "-c", f"from {program}.cli import main; main()", *arguments, "--json"],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == code, done.stderr
    envelope = json.loads(done.stdout)
    found: dict[str, object] = envelope["result" if code == 0 else "error"]
    return found


def odd_file(path: Path) -> pd.DataFrame:
    """Odd names, ISO dates, decimals, 40 % missing in places, three groups, and a patient number."""
    table = patients(900, seed=3)
    draw = np.random.default_rng(0)
    table["Blutdruck (mmHg) – früh"] = np.round(draw.normal(120, 15, 900), 1)
    table.loc[draw.random(900) < 0.4, ["Blutdruck (mmHg) – früh"]] = np.nan
    table.loc[draw.random(900) < 0.4, ["ward"]] = None
    table["admitted"] = table["admitted"].dt.strftime("%Y-%m-%d")
    table.insert(0, "patient nr", np.arange(5000, 5900))
    table.to_csv(path, index=False)
    return table


def commands_of(found: click.Command) -> list[click.Command]:
    """A command, or all those of a group."""
    if isinstance(found, click.Group):
        return [inner for each in found.commands.values() for inner in commands_of(each)]
    return [found]


@pytest.mark.parametrize("app", [consumer.cli.app, data_owner.cli.app])
def test_help_says_what_every_argument_and_option_is(app: typer.Typer) -> None:
    found = commands_of(typer.main.get_command(app))
    assert len(found) > 5
    for each in found:
        for parameter in each.params:
            assert getattr(parameter, "help", None), f"{each.name} {parameter.name}"


def test_what_cannot_be_parsed_ends_in_an_envelope_too(tmp_path: Path) -> None:
    error = command("consumer", "generate", "study", cwd=tmp_path, code=2)
    assert error["problem"] == "Missing option '--rows'."
    assert command("data_owner", "no-such-command", cwd=tmp_path, code=2)["remedy"]


def test_a_folder_that_may_not_be_read_is_out_of_reach_and_no_refusal(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended, shell("verify", as_json=True):
        raise PermissionError(errno.EACCES, "Permission denied", "study/last_seen.json")
    assert ended.value.code == Unreachable.exit_code == 3
    envelope = json.loads(capsys.readouterr().out)
    assert envelope["error"]["field"] == "study/last_seen.json"
    assert envelope["error"]["remedy"]


def test_who_approves_hears_which_attack_could_not_tell_and_that_the_strongest_was_not_made() -> None:
    unsure = SimpleNamespace(attacks=(AttackVerdict(attack="linkability", finding="inconclusive"),))
    said = _unsure(SimpleNamespace(made=frozenset()), unsure)  # type: ignore[arg-type]
    assert said == " (inconclusive: linkability; the strongest was not made: `fair4free-owner attack`)"
    assert _unsure(SimpleNamespace(made=frozenset(Attack)), SimpleNamespace(attacks=())) == ""  # type: ignore[arg-type]


def test_an_unseen_file_goes_through_every_command_with_only_owner_toml_edited(tmp_path: Path) -> None:
    original = odd_file(tmp_path / "Zählung 2024.csv")

    def owner(name: str, *arguments: str, code: int = 0) -> dict[str, object]:
        return command("data_owner", name, "hospital", *arguments, cwd=tmp_path, code=code)

    def analyst(name: str, *arguments: str) -> dict[str, object]:
        return command("consumer", name, "study", *arguments, cwd=tmp_path)

    found = owner("init", "--data", "Zählung 2024.csv", "--sensitive", "région", "--target", "died")
    assert found["undecided"] == ["patient nr"]
    assert owner("train", code=1)["field"] == "patient nr"
    settings = tmp_path / "hospital" / "owner.toml"
    settings.write_text(settings.read_text("utf-8").replace('kind = "undecided"', 'kind = "exclude"'), "utf-8")
    assert owner("train") == {"version": 1, "state": "draft"}
    assert owner("approve", "--by", "Ada", code=1)["field"] == "release"
    assert command("data_owner", "serve", "hospital", cwd=tmp_path, code=1)["field"] == "release"
    owner("gate")
    owner("approve", "--by", "Ada")
    serve = subprocess.Popen(
        [
            *(sys.executable, "-c", "from data_owner.cli import main; main()", "serve", "hospital"),
            *("--address", "127.0.0.1:0", "--enrolment-address", "127.0.0.1:0"),
        ],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 60
        while not (tmp_path / "hospital" / "invitation.json").is_file():
            assert serve.poll() is None
            assert time.monotonic() < until
            time.sleep(0.1)
        fingerprint = str(analyst("enrol", "--invitation", "hospital/invitation.json")["fingerprint"])
        owner("enrol", "--approve", fingerprint, "--by", "Ada")
        analyst("enrol")
        analyst("fetch")
    finally:
        serve.send_signal(signal.SIGTERM)
        assert serve.wait(30) == 0
    analyst("distill")
    analyst("generate", "--rows", "300", "--balanced", "--out", str(tmp_path / "for-models.csv"))
    analyst("generate", "--rows", "5000")
    assert "report" in analyst("audit")
    assert "report" in analyst("audit", "--real", "Zählung 2024.csv")
    rows = pd.read_parquet(tmp_path / "study" / "synthetic.parquet")
    kept = original.drop(columns="patient nr")
    assert rows.columns.tolist() == kept.columns.tolist()
    assert rows["admitted"].str.fullmatch(r"20\d\d-\d\d-\d\d").all()
    assert set(rows["région"]) == {"north", "south", "east"}
    assert set(rows["ward"].dropna()) == {"surgery", "medicine", "intensive care"}
    for name in ("Blutdruck (mmHg) – früh", "ward", "lactate"):
        assert rows[name].isna().mean() == pytest.approx(kept[name].isna().mean(), abs=0.06)
    assert (rows["days in ward"] == 0.0).mean() == pytest.approx((kept["days in ward"] == 0.0).mean(), abs=0.06)
    assert rows["Blutdruck (mmHg) – früh"].mean() == pytest.approx(kept["Blutdruck (mmHg) – früh"].mean(), abs=3.0)
    assert (str(rows["age"].dtype), str(rows["ventilated"].dtype)) == ("int64", "bool")
    for_models = pd.read_csv(tmp_path / "for-models.csv")
    assert len(for_models) == 300
    assert list(for_models) == list(rows)
    metadata = parquet.read_metadata(tmp_path / "study" / "synthetic.parquet").metadata
    assert {b"fair4free.manifest_sha256", b"fair4free.student_sha256", b"fair4free.seed", b"fair4free.version"} <= set(
        metadata
    )


@pytest.mark.parametrize("name", DATASETS)
def test_a_release_of_each_data_set_stays_under_300_kilobytes(name: str) -> None:
    """Sizes follow from the shapes alone: an untrained teacher has them too."""
    known = DATASETS[name]
    table = load(name)
    settings = infer(table, name=name, source=name, target=known.target, sensitive=known.sensitive[:1])
    schema, _ = disclose(ingest(table, settings), 10)
    teacher = TeacherSettings()
    decoder = Decoder(Architecture.for_schema(schema, teacher.latent, teacher.hidden, teacher.head))
    membership = torch.nn.functional.one_hot(torch.arange(900) % len(schema.groups))
    latents = torch.randn(900, teacher.latent)
    statistics = measure(latents, torch.ones_like(latents), membership, membership[:, :2], seed=0)
    sizes = [len(part) for part in (decoder.to_bytes(), statistics.to_bytes(), schema.to_bytes())]
    card_and_manifest = 5_000
    assert sum(sizes) + card_and_manifest < 300_000, sizes


def test_a_release_of_twice_the_rows_is_no_larger() -> None:
    table = patients(6000)
    sizes = []
    for rows in (table, pd.concat([table, table], ignore_index=True)):
        prepared = fitting.split(rows, settings_for(rows))
        released = fitting.artefacts(prepared.schema, fitting.fit(prepared, settings_for(rows).training, QUICK))
        sizes.append({kind: len(data) for kind, data in released.items()})
    once, twice = sizes
    assert twice[Artefact.DECODER] == once[Artefact.DECODER]
    assert twice[Artefact.STATISTICS] == once[Artefact.STATISTICS]
    assert twice[Artefact.SCHEMA] <= once[Artefact.SCHEMA] + 64  # digits of rounded shares may differ
