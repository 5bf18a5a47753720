"""What every command says and takes; and how large a release may get."""

import errno
import importlib
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import click
import pandas as pd
import pytest
import torch
import typer
from typer.testing import CliRunner

import consumer.cli
import data_owner.cli
from consumer.study import Study
from data_owner import steps
from data_owner.attacks.attack import Attack
from data_owner.authority import Decision
from data_owner.benchmark.run import Request
from data_owner.cli import _measured, _unsure
from data_owner.datasets import DATASETS, load
from data_owner.learning import fitting
from data_owner.learning.teacher import TeacherSettings
from data_owner.node import Node
from data_owner.records.disclosure import disclose
from data_owner.records.infer import infer
from data_owner.records.ingest import ingest
from data_owner.settings import OwnerSettings, PrivacySettings
from protocol.access import PartyRole
from protocol.artefacts import Artefact
from shared import folder
from shared.architecture import Architecture
from shared.card import AttackVerdict
from shared.console import shell
from shared.decoder import Decoder
from shared.errors import BadInput, Unreachable
from shared.schema import Schema
from shared.scores import Fidelity, Scores
from shared.statistics import measure
from shared.student import Distillation
from tests.conftest import QUICK, patients, settings_for

ROOT = Path(__file__).parent.parent
HOSPITAL, STUDY = Path("hospital"), Path("study")


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


@pytest.mark.parametrize("app", [consumer.cli.app, data_owner.cli.app])
def test_help_is_whole_on_a_terminal_of_80_columns(app: typer.Typer) -> None:
    def lines(found: click.Command, words: list[str]) -> list[str]:
        inner = found.commands.items() if isinstance(found, click.Group) else ()
        page = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80"}).stdout.splitlines()
        return [*page, *(line for name, each in inner for line in lines(each, [*words, name]))]

    said = lines(typer.main.get_command(app), [])
    assert len(said) > 100
    assert [line for line in said if "…" in line] == []


