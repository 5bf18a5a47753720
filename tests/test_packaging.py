"""The README's tutorial is the demo, and a file nobody has seen reaches a consumer who has nothing of the owner's."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pyarrow.parquet as parquet
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

import consumer
import data_owner
from data_owner.benchmark.baselines.decaf import REQUIREMENTS
from data_owner.node import Node
from protocol.fair4free.v1 import release_pb2_grpc
from shared.errors import BadInput
from tests.conftest import patients
from tests.owner_process import ROOT, owner_process
from tests.test_commands import command


def tutorial() -> list[str]:
    """The README's shell lines."""
    blocks = re.findall(r"```sh\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def test_the_tutorial_is_what_the_demo_runs() -> None:
    demo = (ROOT / "deploy" / "demo.sh").read_text(encoding="utf-8")
    run = re.findall(r"^(?:step (fair4free.*)|(fair4free-owner serve .*))$", demo, re.MULTILINE)
    lines = [step or re.sub(r" --(enrolment-)?address \S+", "", serve) for step, serve in run]
    assert lines == tutorial()


def test_what_the_demo_prints_can_be_pasted() -> None:
    (step,) = re.findall(r"^step\(\).*$", (ROOT / "deploy" / "demo.sh").read_text("utf-8"), re.MULTILINE)
    words = ["true", "approve", "--by", "Dr. Ada Quinn"]
    done = subprocess.run(
        ["bash", "-c", f'{step}\nstep "$@"', "bash", *words], capture_output=True, text=True, check=True
    )
    assert shlex.split(done.stdout.removeprefix("\n$")) == words


def would_run(target: str, place: Path) -> list[str]:
    """What `make target` would run in `place`."""
    say = ["make", "-n", "-f", str(ROOT / "Makefile"), target]
    alone = {"PATH": os.environ["PATH"]}  # not as a part of the `make test` that may run us
    return subprocess.run(say, cwd=place, env=alone, capture_output=True, text=True, check=True).stdout.splitlines()


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_an_environment_that_was_left_half_made_is_made_again(tmp_path: Path) -> None:
    for needed in ("pyproject.toml", "deploy/constraints.txt", ".venv/bin/python"):
        (tmp_path / needed).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / needed).touch()
    makes = "python3.11 -m venv .venv"
    assert would_run("demo", tmp_path)[0] == makes
    (tmp_path / ".venv" / "bin" / "pip").touch()
    assert makes not in would_run("demo", tmp_path)


@pytest.mark.skipif(not shutil.which("make"), reason="no make here")
def test_make_clean_removes_what_make_makes(tmp_path: Path) -> None:
    assert would_run("clean", tmp_path) == ["rm -rf .venv .venv-decaf demo dist"]


def test_the_readme_names_every_step() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    said = readme.partition("The same steps are functions")[2].partition("## ")[0]
    hospital, analyst = said.partition("Of the hospital they are")[2].split("of the analyst")
    assert set(data_owner.STEPS) == set(re.findall(r"`(\w+)`", hospital))
    assert set(consumer.STEPS) == set(re.findall(r"`(\w+)`", analyst.partition(".")[0]))


def test_the_public_functions_are_these() -> None:
    assert set(data_owner.__all__) == {
        "approve",
        "attack",
        "deny",
        "errors",
        "gate",
        "init",
        "override",
        "train",
        "write_privacy_report",
    }
    steps = {"audit", "distill", "enrol", "fetch", "generate", "verify", "verify_ledger"}
    assert set(consumer.__all__) == {"errors", *steps}


@pytest.mark.parametrize("package", [consumer, data_owner])
def test_type_checkers_are_told_of_every_step_where_it_is(package: ModuleType) -> None:
    text = Path(str(package.__file__)).read_text(encoding="utf-8")
    told = re.findall(rf"from {package.__name__}\.(\w+) import (\w+) as \2\n", text)
    assert {name: module for module, name in told} == package.STEPS


def test_what_is_no_step_is_answered_with_the_steps() -> None:
    with pytest.raises(AttributeError, match=r"module 'data_owner' has no attribute 'serve'; its steps are init, "):
        assert data_owner.serve  # type: ignore[attr-defined]
    with pytest.raises(AttributeError, match=r"module 'consumer' has no attribute 'publish'; its steps are enrol, "):
        assert consumer.publish  # type: ignore[attr-defined]


