"""The import contracts of pyproject.toml refuse what the design does."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.owner_process import ROOT

FORBIDDEN = {
    "consumer/fetching.py": ("requests", "subprocess"),
    "data_owner/privacy/histogram.py": ("data_owner.ledger",),
    "data_owner/records/source.py": ("data_owner.node",),
    "data_owner/steps.py": ("data_owner.benchmark.registry",),
    "protocol/merkle.py": ("urllib",),
    "protocol/trust.py": ("grpc", "requests", "socket", "ssl", "subprocess"),
}
"""Imports by the module that must not make them."""


def test_an_import_that_the_design_forbids_is_refused(tmp_path: Path) -> None:
    for package in ("consumer", "data_owner", "protocol", "shared"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for module, imported in FORBIDDEN.items():
        with (tmp_path / module).open("a", encoding="utf-8") as source:
            source.writelines(f"import {each}\n" for each in imported)
    lint = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    alone = {"PATH": os.environ["PATH"], "COLUMNS": "200"}
    found = subprocess.run(lint, cwd=tmp_path, env=alone, capture_output=True, text=True)
    importers = {module.removesuffix(".py").replace("/", "."): imported for module, imported in FORBIDDEN.items()}
    assert found.returncode == 1, found.stderr
    assert {(importer, each) for importer, imported in importers.items() for each in imported} <= set(
        re.findall(r"(\S+) -> (\S+) \(l\.", found.stdout)
    )
