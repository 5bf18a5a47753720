"""What a command line prints and how it ends: nothing from the other side steers a terminal, no prompt ends loudly."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError
from typer.testing import CliRunner

from data_owner.cli import app
from shared import keyring
from shared.architecture import ARCHITECTURES
from shared.console import Shell
from shared.errors import BadInput
from shared.frozen import describe

EVIL = "evil\x1b[2J\x1b]0;title\x07\r\x9b2J\n[red]next"


def test_no_control_sequence_reaches_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    said = Shell("verify", as_json=False)
    said.result({}, EVIL)
    said.note(EVIL)
    said.failed(BadInput(EVIL, field=EVIL, remedy=EVIL))
    printed = "".join(capsys.readouterr())
    assert printed.count("evil\N{REPLACEMENT CHARACTER}[2J") == 5
    assert printed.count("\n[red]next") == 5
    assert all(each.isprintable() or each == "\n" for each in printed)


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
