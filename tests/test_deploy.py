"""What deploy/ ships can be checked without running it: images, Compose, the unit, Kubernetes and the runbook."""

import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from typer.main import get_command

import consumer
import data_owner
from consumer.cli import app as consumer_app
from data_owner.cli import app as owner_app
from data_owner.node import Node
from data_owner.serving.monitoring import Metrics, MonitoringServer
from shared import keyring
from shared.limits import LIMITS
from tests.conftest import Running

ROOT = Path(__file__).parent.parent
DEPLOY = ROOT / "deploy"
APPS = {"fair4free": get_command(consumer_app), "fair4free-owner": get_command(owner_app)}
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
SERVICES = COMPOSE["services"]
UNIT = DEPLOY / "fair4free-owner.service"
SETTINGS = [line.partition("=")[::2] for line in UNIT.read_text(encoding="utf-8").splitlines() if "=" in line]


def instructions(role: str) -> list[tuple[str, str]]:
    """Instruction and arguments of a container file, without comments, lines joined."""
    text = (DEPLOY / f"{role}.Containerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return [(name, arguments) for name, arguments in lines]


def started(role: str) -> list[str]:
    """The command line of an image."""
    last = dict(instructions(role))
    return [*yaml.safe_load(last["ENTRYPOINT"]), *yaml.safe_load(last["CMD"])]


def options(words: list[str]) -> dict[str, str]:
    """What a command line gives each option, as `--name value` or `--name=value`."""
    return dict(re.findall(r"--([\w-]+)[ =](\S+)", " ".join(words)))


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
    check_command(started(role))


@pytest.mark.parametrize("role", ["owner", "consumer"])
def test_a_second_index_is_asked_for_torch_and_for_nothing_else(role: str) -> None:
    (install,) = [arguments for name, arguments in instructions(role) if "pip install" in arguments]
    (asks,) = [words for words in map(shlex.split, install.split("&&")) if "index" in " ".join(words)]
    assert asks[-2:] == ["--no-deps", "torch"]
    assert "PIP_EXTRA_INDEX_URL" not in dict(instructions(role))["ARG"]


def test_a_build_is_sent_what_the_images_are_made_of_and_no_node_that_lies_beside_it() -> None:
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()[1:]
    assert lines[0] == "*"
    assert {line[1:] for line in lines if line.startswith("!")} == {*copied("owner"), *copied("consumer")}
    assert [line for line in lines[1:] if not line.startswith("!")] == ["**/__pycache__", "**/.*_cache"]


@pytest.mark.skipif(not shutil.which("git"), reason="git says what it ignores")
def test_what_the_tutorial_makes_is_not_taken_for_source(tmp_path: Path) -> None:
    shutil.copy(ROOT / ".gitignore", tmp_path)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    given = ["records.csv", "scans/1.png", "rows.parquet", "owner.toml", "report.html", "pictures/1.png", "passphrase"]
    made = [*given, "invitation.json", "ledger.json", "last_seen.json", "root-2.json", "root-2.sig", "ada.pub"]
    ours = ["data_owner/datasets/a.csv", "README.md", "tests/formats.json", "deploy/compose.yaml"]
    ignored = subprocess.run(["git", "check-ignore", *made, *ours], cwd=tmp_path, capture_output=True, text=True)
    assert ignored.stdout.split() == made


@pytest.mark.skipif(not shutil.which("git"), reason="git says what it ignores")
def test_a_node_and_a_study_are_not_taken_for_source_whatever_they_are_called_and_wherever_they_lie(
    table: pd.DataFrame, running: Running, tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    subprocess.run(["git", "init", "--quiet", theirs], check=True)
    data_owner.init(theirs / "census", data=table, target="died", sensitive=("région",), positive="1")
    consumer.enrol(theirs / "pupils", invitation=running.node.invitation)
    for place in ("census/records.parquet", "pupils/identity/key.pem"):
        assert (theirs / place).is_file()
    status = ["git", "-C", str(theirs), "status", "--porcelain", "--untracked-files=all"]
    assert subprocess.run(status, capture_output=True, check=True).stdout == b""


def test_a_study_in_a_folder_that_was_there_hides_nothing_that_git_may_keep(running: Running, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    consumer.enrol(tmp_path / "theirs", invitation=running.node.invitation)
    assert not (tmp_path / "theirs" / ".gitignore").exists()


def test_the_consumer_image_never_sees_the_owners_code(tmp_path: Path) -> None:
    assert not any("data_owner" in arguments for _, arguments in instructions("consumer"))
    for source in copied("consumer"):
        target = tmp_path / "src" / source
        target.parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, target)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--skip-dependency-check"]
    subprocess.run([*build, "--outdir", str(tmp_path), str(tmp_path / "src")], check=True, stdout=subprocess.DEVNULL)
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
    assert set(SERVICES) == {"owner", "consumer"}
    volumes = {name: {volume.split(":")[0] for volume in service["volumes"]} for name, service in SERVICES.items()}
    assert not volumes["owner"] & volumes["consumer"]
    for name, service in SERVICES.items():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert (DEPLOY / service["build"]["context"] / service["build"]["dockerfile"]).is_file()
        assert f"{name}.Containerfile" in service["build"]["dockerfile"]
        assert service["pull_policy"] == "never"
        assert "ports" not in service
        assert all(COMPOSE["networks"][network]["internal"] is True for network in service["networks"])
    assert SERVICES["owner"]["ulimits"]["nofile"] > 2 * LIMITS.connections + 1000


def test_the_units_command_exists_and_it_may_do_little() -> None:
    settings = dict(SETTINGS)
    words = shlex.split(settings["ExecStart"])
    check_command([Path(words[0]).name, *words[1:]])
    assert settings["CapabilityBoundingSet"] == ""
    assert settings["ProtectSystem"] == "strict"
    assert settings["NoNewPrivileges"] == "yes"
    assert settings["UMask"] == "0077"
    assert settings["KillSignal"] == "SIGTERM"
    assert settings["RequiresMountsFor"] == words[2]
    assert int(settings["LimitNOFILE"]) > 2 * LIMITS.connections + 1000
    hidden = {Path(value.removeprefix("-")) for name, value in SETTINGS if name == "InaccessiblePaths"}
    assert hidden == set(Node(Path(words[2])).withheld)


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="no systemd-analyze here")
def test_systemd_finds_the_unit_sound_and_little_exposed() -> None:
    verified = subprocess.run(["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True)
    assert [line for line in verified.stderr.splitlines() if UNIT.name in line and "not executable" not in line] == []
    rated = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(UNIT)], capture_output=True, text=True
    )
    assert rated.returncode == 0, rated.stdout[-300:]


@cache
def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((DEPLOY / "kubernetes" / name).read_text(encoding="utf-8")))