def test_the_steps_take_paths_as_text_and_say_what_is_no_node_or_study() -> None:
    for step in (data_owner.train, data_owner.gate, data_owner.attack):
        with pytest.raises(BadInput, match="not a node"):
            step("nowhere")
    for step in (consumer.fetch, consumer.distill, consumer.audit):
        with pytest.raises(BadInput, match="not a study"):
            step("nowhere")


PINS = ROOT / "deploy" / "constraints.txt"
BROUGHT_BY_CUDA = ("cuda-", "nvidia-", "triton")


def pinned(lines: list[str]) -> dict[str, str]:
    """Versions by name. Fails where a line allows two."""
    found: dict[str, str] = {}
    for each in map(Requirement, lines):
        (only,) = each.specifier
        assert only.operator == "=="
        found[canonicalize_name(each.name)] = only.version
    return found


def lines_of(requirements: Path) -> list[str]:
    return [line for line in requirements.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]


def closure(declared: list[str]) -> dict[str, Distribution]:
    """What is installed here of these requirements and of all that they require in turn, by name."""
    found: dict[str, Distribution] = {}
    met: set[tuple[str, str]] = set()
    waiting = [each for each in map(Requirement, declared) if each.name != "fair4free"]
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in {"", *wanted.extras} - {extra for other, extra in met if other == name}:
            met.add((name, extra))
            found[name] = distribution(name)
            required = map(Requirement, found[name].requires or ())
            waiting += [each for each in required if each.marker is None or each.marker.evaluate({"extra": extra})]
    return found


def test_constraints_are_the_exact_versions_of_all_that_is_installed_and_of_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = [*project["dependencies"], *chain.from_iterable(project["optional-dependencies"].values())]
    installed = {name: Version(each.version).public for name, each in closure(declared).items()}
    assert pinned(lines_of(PINS)) == {
        name: version for name, version in installed.items() if not name.startswith(BROUGHT_BY_CUDA)
    }


