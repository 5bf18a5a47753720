"""DECAF (van Breugel et al., NeurIPS 2021), the authors' package decaf-synthetic-data 0.1.7.

Its pins clash with ours (networkx below 3), so it runs in an environment of its own: `make decaf` builds one, and
`decaf_process.py` is started there. Without a causal graph from experts it gets the complete one, groups before
features before the target; fairness through unawareness removes the edges from groups to target. `EPOCHS` of batches of
256 are a thousand updates on COMPAS, hidden 100 and rate 1e-3; its authors' example has 500 epochs of batches of 64,
hidden 200, rate 5e-4 and ten updates of the critic for one of the generator.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from data_owner.benchmark.systems import Fold, Unsuitable
from shared.codec import Layout, group_positions, labels, positions, with_sensitive

PROCESS = Path(__file__).with_name("decaf_process.py")
REQUIREMENTS = Path(__file__).with_name("decaf_requirements.txt")
"""Of its environment; a cell is made again when they change."""

EPOCHS = 50
PYTHON = "FAIR4FREE_DECAF_PYTHON"
"""Environment variable that names the interpreter; `.venv-decaf` in the working folder if it is not set."""


def generate(fold: Fold) -> pd.DataFrame:
    interpreter = Path(os.environ.get(PYTHON, ".venv-decaf/bin/python")).absolute()
    if not interpreter.is_file():
        raise Unsuitable("its environment is missing: make decaf")
    matrix, widths = _matrix(fold)
    low, high = matrix.min(0), matrix.max(0)
    spread = np.where(high > low, high - low, 1.0)
    with tempfile.TemporaryDirectory() as place:
        given, made = Path(place) / "given.npz", Path(place) / "made.npy"
        np.savez(given, data=(matrix - low) / spread, rows=fold.rows, epochs=fold.steps(EPOCHS), seed=fold.seed)
        done = subprocess.run(
            [interpreter, "-P", PROCESS, given, made], capture_output=True, text=True, cwd=place, check=False
        )
        if done.returncode:
            said = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
            raise Unsuitable(f"its process failed: {said[-1][:200]}")
        rows = np.load(made).clip(0.0, 1.0) * spread + low
    return _canonical(fold, rows, widths)


def _matrix(fold: Fold) -> tuple[np.ndarray, list[int]]:
    """Group, numbers, missing flags, categories, target: one column each and categories as their numbers, the
    plainest use of the package."""
    layout = Layout(fold.schema)
    columns = [group_positions(fold.schema, fold.training).astype(float)]
    widths = [len(fold.schema.groups)]
    for column in layout.numeric:
        values = fold.training[column.name].to_numpy(float)
        columns.append(np.where(np.isnan(values), np.nanmean(values), values))
        widths.append(0)
    for index in layout.optional:
        columns.append(np.isnan(fold.training[layout.numeric[index].name].to_numpy(float)).astype(float))
        widths.append(2)
    for category in (*layout.categorical, fold.schema.target):
        columns.append(positions(category, fold.training[category.name]).astype(float))
        widths.append(len(category.categories) + category.optional)
    return np.column_stack(columns), widths


def _canonical(fold: Fold, rows: np.ndarray, widths: list[int]) -> pd.DataFrame:
    layout = Layout(fold.schema)
    places = [
        np.rint(rows[:, index]).clip(0, width - 1).astype(np.int64) if width else rows[:, index]
        for index, width in enumerate(widths)
    ]
    numbers = len(layout.numeric)
    table: dict[str, Any] = {
        column.name: np.round(places[1 + index], column.decimals) + 0.0 for index, column in enumerate(layout.numeric)
    }
    for place, index in enumerate(layout.optional):
        name = layout.numeric[index].name
        table[name] = np.where(places[1 + numbers + place] == 1, np.nan, table[name])
    for category, found in zip(
        (*layout.categorical, fold.schema.target), places[1 + numbers + len(layout.optional) :], strict=True
    ):
        table[category.name] = labels(category, found)
    return with_sensitive(fold.schema, table, torch.from_numpy(places[0]))
