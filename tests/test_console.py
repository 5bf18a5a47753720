"""What a command line prints and how it ends: nothing from the other side steers a terminal, no prompt ends loudly."""

import ctypes
import importlib
import io
import json
import os
import signal
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
import typer
from pydantic import ValidationError
from rich.console import Console
from typer.testing import CliRunner

import consumer.cli
import data_owner.cli
from data_owner import authority, decisions, steps
from data_owner.cli import app
from data_owner.node import Node
from shared import keyring
from shared.architecture import ARCHITECTURES
from shared.console import Shell, run
from shared.errors import BadInput, together
from shared.frozen import describe
from shared.printable import is_one_line
from tests.owner_process import ROOT

EVIL = "evil\x1b[2J\x1b]0;title\x07\r\x9b2J\n[red]next"


def test_no_control_sequence_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    said = Shell("verify", as_json=False)
    said.result({}, EVIL)
    said.note(EVIL)
    said.failed(BadInput(EVIL, field=EVIL, remedy=EVIL))
    printed = "".join(capsys.readouterr())
    assert printed.count("evil\N{REPLACEMENT CHARACTER}[2J") == 5
    assert printed.count("\n[red]next") == 2
    assert printed.count("J [red]next") == 3, "in an error, which is two lines, a foreign value begins none"
    assert all(is_one_line(line) for line in printed.split("\n"))


def test_a_program_reads_each_of_several_errors_by_itself(capsys: pytest.CaptureFixture[str]) -> None:
    first = BadInput("has no kind", field="age, years", remedy="set it")
    second = BadInput("is free text; exclude it", field="name", remedy="set its kind")
    Shell("train", as_json=True).failed(together([first, second]))
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["field"] == "age, years, name"
    assert error["several"] == [first.as_json(), second.as_json()]
    assert first.as_json() == {
        "kind": "BadInput",
        "field": "age, years",
        "problem": "has no kind",
        "remedy": "set it",
    }
    assert together([first]) is first


def test_a_passphrase_that_nobody_gives_is_a_refusal_that_says_where_it_may_stand(tmp_path: Path) -> None:
    environment = {keyring.VARIABLE: None, keyring.FILE_VARIABLE: None}
    done = CliRunner().invoke(app, ["root", "key", str(tmp_path / "root.key"), "--json"], env=environment, input="")
    assert done.exit_code == 2
    error = json.loads(done.stdout)["error"]
    assert error["field"] == "passphrase"
    assert keyring.FILE_VARIABLE in error["remedy"]
    assert list(tmp_path.iterdir()) == []


def test_what_is_wrong_with_foreign_content_is_told_without_a_value() -> None:
    with pytest.raises(ValidationError) as caught:
        ARCHITECTURES.validate_json('{"kind": "SECRET", "latent": "SECRET"}')
    assert describe(caught.value) == "content: is of no kind that is known"


@pytest.mark.parametrize(
    ("line", "named"),
    [("ledger verify", "ledger verify"), ("ledger nothing", "ledger"), ("gate", "gate"), ("nothing", "")],
)
def test_what_cannot_be_parsed_names_the_command_as_it_names_itself(
    line: str, named: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["fair4free-owner", *line.split(), "--json"])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as ended:
        run(app, extra="owner")
    envelope = json.loads(capsys.readouterr().out)
    assert (ended.value.code, envelope["exit_code"], envelope["command"]) == (2, 2, named)


def test_what_left_is_told_to_a_program_in_numbers(node: Node, tmp_path: Path) -> None:
    file, page = str(tmp_path / "ledger.json"), str(tmp_path / "ledger.html")
    authority.write_invitation(node, "localhost:50443", "localhost:50444")
    assert CliRunner().invoke(app, ["ledger", "export", str(node.folder), "--out", file]).exit_code == 0
    invitation = ["--invitation", str(node.invitation)]
    done = CliRunner().invoke(app, ["ledger", "report", file, *invitation, "--out", page, "--json"])
    result = json.loads(done.stdout)["result"]
    assert (result.pop("report"), result.pop("figures")) == (page, str(tmp_path / "ledger.figures.json"))
    assert result.pop("verdicts") == json.loads(Path(page).with_suffix(".figures.json").read_text())["verdicts"]
    counts = {"bytes_left": 0, "releases_approved": 1, "releases_denied": 0, "countersigning_parties": 0}
    assert result == {**counts, "seen": None}


def test_the_terminal_says_who_recalled_what_had_left(node: Node, tmp_path: Path) -> None:
    authority.write_invitation(node, "localhost:50443", "localhost:50444")
    decisions.deny(node.folder, by="Ada", reason="recalled")
    file, page = str(tmp_path / "ledger.json"), str(tmp_path / "ledger.html")
    for words in (["export", str(node.folder), "--out", file], ["report", file, "--out", page]):
        invitation = ["--invitation", str(node.invitation)] if words[0] == "report" else []
        done = CliRunner().invoke(app, ["ledger", *words, *invitation])
    assert "Releases denied: 1\n" in done.stdout
    assert "\nDenied since: release 1, by Ada: recalled." in done.stdout