# command line, the function it hands on to, and all that must arrive there
OWNER = [
    (
        "init hospital --data a.csv --images pictures --labels b.csv --size 32 --skip-bad-files --dataset compas "
        "--sensitive sex --sensitive race --target died --positive no --name clinic --merge-small-groups --epsilon 3",
        "data_owner.steps.init",
        {
            "path": HOSPITAL,
            "data": Path("a.csv"),
            "images": Path("pictures"),
            "labels": Path("b.csv"),
            "size": 32,
            "skip_bad_files": True,
            "dataset_name": "compas",
            "sensitive": ("sex", "race"),
            "target": "died",
            "positive": "no",
            "name": "clinic",
            "small_groups": "merge",
            "epsilon": 3.0,
        },
    ),
    ("train hospital --restart", "data_owner.steps.train", {"path": HOSPITAL, "restart": True}),
    ("gate hospital", "data_owner.steps.gate", {"path": HOSPITAL}),
    ("attack hospital --shadows 4", "data_owner.attack_steps.attack", {"path": HOSPITAL, "shadows": 4}),
    (
        "override hospital --by Ada --reason why",
        "data_owner.decisions.override",
        {"path": HOSPITAL, "by": "Ada", "reason": "why"},
    ),
    (
        "privacy hospital --version 3",
        "data_owner.decisions.write_privacy_report",
        {"path": HOSPITAL, "version": 3},
    ),
    ("approve hospital --by Ada", "data_owner.decisions.approve", {"path": HOSPITAL, "by": "Ada"}),
    (
        "deny hospital --by Ada --reason why --version 3",
        "data_owner.decisions.deny",
        {"path": HOSPITAL, "by": "Ada", "reason": "why", "version": 3},
    ),
    (
        "enrol hospital --approve ab --by Ada --role auditor",
        "data_owner.authority.decide",
        {
            "node": Node(HOSPITAL),
            "fingerprint": "ab",
            "decision": Decision.APPROVED,
            "by": "Ada",
            "role": PartyRole.AUDITOR,
        },
    ),
    (
        "enrol hospital --deny ab --by Ada",
        "data_owner.authority.decide",
        {
            "node": Node(HOSPITAL),
            "fingerprint": "ab",
            "decision": Decision.DENIED,
            "by": "Ada",
            "role": None,
        },
    ),
    (
        "serve hospital --address a:1 --enrolment-address b:2 --metrics-address c:3 --host-name here",
        "data_owner.serving.server.serve",
        {
            "node": Node(HOSPITAL),
            "address": "a:1",
            "enrolment_address": "b:2",
            "metrics_address": "c:3",
            "host_name": "here",
        },
    ),
    ("load hospital", "data_owner.load.load", {"node": Node(HOSPITAL)}),
    ("doctor hospital", "data_owner.doctor.diagnose", {"node": Node(HOSPITAL)}),
    ("budget hospital", "data_owner.owner_toml.read_settings", {"node": Node(HOSPITAL)}),
    (
        "benchmark compas --sensitive sex --sensitive race --system repaired --folds 3 --seeds 2 --sweep --quick "
        "--out place --workers 7",
        "data_owner.benchmark.run.run",
        {
            "request": Request("compas", ("sex", "race"), ("repaired",), 3, 2, sweep=True, quick=True),
            "out": Path("place"),
            "workers": 7,
        },
    ),
]
CONSUMER = [
    (
        "enrol study --invitation a.json --name Bea --wait 9",
        "consumer.receiving_steps.enrol",
        {"path": STUDY, "invitation": Path("a.json"), "name": "Bea", "wait_seconds": 9.0},
    ),
    ("fetch study --version 3", "consumer.receiving_steps.fetch", {"path": STUDY, "version": 3}),
    (
        "verify study --ledger a.json",
        "consumer.receiving_steps.verify_ledger",
        {"path": STUDY, "exported": Path("a.json")},
    ),
    ("distill study --seed 5", "consumer.steps.distill", {"path": STUDY, "seed": 5}),
    (
        "generate study --rows 8 --out a.csv --seed 5 --shard 2/3 --balanced",
        "consumer.steps.generate",
        {"path": STUDY, "rows": 8, "out": Path("a.csv"), "seed": 5, "shard": "2/3", "balanced": True},
    ),
    (
        "audit study --synthetic a.csv --real b.csv",
        "consumer.audit_steps.audit",
        {"path": STUDY, "synthetic": Path("a.csv"), "real": Path("b.csv")},
    ),
    ("doctor study", "consumer.doctor.diagnose", {"study": Study(STUDY)}),
]


@pytest.mark.parametrize("wait", ["nan", "inf", "-1"])
def test_a_wait_that_never_ends_is_refused_before_the_owner_is_asked(wait: str, tmp_path: Path) -> None:
    error = command("consumer", "enrol", "study", "--wait", wait, cwd=tmp_path, code=2)
    assert (error["field"], error["remedy"]) == ("--wait", "give seconds, 0 or more")
    assert not list(tmp_path.iterdir())


ROLES = {"target": "died", "sensitive": ("région",), "positive": "1"}


