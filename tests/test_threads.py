"""Threads that wait for each other do not take the machine."""

import os
import subprocess
import sys

import pytest


@pytest.mark.parametrize("side", ["data_owner", "consumer"])
@pytest.mark.parametrize(("given", "found"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_sleep_from_before_torch_is_loaded_unless_told_otherwise(
    side: str, given: str | None, found: str
) -> None:
    ask = f"import sys, os, {side}; print(os.environ['OMP_WAIT_POLICY'], {{'torch', 'sklearn'}} & set(sys.modules))"
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    if given:
        environment["OMP_WAIT_POLICY"] = given
    said = subprocess.run([sys.executable, "-c", ask], env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == f"{found} set()"