def test_what_builds_the_package_has_the_same_exact_versions() -> None:
    build = pinned(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"])
    assert build.pop("editables")  # stays in no environment, so there is no other version of it
    pins = pinned(lines_of(PINS))
    assert build == {name: pins[name] for name in closure(["hatchling"])}


def test_the_environment_of_decaf_is_pinned_exactly() -> None:
    pins = pinned(lines_of(REQUIREMENTS))
    assert {"decaf-synthetic-data", "networkx", "torch", "xgboost"} <= set(pins)


def test_no_version_is_allowed_that_the_committed_stubs_refuse() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {wanted.name: wanted.specifier for wanted in map(Requirement, project["dependencies"])}
    messages = (ROOT / "protocol" / "fair4free" / "v1" / "release_pb2.py").read_text(encoding="utf-8")
    (made_by,) = re.findall(r"Protobuf Python Version: (\S+)", messages)
    for name, needed in {"grpcio": release_pb2_grpc.GRPC_GENERATED_VERSION, "protobuf": made_by}.items():
        (least,) = (Version(each.version) for each in declared[name] if each.operator == ">=")
        assert least >= Version(needed), name


@pytest.fixture(scope="session")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a source distribution and of the wheel that is built from it."""
    out = tmp_path_factory.mktemp("dist")
    # no editables, which only -e needs
    build = [sys.executable, "-m", "build", "--no-isolation", "--skip-dependency-check", "--outdir", str(out)]
    subprocess.run([*build, str(ROOT)], check=True, stdout=subprocess.DEVNULL)
    return out


@pytest.fixture(scope="session")
def wheel(distributions: Path) -> Path:
    return next(distributions.glob("*.whl"))


def test_the_wheel_holds_data_template_and_contract(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {
        "data_owner/datasets/support2.parquet",
        "data_owner/datasets/ATTRIBUTION.md",
        "shared/templates/report.html.j2",
        "protocol/fair4free/v1/release.proto",
        *(f"{package}/py.typed" for package in ("consumer", "data_owner", "protocol", "shared")),
    } <= names
    assert not [name for name in names if name.startswith(("tests", "deploy"))]


def test_a_source_distribution_holds_no_test_that_needs_the_repository(distributions: Path) -> None:
    with tarfile.open(next(distributions.glob("*.tar.gz"))) as source:
        names = [Path(name).relative_to(Path(name).parts[0]) for name in source.getnames()]
    packages = {"consumer", "data_owner", "protocol", "shared"}
    files = {"README.md", "PKG-INFO", "pyproject.toml", ".gitignore", "deploy/LICENSE"}
    assert {str(name) for name in names if name.parts[0] not in packages} == files


def test_the_licence_goes_with_every_distribution(distributions: Path, wheel: Path) -> None:
    licence = (ROOT / "deploy" / "LICENSE").read_bytes()
    with zipfile.ZipFile(wheel) as built:
        (metadata,) = (built.read(name).decode() for name in built.namelist() if name.endswith("dist-info/METADATA"))
        (copy,) = (built.read(name) for name in built.namelist() if name.endswith("dist-info/licenses/deploy/LICENSE"))
    assert "License-Expression: Apache-2.0\nLicense-File: deploy/LICENSE\n" in metadata
    assert copy == licence


def lend(found: Distribution, place: Path) -> None:
    """Link an installed distribution into another environment: pip would unpack a gigabyte again."""
    for top in {file.parts[0] for file in found.files or ()} - {"..", "__pycache__"}:
        if not (place / top).exists():  # two may share a namespace
            (place / top).symlink_to(Path(str(found.locate_file(top))))


@pytest.fixture(scope="session")
def consumer_only(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment that holds what a consumer needs, and the wheel without data_owner."""
    home = tmp_path_factory.mktemp("consumer")
    venv.create(home)
    (place,) = home.glob("lib/python*/site-packages")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for each in closure([*project["dependencies"], *project["optional-dependencies"]["consumer"]]).values():
        lend(each, place)
    python = home / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python]
    install = [*pip, "install", "--quiet", "--no-index", "--no-deps", "--no-compile", f"{wheel}[consumer]"]
    subprocess.run(install, check=True, cwd=home)
    subprocess.run([*pip, "check"], check=True, cwd=home, stdout=subprocess.DEVNULL)
    # by path: whatever PYTHONPATH names is not to be deleted
    shutil.rmtree(place / "data_owner")
    assert subprocess.run([python, "-I", "-c", "import data_owner"], cwd=home, capture_output=True).returncode == 1
    return home / "bin"


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


def test_an_unseen_file_goes_through_every_command_to_a_consumer_who_has_nothing_of_the_owners(
    consumer_only: Path, tmp_path: Path
) -> None:
    """Of the owner's files only owner.toml is edited."""
    original = odd_file(tmp_path / "Zählung 2024.csv")

    def owner(name: str, *arguments: str, code: int = 0) -> dict[str, object]:
        return command("data_owner", name, "hospital", *arguments, cwd=tmp_path, code=code)

    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "COV"))}

    def analyst(name: str, *arguments: str) -> dict[str, object]:
        done = subprocess.run(
            [consumer_only / "fair4free", name, "study", *arguments, "--json"],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        result: dict[str, object] = json.loads(done.stdout)["result"]
        return result

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
    with owner_process(Node(tmp_path / "hospital"), tmp_path / "log") as serving:
        fingerprint = str(analyst("enrol", "--invitation", "hospital/invitation.json")["fingerprint"])
        owner("enrol", "--approve", fingerprint, "--by", "Ada")
        assert analyst("enrol")["state"] == "approved"
        assert analyst("fetch")["version"] == 1
        analyst("verify")
        analyst("distill")
        told = analyst("doctor")
        assert told["limits"]
        assert all(finding["passed"] for finding in told["findings"])  # type: ignore[attr-defined]
        assert serving.stop() == 0
    analyst("generate", "--rows", "300", "--balanced", "--out", str(tmp_path / "for-models.csv"))
    analyst("generate", "--rows", "5000")
    analyst("generate", "--rows", "5000", "--shard", "2/2", "--out", "half.csv")
    assert "report" in analyst("audit")
    assert "report" in analyst("audit", "--real", "Zählung 2024.csv")
    rows = pd.read_parquet(tmp_path / "study" / "synthetic.parquet")
    assert pd.read_csv(tmp_path / "half.csv")["age"].tolist() == rows["age"].tolist()[2500:]
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