def manifests() -> list[dict[str, Any]]:
    return [document for path in sorted((DEPLOY / "kubernetes").glob("*.yaml")) for document in documents(path.name)]


def of_kind(kind: str) -> list[dict[str, Any]]:
    return [found for found in manifests() if found["kind"] == kind]


@dataclass(frozen=True)
class Pod:
    """What a manifest starts, and where."""

    namespace: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def container(self) -> dict[str, Any]:
        (found,) = self.spec["containers"]
        return found


def pod(name: str) -> Pod:
    (found,) = [each for each in documents(name) if each["kind"] in ("StatefulSet", "Job", "Pod")]
    template = found["spec"].get("template", found)
    return Pod(found["metadata"]["namespace"], template["metadata"]["labels"], template["spec"])


PODS = {name: pod(name) for name in ("owner.yaml", "consumer.yaml", "setup/owner.yaml", "setup/consumer.yaml")}
OWNER = PODS["owner.yaml"]
SERVED = options(OWNER.container["args"])
NUMBERS = [int(SERVED[name].rpartition(":")[2]) for name in ("address", "enrolment-address")]
PORTS = [{"protocol": "TCP", "port": number} for number in NUMBERS]


def test_nothing_starts_before_its_namespace_is_closed_and_its_claim_filled() -> None:
    for path in (DEPLOY / "kubernetes").glob("*.yaml"):
        kinds = [found["kind"] for found in documents(path.name)]
        assert kinds[:2] == ["Namespace", "NetworkPolicy"]
    assert [found["spec"]["replicas"] for found in of_kind("StatefulSet")] == [0]
    assert [found["spec"]["suspend"] for found in of_kind("Job")] == [True]