NAMES = """
import signal
from pathlib import Path
import typer
from shared.console import Json, run, shell
from shared.errors import BadInput
app = typer.Typer()
@app.command()
def name(fails_by: str = "", json: Json = False):
    with shell("name", json) as out:
        if fails_by == "refusal":
            raise BadInput("no name")
        if fails_by == "fault":
            raise ValueError("SECRET")
        if fails_by:
            Path("part").touch()
            try:
                signal.raise_signal(signal.Signals[fails_by])
            finally:
                Path("part").unlink()
        Path("done").touch()
        out.result({}, "stüdy")
run(app, extra="consumer")
"""


def naming(place: Path, redirected: str, *arguments: str, before: str = "") -> subprocess.CompletedProcess[str]:
    """Run a small command in `place` under the redirections of a shell, after another command of it."""
    script = f'{before}"$@" {redirected}'
    line = ["bash", "-o", "pipefail", "-c", script, "name", sys.executable, "-c", NAMES, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    return subprocess.run(line, cwd=place, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
@pytest.mark.parametrize(("stdout", "why"), [(">/dev/full", "no space left on device"), (">&-", "bad file descriptor")])
def test_a_result_that_cannot_be_written_is_no_refusal_and_says_that_the_step_is_done(
    stdout: str, why: str, form: list[str], tmp_path: Path
) -> None:
    done = naming(tmp_path, stdout, *form)
    assert done.returncode == 3
    assert done.stderr.splitlines()[0] == f"error stdout: done, but its result cannot be written: {why}"
    assert len(done.stderr.splitlines()) == 2
    assert (tmp_path / "done").exists()


@pytest.mark.parametrize("arguments", [[], ["--json"], ["--help"]], ids=str)
def test_a_pipe_that_nobody_reads_ends_a_command_quietly(arguments: list[str], tmp_path: Path) -> None:
    done = naming(tmp_path, "| true", *arguments)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
def test_a_refusal_keeps_its_exit_code_where_nothing_can_be_written(form: list[str], tmp_path: Path) -> None:
    assert naming(tmp_path, ">/dev/full 2>/dev/full", "--fails-by", "refusal", *form).returncode == 2


def test_what_stdout_has_no_letters_for_is_written_all_the_same(tmp_path: Path) -> None:
    done = naming(tmp_path, "")
    assert (done.returncode, done.stdout) == (0, "st\\xfcdy\n")


@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
def test_ctrl_c_while_modules_load_ends_as_it_does_later(form: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    loading = typer.Typer()

    @loading.command()
    def load(json: bool = False) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sys.argv", ["fair4free", *form])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as ended:
        run(loading, extra="consumer")
    assert ended.value.code == 130


def test_a_result_goes_to_stdout_also_where_a_bar_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "train", lambda node, progress, restart: 1)
    done = CliRunner().invoke(app, ["train", "hospital", "--json"], env={"FORCE_COLOR": "1"})
    assert json.loads(done.stdout)["result"] == {"version": 1, "state": "draft"}


def test_a_terminal_that_cannot_redraw_a_line_is_told_of_progress_in_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.console.LINE_EVERY_SECONDS", -1.0)
    said = Console(file=io.StringIO(), force_terminal=True, no_color=True, _environ={"TERM": "dumb"})
    with Shell("train", as_json=False, err=said).progress("training") as update:
        update(1, 2, "loss 3")
    assert said.file.getvalue() == "training: 1 of 2, loss 3\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize("program", [consumer.cli, data_owner.cli])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
def test_a_command_whose_extra_is_not_installed_says_which(
    program: ModuleType, form: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def loads(*arguments: object) -> None:
        raise ModuleNotFoundError("No module named 'tomlkit'", name="tomlkit.items")

    monkeypatch.setattr("sys.argv", [program.__name__, "doctor", "place", *form])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    monkeypatch.setattr(f"{program.__package__}.doctor.diagnose", loads)
    monkeypatch.setattr(Node, "open", Node)
    with pytest.raises(SystemExit) as ended:
        program.main()
    assert ended.value.code == 2
    out, err = capsys.readouterr()
    extra = {"consumer": "consumer", "data_owner": "owner"}[str(program.__package__)]
    remedy = f"remedy pip install -c deploy/constraints.txt -e '.[{extra}]'"
    assert err.splitlines() == ["error tomlkit: is not installed", remedy]
    assert [json.loads(line)["command"] for line in out.splitlines()] == ["doctor"] * len(form)


def test_a_module_of_ours_that_is_missing_stays_loud(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = typer.Typer()
    broken.command()(lambda: importlib.import_module("shared.nothing"))
    monkeypatch.setattr("sys.argv", ["fair4free"])
    monkeypatch.setattr("signal.signal", lambda number, handler: None)
    with pytest.raises(SystemExit) as ended:
        run(broken, extra="consumer")
    assert ended.value.code == 70
    assert "ModuleNotFoundError: No module named 'shared.nothing'" in capsys.readouterr().err


@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
def test_a_fault_of_the_program_is_no_refusal_and_its_envelope_holds_no_value(form: list[str], tmp_path: Path) -> None:
    done = naming(tmp_path, "", "--fails-by", "fault", *form)
    assert done.returncode == 70
    assert "ValueError: SECRET" in done.stderr
    assert "SECRET" not in done.stdout
    envelopes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["exit_code"], each["error"]["kind"]) for each in envelopes] == [(70, "Bug")] * len(form)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT], ids=str)
