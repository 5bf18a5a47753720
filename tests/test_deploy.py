"""What deploy/ ships can be checked without running it: images, Compose, the unit, Kubernetes and the runbook."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from consumer.cli import app as consumer_app
from data_owner.cli import app as owner_app
from data_owner.node import Node
from shared import keyring
from shared.limits import LIMITS

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
APPS = {"fair4free": get_command(consumer_app), "fair4free-owner": get_command(owner_app)}
PORTS = [{"protocol": "TCP", "port": 50443}, {"protocol": "TCP", "port": 50444}]


def instructions(role: str) -> list[tuple[str, str]]:
    """Instruction and arguments of a container file, without comments, lines joined."""
    text = (DEPLOY / f"{role}.Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, arguments) for name, arguments in lines]


def copied(role: str) -> list[str]:
    """What an image takes from the repository."""
    parts = [arguments.split() for name, arguments in instructions(role) if name == "COPY"]
    return [source for words in parts if not words[0].startswith("--from") for source in words[:-1]]


@pytest.mark.parametrize("role", ["owner", "consumer"])
def test_an_image_copies_what_is_there_and_runs_without_privileges(role: str) -> None:
    found = instructions(role)
    assert all((ROOT / source).exists() for source in copied(role))
    assert all(source != "." for source in copied(role))
    users = [arguments for name, arguments in found if name == "USER"]
    assert len(users) == 1
    assert int(users[0].split(":")[0]) > 0
    assert [arguments for name, arguments in found if name == "WORKDIR"] == ["/src", "/tmp"]
    program = next(arguments for name, arguments in found if name == "ENTRYPOINT")
    command, *arguments = yaml.safe_load(next(arguments for name, arguments in found if name == "CMD"))
    check_command([*yaml.safe_load(program), command, *arguments])


def test_a_build_is_sent_what_the_images_are_made_of_and_no_node_that_lies_beside_it() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()[1:]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {*copied("owner"), *copied("consumer")}
    assert [line for line in lines[1:] if not line.startswith("!")] == ["**/__pycache__", "**/.*_cache"]


def test_what_the_tutorial_makes_is_not_taken_for_source(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    made = ["hospital/records.parquet", "study/client.key", "records.csv", "rows.parquet", "owner.toml", "report.html"]
    ours = ["data_owner/datasets/a.csv", "README.md", "tests/report.html", "deploy/compose.yaml"]
    ignored = subprocess.run(
        ["git", "check-ignore", *made, "invitation.json", *ours], cwd=tmp_path, capture_output=True, text=True
    )
    assert ignored.stdout.split() == [*made, "invitation.json"]


def test_the_consumer_image_never_sees_the_owners_code(tmp_path: Path) -> None:
    assert not any("data_owner" in arguments for _, arguments in instructions("consumer"))
    for source in copied("consumer"):
        target = tmp_path / "src" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path)]
    subprocess.run([*build, str(tmp_path / "src")], check=True, stdout=subprocess.DEVNULL)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        tops = {name.split("/")[0] for name in wheel.namelist()}
    assert {top for top in tops if "dist-info" not in top} == {"consumer", "protocol", "shared"}


def check_command(words: list[str]) -> None:
    """A command line whose command and options exist."""
    known: Any = APPS[words[0]]
    rest = words[1:]
    while hasattr(known, "commands"):
        known, rest = known.commands[rest[0]], rest[1:]
    options = {option for parameter in known.params for option in parameter.opts}
    assert {word.split("=")[0] for word in rest if word.startswith("--")} <= options, words


def test_compose_gives_the_two_sides_no_common_volume_and_no_privilege() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert set(services) == {"owner", "consumer"}
    volumes = {name: {volume.split(":")[0] for volume in service["volumes"]} for name, service in services.items()}
    assert not volumes["owner"] & volumes["consumer"]
    for name, service in services.items():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert f"{name}.Containerfile" in service["build"]["dockerfile"]
        assert service["pull_policy"] == "never"
        assert "ports" not in service
    assert services["owner"]["ulimits"]["nofile"] > 2 * LIMITS.connections + 1000


UNIT = DEPLOY / "fair4free-owner.service"


def test_the_units_command_exists_and_it_may_do_little() -> None:
    lines = [line.partition("=") for line in UNIT.read_text(encoding="utf-8").splitlines() if "=" in line]
    settings = {name: value for name, _, value in lines}
    words = shlex.split(settings["ExecStart"])
    check_command([Path(words[0]).name, *words[1:]])
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["ProtectSystem"] == "strict"
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["UMask"] == "0077"
    assert settings["KillSignal"] == "SIGTERM"
    assert settings["RequiresMountsFor"] == words[2]
    assert int(settings["LimitNOFILE"]) > 2 * LIMITS.connections + 1000
    hidden = {Path(value.removeprefix("-")) for name, _, value in lines if name == "InaccessiblePaths"}
    assert hidden == set(Node(Path(words[2])).withheld)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_finds_the_unit_sound_and_little_exposed() -> None:
    verified = subprocess.run(["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True)
    assert [line for line in verified.stderr.splitlines() if UNIT.name in line and "not executable" not in line] == []
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(UNIT)], capture_output=True, text=True
    )
    assert rated.returncode == 0, rated.stdout[-300:]


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")))


def manifests() -> list[dict[str, Any]]:
    return [document for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for document in documents(path.name)]


def test_nothing_starts_before_its_namespace_is_closed_and_its_claim_filled() -> None:
    for path in (DEPLOY / "kubernetes").glob("*.yaml"):
        kinds = [found["kind"] for found in documents(path.name)]
        assert kinds[:2] == ["Namespace", "NetworkPolicy"]
    started = {found["kind"]: found["spec"] for found in manifests() if found["kind"] in ("StatefulSet", "Job")}
    assert started["StatefulSet"]["replicas"] == 0
    assert started["Job"]["suspend"]


def test_every_namespace_denies_by_default_and_opens_only_the_two_ports() -> None:
    policies = [found for found in manifests() if found["kind"] == "NetworkPolicy"]
    namespaces = {found["metadata"]["name"] for found in manifests() if found["kind"] == "Namespace"}
    closed = {
        found["metadata"]["namespace"]
        for found in policies
        if found["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    assert closed == namespaces == {"fair4free", "fair4free-analysts"}
    opening = [rule for found in policies for rule in found["spec"].get("ingress", [])]
    assert [rule["ports"] for rule in opening] == [PORTS]
    leaving = [(found["metadata"]["namespace"], rule) for found in policies for rule in found["spec"].get("egress", [])]
    assert {namespace for namespace, _ in leaving} == {"fair4free-analysts"}
    assert [rule["ports"] for _, rule in leaving if rule["ports"][0]["port"] != 53] == [PORTS]
    for rule in [*opening, *(rule for _, rule in leaving)]:
        for peer in rule.get("from", rule.get("to")):
            assert peer["namespaceSelector"]["matchLabels"]
            assert peer["podSelector"]["matchLabels"]


@pytest.mark.parametrize("side", ["owner", "consumer"])
def test_pods_run_without_privileges_and_their_commands_exist(side: str) -> None:
    (found,) = [document for document in documents(f"{side}.yaml") if document["kind"] in ("StatefulSet", "Job")]
    (setup,) = documents(f"setup/{side}.yaml")
    pod = found["spec"]["template"]["spec"]
    for part in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert setup["spec"][part] == pod[part]
    for part in ("image", "securityContext", "volumeMounts"):
        assert setup["spec"]["containers"][0][part] == pod["containers"][0][part]
    assert setup["spec"]["volumes"][0] == pod["volumes"][0]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    (container,) = pod["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    check_command([container["image"].replace("-consumer", ""), *container["args"]])


def test_a_node_with_a_long_log_has_time_to_start() -> None:
    (found,) = [document for document in documents("owner.yaml") if document["kind"] == "StatefulSet"]
    container = found["spec"]["template"]["spec"]["containers"][0]
    startup, ready = container["startupProbe"], container["readinessProbe"]
    assert startup["exec"] == ready["exec"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600


@pytest.mark.parametrize("name", ["kubernetes/owner.yaml", "kubernetes/setup/owner.yaml", "compose.yaml"])
def test_what_mounts_a_passphrase_need_only_be_uncommented(name: str) -> None:
    text = (DEPLOY / name).read_text(encoding="utf-8")
    taken = re.sub(r"(?m)^( *)# (?=env|- .*passphrase|( {2})?secret|  passphrase)", r"\1", text)
    if name == "compose.yaml":
        found = yaml.safe_load(taken)
        (secret,) = found["services"]["owner"]["secrets"]
        assert set(found["secrets"]) == {secret}
        file = found["services"]["owner"]["environment"][keyring.FILE_VARIABLE]
        assert file == f"/run/secrets/{secret}"
        return
    (spec,) = [
        document["spec"].get("template", document)["spec"]
        for document in yaml.safe_load_all(taken)
        if document["kind"] in ("StatefulSet", "Pod")
    ]
    (variable,) = spec["containers"][0]["env"]
    (mount,) = [mount for mount in spec["containers"][0]["volumeMounts"] if mount["name"] == "passphrase"]
    assert (variable["name"], variable["value"]) == (keyring.FILE_VARIABLE, f"{mount['mountPath']}/passphrase")
    assert {"name": "passphrase", "secret": {"secretName": "passphrase", "defaultMode": 0o440}} in spec["volumes"]


def test_selectors_meet_the_labels_of_the_pods() -> None:
    labels = {
        found["spec"]["template"]["metadata"]["labels"]["app"]
        for found in manifests()
        if found["kind"] in ("StatefulSet", "Job")
    }
    selected = set(re.findall(r"app: (fair4free-\w+)", "".join(map(str, manifests())).replace("'", "")))
    assert selected == labels == {"fair4free-owner", "fair4free-consumer"}


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("README.md", 25),
        ("deploy/RUNBOOK.md", 25),
        ("data_owner/benchmark/RESULTS.md", 9),
        ("data_owner/privacy/BUDGET.md", 4),
    ],
)
def test_every_command_of_a_page_exists(page: str, least: int) -> None:
    text = (ROOT / page).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for block in re.findall(r"```(?:sh)?\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]
    inside = r"^docker compose .* run --rm (?:-v \S+ )?(owner|consumer) "
    programs = {"owner": "fair4free-owner ", "consumer": "fair4free "}
    lines = [re.sub(inside, lambda found: programs[found[1]], line) for line in lines]
    lines = [re.sub(r"^(kubectl exec .* -- |sudo -u fair4free /opt/fair4free/bin/)", "", line) for line in lines]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("fair4free")]
    assert len(commands) >= least
    for words in commands:
        check_command(words[: words.index("&&")] if "&&" in words else words)