@pytest.mark.parametrize("stops", [Unreachable("the disk is full"), KeyboardInterrupt()])
@pytest.mark.parametrize("is_there", [True, False])
def test_an_init_that_is_cut_off_leaves_nothing_of_a_node_and_can_be_run_again(
    stops: BaseException, is_there: bool, table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node, write = Node(tmp_path / "node"), folder.write
    if is_there:
        node.folder.mkdir()

    def cut_off(path: Path, *arguments: Any) -> None:
        if path == node.settings:  # the last of all
            raise stops
        write(path, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(folder, "write", cut_off)
        with pytest.raises(type(stops)):
            steps.init(node.folder, data=table, **ROLES)
    assert set(node.folder.iterdir()) <= {node.lock}
    steps.init(node.folder, data=table, **ROLES)
    assert Node.open(node.folder).records.is_file()


def test_an_init_keeps_what_came_into_its_folder_while_it_read(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = Node(tmp_path / "node")

    def another(*arguments: Any, **named: Any) -> OwnerSettings:
        with monkeypatch.context() as patch:
            patch.setattr(steps, "infer", infer)
            steps.init(node.folder, data=table, **ROLES)
        return infer(*arguments, **named)

    monkeypatch.setattr(steps, "infer", another)
    with pytest.raises(BadInput, match="not empty"):
        steps.init(node.folder, data=table, **ROLES)
    assert Node.open(node.folder).ledger.is_file()


def test_what_init_prints_can_be_pasted_and_a_program_hears_it_too(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = steps.init(tmp_path / "sp ace", data=table, **ROLES)
    with_budget = settings.model_copy(update={"privacy": PrivacySettings(epsilon=1.0)})
    monkeypatch.setattr(steps, "init", lambda *arguments, **named: with_budget)
    node = tmp_path / "sp ace"
    said = CliRunner().invoke(data_owner.cli.app, ["init", str(node)]).stdout
    assert f"`fair4free-owner budget '{node}'`" in said
    assert "Kinds were guessed from the records" in said, "also where every column is declared"
    found = json.loads(CliRunner().invoke(data_owner.cli.app, ["init", str(node), "--json"]).stdout)["result"]
    assert (found["positive"], found["settings"]) == ("1", str(node / "owner.toml"))


def test_the_page_about_privacy_has_one_name_in_every_result(monkeypatch: pytest.MonkeyPatch) -> None:
    gated = MagicMock(failures=(), exceeded=())
    gated.version = 1
    gated.measured.card.model_dump.return_value = {}
    attacked = SimpleNamespace(version=1, is_rehearsal=True, exceeded=(), verdicts=())
    page = Node(HOSPITAL).privacy_report
    monkeypatch.setattr(steps, "gate", lambda *arguments, **named: gated)
    monkeypatch.setattr("data_owner.cli._measured", lambda card: "")
    monkeypatch.setattr("data_owner.cli._unsure", lambda made, card: "")
    monkeypatch.setattr("data_owner.attack_steps.attack", lambda *arguments, **named: attacked)
    monkeypatch.setattr("data_owner.decisions.write_privacy_report", lambda *arguments, **named: page)
    for name in ("gate", "attack", "privacy"):
        done = CliRunner().invoke(data_owner.cli.app, [name, str(HOSPITAL), "--json"])
        assert json.loads(done.stdout)["result"]["privacy_report"] == str(page), name
    said = CliRunner().invoke(data_owner.cli.app, ["privacy", str(HOSPITAL)]).stdout
    assert said.strip() == f"wrote {page}: read it before anything is approved."


def test_who_denies_by_a_rehearsal_is_told_why_and_that_analysts_read_the_reason(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refuted = "canaries refute the guarantee of ε = 1.00"
    verdicts = (AttackVerdict(attack="canaries", finding="resisted"),)  # within the policy's limit
    attacked = SimpleNamespace(version=1, is_rehearsal=True, exceeded=(refuted,), verdicts=verdicts)
    monkeypatch.setattr("data_owner.attack_steps.attack", lambda *arguments, **named: attacked)
    said = CliRunner().invoke(data_owner.cli.app, ["attack", str(HOSPITAL)]).stdout
    assert f"Against it: {refuted}.\nSo deny release 1" in said
    assert "put no figure of the rehearsal into it" in said
    assert "succeed" not in said, "what blocks may be what could not be told"
    told = json.loads(CliRunner().invoke(data_owner.cli.app, ["attack", str(HOSPITAL), "--json"]).stdout)["result"]
    assert (told["attacks"], told["exceeded"]) == ({"canaries": "resisted"}, [refuted])
    attacked.exceeded = ()
    told = json.loads(CliRunner().invoke(data_owner.cli.app, ["attack", str(HOSPITAL), "--json"]).stdout)["result"]
    assert told["exceeded"] == []


@pytest.mark.parametrize("failures", [(), ("coverage is low; far too low", "density is low")])
@pytest.mark.parametrize("exceeded", [(), ("reconstruction (everyone)", "singling out (everyone)")])
def test_a_program_reads_each_reason_of_a_refused_gate_and_a_person_which_pages_tell_more(
    failures: tuple[str, ...], exceeded: tuple[str, ...], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    gated = MagicMock(version=1, failures=failures, exceeded=exceeded)
    monkeypatch.setattr(steps, "gate", lambda *arguments, **named: gated)
    monkeypatch.setattr("data_owner.cli._measured", lambda card: "")
    monkeypatch.setattr("data_owner.cli._unsure", lambda made, card: "")
    gated.measured.card.model_dump.return_value = {}
    done = CliRunner().invoke(data_owner.cli.app, ["gate", str(node.folder), "--json"])
    if not failures and not exceeded:
        assert done.exit_code == 0
        return
    error = json.loads(done.stdout)["error"]
    assert (error["version"], error["failures"], error["exceeded"]) == (1, [*failures], [*exceeded])
    assert error["kind"] == "PolicyRefusal"
    assert (str(node.report) in error["remedy"]) is bool(failures)
    assert (str(node.privacy_report) in error["remedy"]) is bool(exceeded)


@pytest.mark.parametrize(
    ("app", "line", "step"),
    [
        (data_owner.cli.app, "init hospital", "data_owner.steps.init"),
        (consumer.cli.app, "enrol study --wait 60", "consumer.receiving_steps.enrol"),
    ],
)
def test_what_may_take_long_shows_that_it_goes_on(
    app: typer.Typer, line: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*arguments: object, **named: object) -> None:
        raise Arrived("it arrived")

    monkeypatch.setattr(step, stop)
    done = CliRunner().invoke(app, line.split(), env={"FORCE_COLOR": "1"})
    assert "0:00:00" in done.stderr


def test_one_sensitive_column_may_be_given_by_its_name_alone(table: pd.DataFrame, tmp_path: Path) -> None:
    settings = steps.init(tmp_path / "node", data=table, target="died", sensitive="région", positive="1")
    assert settings.columns["région"].role == "sensitive"


@pytest.mark.parametrize(("folder", "name"), [("ab\u200bc", None), ("node", "two\nlines"), ("node", "x" * 201)])
def test_a_node_whose_name_cannot_be_shown_is_refused_before_records_are_read(
    folder: str, name: str | None, tmp_path: Path
) -> None:
    with pytest.raises(BadInput, match="not a name that can be shown") as refused:
        steps.init(tmp_path / folder, data=tmp_path / "nothing.csv", name=name)
    assert refused.value.field == "--name"
    assert not (tmp_path / folder).exists()


class Arrived(BadInput):
    """Ends a command where it hands on."""


@pytest.mark.parametrize(
    ("app", "line", "step", "expected"),
    [(data_owner.cli.app, *each) for each in OWNER] + [(consumer.cli.app, *each) for each in CONSUMER],
)
def test_what_is_given_on_a_command_line_arrives_where_it_is_used(
    app: typer.Typer, line: str, step: str, expected: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, name = step.rpartition(".")
    given = inspect.signature(getattr(importlib.import_module(module), name))
    arrived: dict[str, object] = {}

    def stop(*arguments: object, **named: object) -> None:
        arrived.update(given.bind(*arguments, **named).arguments)
        raise Arrived("it arrived")

    with monkeypatch.context() as patch:
        patch.setattr(step, stop)
        patch.setattr(Node, "open", Node)
        patch.setattr("consumer.receiving_steps.verify", MagicMock())
        patch.setattr("data_owner.serving.logs.configure", lambda: None)
        done = CliRunner().invoke(app, [*line.split(), "--json"])
    assert {name: value for name, value in arrived.items() if name not in ("progress", "ready", "now")} == expected
    assert json.loads(done.stdout)["command"] == line.split()[0]


@pytest.mark.parametrize(("app", "lines"), [(data_owner.cli.app, OWNER), (consumer.cli.app, CONSUMER)])
def test_of_every_command_every_option_is_known_to_arrive(app: typer.Typer, lines: list[tuple[str, ...]]) -> None:
    """Those of groups, `ledger` and `root`, are run for real elsewhere."""
    every = typer.main.get_command(app)
    for each in commands_of(every):
        assert "--json" in {option for parameter in each.params for option in parameter.opts}
    for name, each in every.commands.items():  # type: ignore[attr-defined]
        given = {word for line, *_ in lines if line.split()[0] == name for word in line.split()}
        options = {parameter.opts[0] for parameter in each.params if isinstance(parameter, click.Option)}
        assert isinstance(each, click.Group) or options - {"--json"} <= given


@pytest.mark.parametrize(
    ("line", "step", "changed", "said"),
    [
        ("distill s", "consumer.steps.distill", 1.0, "Next: generate."),
        ("distill s", "consumer.steps.distill", 3.0, "Next: distill with another --seed: a Gaussian is nearer."),
        ("fetch s", "consumer.receiving_steps.fetch", Artefact.DECODER, "Next: distill."),
        ("fetch s", "consumer.receiving_steps.fetch", Artefact.CARD, "Next: verify: an auditor holds no decoder."),
    ],
)
def test_the_next_step_is_one_that_the_analyst_can_take(
    line: str, step: str, changed: object, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = {
        "distill s": lambda: Distillation(
            distance=changed, gaussian_distance=2.0, prior_distance=4.0, history=((1, 1.0),)
        ),
        "fetch s": lambda: MagicMock(received=7, release=MagicMock(artefacts={changed: b""})),
    }
    with monkeypatch.context() as patch:
        patch.setattr(step, lambda *arguments, **named: found[line]())
        assert CliRunner().invoke(consumer.cli.app, line.split()).stdout.endswith(f"{said}\n")


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


def test_who_approves_hears_of_each_ratio_and_of_density_beside_what_the_records_have() -> None:
    scores = {"demographic_parity_ratio": 0.8, "equalized_odds_ratio": 0.41, "accuracy": 0.9, "recall": 0.8, "f1": 0.8}
    card = SimpleNamespace(
        synthetic=Scores(**scores),
        original=Scores(**{**scores, "equalized_odds_ratio": 0.78}),
        fidelity=Fidelity(density=0.68, coverage=1.0),
        fidelity_ceiling=Fidelity(density=0.99, coverage=1.0),
    )
    said = _measured(card)  # type: ignore[arg-type]
    assert "equalized odds 0.41 (original 0.78)" in said
    assert "density 0.68 (original 0.99)" in said


def sizes(schema: Schema, teacher: TeacherSettings) -> dict[Artefact, int]:
    """Of a release, in bytes: they follow from the shapes alone, an untrained teacher has them too."""
    decoder = Decoder(Architecture.for_schema(schema, teacher.latent, teacher.hidden, teacher.head))
    membership = torch.nn.functional.one_hot(torch.arange(900) % len(schema.groups))
    latents = torch.randn(900, teacher.latent)
    statistics = measure(latents, torch.ones_like(latents), membership, membership[:, :2], seed=0)
    return {
        Artefact.DECODER: len(decoder.to_bytes()),
        Artefact.STATISTICS: len(statistics.to_bytes()),
        Artefact.SCHEMA: len(schema.to_bytes()),
    }


@pytest.mark.parametrize("name", DATASETS)
def test_a_release_of_each_data_set_stays_under_300_kilobytes(name: str) -> None:
    known = DATASETS[name]
    table = load(name)
    settings = infer(table, name=name, source=name, target=known.target, sensitive=known.sensitive[:1])
    schema, _ = disclose(ingest(table, settings), 10)
    found, card_and_manifest = sizes(schema, TeacherSettings()), 5_000
    assert sum(found.values()) + card_and_manifest < 300_000, found


def test_a_release_of_twice_the_rows_is_no_larger() -> None:
    table = patients(6000)
    tables = (table, pd.concat([table, table], ignore_index=True))
    once, twice = (sizes(fitting.split(rows, settings_for(rows)).schema, QUICK) for rows in tables)
    assert twice[Artefact.DECODER] == once[Artefact.DECODER]
    assert twice[Artefact.STATISTICS] == once[Artefact.STATISTICS]
    assert twice[Artefact.SCHEMA] <= once[Artefact.SCHEMA] + 64  # digits of rounded shares may differ