def test_every_namespace_denies_by_default_and_opens_only_the_two_ports() -> None:
    policies = of_kind("NetworkPolicy")
    namespaces = {found["metadata"]["name"] for found in of_kind("Namespace")}
    closed = {
        found["metadata"]["namespace"]
        for found in policies
        if found["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    }
    assert closed == namespaces == {"fair4free", "fair4free-analysts"}
    guarded = [found["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] for found in of_kind("Namespace")]
    assert guarded == ["restricted"] * 2
    opening = [rule for found in policies for rule in found["spec"].get("ingress", [])]
    assert [rule["ports"] for rule in opening] == [PORTS]
    leaving = [(found["metadata"]["namespace"], rule) for found in policies for rule in found["spec"].get("egress", [])]
    assert {namespace for namespace, _ in leaving} == {"fair4free-analysts"}
    assert [rule["ports"] for _, rule in leaving if rule["ports"][0]["port"] != 53] == [PORTS]
    for rule in [*opening, *(rule for _, rule in leaving)]:
        for peer in rule.get("from", rule.get("to")):
            assert peer["namespaceSelector"]["matchLabels"]
            assert peer["podSelector"]["matchLabels"]


def met(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether these labels are among those that a selector asks for."""
    return selector["matchLabels"].items() <= labels.items()


def lets(direction: str, one: Pod, other: Pod) -> bool:
    """Whether a policy opens the owner's ports from `one` to `other` ("egress") or to it ("ingress")."""
    (space,) = [each["metadata"] for each in of_kind("Namespace") if each["metadata"]["name"] == other.namespace]
    labels = {**space["labels"], "kubernetes.io/metadata.name": other.namespace}
    return any(
        met(peer["namespaceSelector"], labels) and met(peer["podSelector"], other.labels)
        for policy in of_kind("NetworkPolicy")
        if policy["metadata"]["namespace"] == one.namespace
        for rule in policy["spec"].get(direction, [])
        if rule["ports"] == PORTS and met(policy["spec"]["podSelector"], one.labels)
        for peer in rule["to" if direction == "egress" else "from"]
    )


def test_analysts_reach_the_owner_that_serves_and_nobody_reaches_anybody_else() -> None:
    reached = {
        (source, target)
        for source, one in PODS.items()
        for target, other in PODS.items()
        if lets("egress", one, other) and lets("ingress", other, one)
    }
    assert reached == {("consumer.yaml", "owner.yaml"), ("setup/consumer.yaml", "owner.yaml")}


def test_the_service_stands_for_the_owners_two_ports() -> None:
    ((service,), (owner,)) = of_kind("Service"), of_kind("StatefulSet")
    assert service["spec"]["selector"] == owner["spec"]["selector"]["matchLabels"] == OWNER.labels
    ports = {port["name"]: port["containerPort"] for port in OWNER.container["ports"]}
    assert {port["targetPort"]: port["port"] for port in service["spec"]["ports"]} == ports
    assert list(ports.values()) == NUMBERS


def test_analysts_know_the_owner_by_a_name_that_is_theirs_to_resolve() -> None:
    (service,) = [found["metadata"] for found in of_kind("Service")]
    assert SERVED["host-name"] == f"{service['name']}.{service['namespace']}.svc"
    assert "command" not in SERVICES[options(started("owner"))["host-name"]]
    assert SERVICES["owner"]["networks"] == SERVICES["consumer"]["networks"]


def test_the_owner_listens_on_the_same_ports_however_it_is_started() -> None:
    for words in (started("owner"), shlex.split(dict(SETTINGS)["ExecStart"])):
        assert {**options(words), "host-name": SERVED["host-name"]} == SERVED
    assert dict(instructions("owner"))["EXPOSE"].split() == list(map(str, NUMBERS))
    assert f"`http://{SERVED['metrics-address']}/metrics`" in (DEPLOY / "RUNBOOK.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("ready", [True, False])
def test_who_asks_how_the_owner_is_hears_it(ready: bool) -> None:
    """Each check as it stands, but for a free port in place of the one that `serve` is given."""
    monitoring = MonitoringServer("127.0.0.1:0", Metrics(lambda: 0), lambda: ready)

    def ask(words: list[str]) -> bool:
        port, free = (address.rpartition(":")[2] for address in (SERVED["metrics-address"], monitoring.address))
        return subprocess.run([sys.executable, *(word.replace(port, free) for word in words[1:])]).returncode == 0

    probes = {kind: OWNER.container[f"{kind}Probe"]["exec"]["command"] for kind in ("startup", "readiness", "liveness")}
    try:
        assert ask(SERVICES["owner"]["healthcheck"]["test"][1:]) is ready
        assert {kind: ask(words) for kind, words in probes.items()} == {
            "startup": ready,
            "readiness": ready,
            "liveness": True,
        }
    finally:
        monitoring.stop()


def test_a_drain_is_over_before_anybody_kills() -> None:
    slept = int(OWNER.container["lifecycle"]["preStop"]["exec"]["command"][-1])
    assert int(dict(SETTINGS)["TimeoutStopSec"]) > LIMITS.drain_seconds
    assert int(SERVICES["owner"]["stop_grace_period"].removesuffix("s")) > LIMITS.drain_seconds
    assert OWNER.spec["terminationGracePeriodSeconds"] > slept + LIMITS.drain_seconds


@pytest.mark.parametrize("side", ["owner", "consumer"])
def test_what_a_side_writes_outlives_its_container(side: str) -> None:
    image = dict(instructions(side))
    volume, (user, group) = image["VOLUME"], image["USER"].split(":")
    assert f"-o {user} -g {group} {volume}" in image["RUN"]
    assert [each.split(":")[1] for each in SERVICES[side]["volumes"]] == [volume]
    found = PODS[f"{side}.yaml"]
    claims = [each["metadata"] for each in documents(f"{side}.yaml") if each["kind"] == "PersistentVolumeClaim"]
    (claimed,) = [each for each in found.spec["volumes"] if "persistentVolumeClaim" in each]
    assert [{"namespace": found.namespace, "name": claimed["persistentVolumeClaim"]["claimName"]}] == claims
    assert {"name": claimed["name"], "mountPath": volume} in found.container["volumeMounts"]
    folders = [Path(word) for word in [*started(side), *found.container["args"]] if word.startswith("/")]
    assert all(each.is_relative_to(volume) for each in folders)
    assert len(folders) == 2


@pytest.mark.parametrize("side", ["owner", "consumer"])
def test_pods_run_without_privileges_and_their_commands_exist(side: str) -> None:
    found, setup = PODS[f"{side}.yaml"], PODS[f"setup/{side}.yaml"]
    assert setup.namespace == found.namespace
    for part in ("securityContext", "automountServiceAccountToken", "enableServiceLinks"):
        assert setup.spec[part] == found.spec[part]
    for part in ("image", "securityContext", "volumeMounts"):
        assert setup.container[part] == found.container[part]
    assert setup.spec["volumes"][0] == found.spec["volumes"][0]
    context = found.spec["securityContext"]
    assert context["runAsNonRoot"]
    user = f"{context['runAsUser']}:{context['runAsGroup']}"
    assert [user, context["fsGroup"]] == [dict(instructions(side))["USER"], context["runAsGroup"]]
    assert found.spec["automountServiceAccountToken"] is False
    assert found.container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    check_command([found.container["image"].replace("-consumer", ""), *found.container["args"]])


def test_a_node_with_a_long_log_has_time_to_start() -> None:
    startup = OWNER.container["startupProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 600
    assert SERVICES["owner"]["healthcheck"]["start_period"] == "10m"


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


@pytest.mark.parametrize(
    ("page", "least"),
    [
        ("README.md", 25),
        ("deploy/RUNBOOK.md", 25),
        ("data_owner/benchmark/RESULTS.md", 9),
        ("data_owner/privacy/BUDGET.md", 1),
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