@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
def test_a_command_that_is_stopped_undoes_what_it_began_and_says_so_in_one_envelope(
    number: signal.Signals, form: list[str], tmp_path: Path
) -> None:
    done = naming(tmp_path, "", "--fails-by", number.name, *form)
    assert (done.returncode, done.stderr) == (128 + number, f"error stopped by {number.name}\n")
    assert not (tmp_path / "part").exists()
    envelopes = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["ok"], each["exit_code"], each["error"]["kind"]) for each in envelopes] == [
        (False, 128 + number, "Stopped")
    ] * len(form)


def test_a_command_whose_terminal_may_hang_up_goes_on(tmp_path: Path) -> None:
    ignoring = naming(tmp_path, "", "--fails-by", "SIGHUP", before="trap '' HUP; ")
    assert (ignoring.returncode, ignoring.stdout) == (0, "st\\xfcdy\n")


def test_help_that_cannot_be_written_is_no_refusal(tmp_path: Path) -> None:
    done = naming(tmp_path, ">/dev/full", "--help")
    assert (done.returncode, done.stderr.splitlines()[0]) == (3, "error cannot write: no space left on device")
    assert len(done.stderr.splitlines()) == 2


@pytest.mark.parametrize("form", [[], ["--json"]], ids=str)
def test_bad_usage_stays_what_it_is_where_stderr_takes_nothing(form: list[str], tmp_path: Path) -> None:
    assert naming(tmp_path, "2>/dev/full", "--no-such-option", *form).returncode == 2


@pytest.mark.parametrize("program", [consumer.cli, data_owner.cli])
def test_a_misspelt_command_is_answered_with_one_guess_and_the_program_says_its_version(program: ModuleType) -> None:
    guessed = CliRunner().invoke(program.app, ["doctr"])
    assert (guessed.exit_code, guessed.output.count("Did you mean")) == (2, 1)
    done = CliRunner().invoke(program.app, ["--version"])
    assert (done.exit_code, done.stdout) == (0, f"{version('fair4free')}\n")


CAPABILITY_DROP, OVERRIDE, SEARCH = 24, 1, 2


def as_others_are() -> None:
    """Root, too, may then read only what its owner lets it: prctl(2), capabilities(7)."""
    for each in (OVERRIDE, SEARCH):
        ctypes.CDLL(None).prctl(CAPABILITY_DROP, each, 0, 0, 0)


@pytest.mark.parametrize(
    "line",
    [
        "fair4free doctor closed",
        "fair4free enrol study --invitation closed.json",
        "fair4free-owner doctor closed",
        "fair4free-owner init node --target died --sensitive sex --data closed.csv",
        "fair4free-owner ledger verify closed.json --invitation closed.json",
    ],
)
def test_what_may_not_be_read_is_no_bad_usage(line: str, tmp_path: Path) -> None:
    for name in ("closed.json", "closed.csv"):
        (tmp_path / name).touch(0o000)
    (tmp_path / "closed").mkdir(0o000)
    program, *words = line.split()
    module = {"fair4free": "consumer", "fair4free-owner": "data_owner"}[program]
    done = subprocess.run(
        [sys.executable, "-c", f"from {module}.cli import main; main()", *words, "--json"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        preexec_fn=as_others_are,
    )
    assert done.returncode == 3, done.stderr
    error = json.loads(done.stdout)["error"]
    assert "closed" in error["field"]
    assert error["remedy"] not in ("", "see --help")


@pytest.mark.parametrize("program", [consumer.cli, data_owner.cli])
def test_a_doctor_is_not_content_with_a_folder_that_is_none_of_its_own(program: ModuleType, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "misspelt"):
        done = CliRunner().invoke(program.app, ["doctor", str(folder), "--json"])
        error = json.loads(done.stdout)["error"]
        assert (done.exit_code, error["field"], bool(error["remedy"])) == (2, str(folder), True)
