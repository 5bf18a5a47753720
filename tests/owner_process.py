"""A real owner process to attack: `fair4free-owner serve` with limits that a test can reach."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import consumer
from consumer.study import Study
from data_owner import authority
from data_owner.node import Node
from tests.conftest import Running

ROOT = Path(__file__).parent.parent


@dataclass
class OwnerProcess:
    node: Node
    process: subprocess.Popen[bytes]
    log_file: Path
    serving: dict[str, Any] = field(default_factory=dict)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.serving["address"].rpartition(":")
        return host, int(port)

    def logs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log_file.read_text(encoding="utf-8").splitlines()]

    def ask(self, path: str) -> tuple[int, str]:
        """Status and body of a path on the monitoring port."""
        try:
            with urllib.request.urlopen(f"http://{self.serving['metrics_address']}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    def metric(self, sample: str) -> float:
        """Value of a sample, 0 if it has none yet."""
        lines = self.ask("/metrics")[1].splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.rpartition(" ")[0] == sample)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def owner_process(node: Node, log_file: Path, **limits: float) -> Iterator[OwnerProcess]:
    """Serve `node` until the block ends, with these limits changed."""
    start = (
        "import dataclasses, shared.limits as limits;"
        f"limits.LIMITS = dataclasses.replace(limits.LIMITS, **{limits!r});"
        "from data_owner.cli import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        start,
        "serve",
        str(node.folder),
        "--metrics-address",
        "127.0.0.1:0",
        "--host-name",
        "localhost",
    ]
    with log_file.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--address", "127.0.0.1:0", "--enrolment-address", "127.0.0.1:0"],
            cwd=ROOT,
            stderr=log,
            stdout=subprocess.DEVNULL,
        )
    found = OwnerProcess(node, process, log_file)
    try:
        until = time.monotonic() + 60
        while not found.serving:
            assert process.poll() is None, log_file.read_text()
            assert time.monotonic() < until
            found.serving = next((line for line in found.logs() if line["event"] == "serving"), {})
            time.sleep(0.05)
        yield found
    finally:
        process.kill()
        process.wait()


def let_in(owner: OwnerProcess | Running, path: Path) -> Study:
    """A study whose analyst the owner has approved."""
    found = Study(path)
    fingerprint = consumer.enrol(path, invitation=owner.node.invitation).fingerprint
    authority.decide(owner.node, fingerprint, authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC))
    assert consumer.enrol(path).state == "approved"
    return found
