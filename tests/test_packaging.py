"""The README's tutorial is the demo, and a consumer needs nothing of the owner's code."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from importlib.metadata import distribution
from itertools import chain
from pathlib import Path

import pandas as pd
import pytest
from typer.main import get_command

import consumer
import data_owner
from consumer.cli import app as consumer_app
from data_owner import authority
from data_owner.cli import app as owner_app
from shared.errors import BadInput
from tests.conftest import Running

ROOT = Path(__file__).parent.parent


def tutorial() -> list[str]:
    """The README's shell lines."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_the_tutorial_is_what_the_demo_runs() -> None:
    demo = (ROOT / "deploy" / "demo.sh").read_text(encoding="utf-8")
    run = re.findall(r"^(?:step (fair4free.*)|(fair4free-owner serve .*))$", demo, re.MULTILINE)
    lines = [step or re.sub(r" --(enrolment-)?address \S+", "", serve) for step, serve in run]
    assert lines == tutorial()


def test_every_command_of_the_tutorial_exists_with_its_options() -> None:
    apps = {"fair4free": get_command(consumer_app), "fair4free-owner": get_command(owner_app)}
    for line in tutorial():
        program, command, *rest = shlex.split(line)
        known = apps[program].commands[command]  # type: ignore[attr-defined]
        options = {option for parameter in known.params for option in parameter.opts}
        assert {word for word in rest if word.startswith("--")} <= options


def test_the_public_functions_are_these() -> None:
    assert set(data_owner.__all__) == {
        "approve",
        "attack",
        "deny",
        "gate",
        "init",
        "override",
        "train",
        "write_privacy_report",
    }
    assert set(consumer.__all__) == {"audit", "distill", "enrol", "fetch", "generate", "verify", "verify_ledger"}


def test_the_steps_take_paths_as_text_and_say_what_is_no_node_or_study() -> None:
    for step in (data_owner.train, data_owner.gate, data_owner.attack):
        with pytest.raises(BadInput, match="not a node"):
            step("nowhere")
    for step in (consumer.fetch, consumer.distill, consumer.audit):
        with pytest.raises(BadInput, match="not a study"):
            step("nowhere")


def test_constraints_pin_every_dependency_exactly() -> None:
    pinned = (ROOT / "deploy" / "constraints.txt").read_text(encoding="utf-8").splitlines()
    names = {line.split("==")[0].lower().replace("_", "-") for line in pinned if "==" in line}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    wanted = {re.split(r"[\[><=]", each)[0].lower() for each in declared}
    assert wanted - {"fair4free"} <= names


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_data_template_and_contract(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "data_owner/datasets/support2.parquet",
        "data_owner/datasets/ATTRIBUTION.md",
        "shared/templates/report.html.j2",
        "protocol/fair4free/v1/release.proto",
    } <= names
    assert not [name for name in names if name.startswith(("tests", "deploy"))]


def lend(name: str, home: Path) -> None:
    """Link a distribution that is installed here into a virtual environment: pip would unpack a gigabyte again."""
    found = distribution(name)
    (place,) = home.glob("lib/python*/site-packages")
    for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
        (place / top).symlink_to(Path(str(found.locate_file(top))))


def test_a_consumer_only_install_runs_every_command_with_data_owner_deleted(
    wheel: Path, running: Running, tmp_path: Path
) -> None:
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    lend("torch", home)
    python = home / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "--no-compile", "-c", ROOT / "deploy" / "constraints.txt"]
    subprocess.run([*install, "torch", f"{wheel}[consumer]"], check=True, cwd=tmp_path)
    # by path: whatever PYTHONPATH names is not to be deleted
    (installed,) = home.glob("lib/python*/site-packages/data_owner")
    shutil.rmtree(installed)
    assert subprocess.run([python, "-I", "-c", "import data_owner"], cwd=tmp_path, capture_output=True).returncode == 1
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}

    def run(*arguments: str) -> dict[str, object]:
        done = subprocess.run(
            [home / "bin" / "fair4free", *arguments, "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        envelope = json.loads(done.stdout)
        assert envelope["ok"]
        result: dict[str, object] = envelope["result"]
        return result

    enrolled = run("enrol", "study", "--invitation", str(running.node.invitation))
    from datetime import UTC, datetime

    authority.decide(
        running.node, str(enrolled["fingerprint"]), authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC)
    )
    assert run("enrol", "study")["state"] == "approved"
    assert run("fetch", "study")["version"] == 1
    run("distill", "study")
    run("generate", "study", "--rows", "700")
    run("generate", "study", "--rows", "700", "--shard", "2/2", "--out", "half.csv")
    whole, half = pd.read_parquet(tmp_path / "study" / "synthetic.parquet"), pd.read_csv(tmp_path / "half.csv")
    assert half["age"].tolist() == whole["age"].tolist()[350:]
    assert "report" in run("audit", "study")
    run("verify", "study")
    told = run("doctor", "study")
    findings = told["findings"]
    assert told["limits"]
    assert all(finding["passed"] for finding in findings)  # type: ignore[attr-defined, index]
