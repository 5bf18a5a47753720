"""TabFairGAN (Rajabi and Garibay 2022), the authors' package tabfairgan 0.1.0."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import torch

from data_owner.benchmark.systems import Fold, Unsuitable
from shared.codec import Layout, group_positions, with_sensitive
from shared.metrics import outcome
from shared.schema import MISSING

EPOCHS = 200
FAIR_EPOCHS = 30
BATCH = 256
WEIGHT = 0.5
"""The package's own example has the same epochs and batch, but 50 fair epochs and a weight for each data set."""

GROUP, TARGET = "group of the benchmark", "target of the benchmark"


def generate(fold: Fold) -> pd.DataFrame:
    try:
        from tabfairgan import TFG
    except ImportError:
        raise Unsuitable("its package is missing: pip install -c deploy/constraints.txt -e '.[benchmark]'") from None
    if len(fold.schema.groups) != 2:
        raise Unsuitable("the package knows two groups only")
    group, positive = group_positions(fold.schema, fold.training), outcome(fold.training, fold.schema)
    rates = [positive[group == index].mean() for index in (0, 1)]
    fair = fold.steps(FAIR_EPOCHS)
    with torch.random.fork_rng(devices=[]), _numpy_seed(fold.seed), contextlib.redirect_stdout(io.StringIO()):
        torch.manual_seed(fold.seed)
        model = TFG(
            _for_package(fold),
            epochs=fold.steps(EPOCHS - FAIR_EPOCHS) + fair,
            batch_size=BATCH,
            fairness_config={
                "fair_epochs": fair,
                "lamda": WEIGHT,
                "S": GROUP,
                "Y": TARGET,
                "S_under": str(int(np.argmin(rates))),
                "Y_desire": "1",
            },
        )
        with contextlib.redirect_stderr(io.StringIO()):
            model.train()
        made = model.generate_fake_df(fold.rows)
    return _canonical(fold, made)


def _for_package(fold: Fold) -> pd.DataFrame:
    """Numbers without gaps and text; a number's gaps are a text column beside it."""
    layout = Layout(fold.schema)
    columns: dict[str, object] = {}
    for column in layout.numeric:
        values = fold.training[column.name].astype("float64")
        columns[column.name] = values.fillna(values.mean())
        if column.optional:
            columns[f"{column.name} {MISSING}"] = np.where(values.isna(), "1", "0").astype(object)
    for category in layout.categorical:
        columns[category.name] = fold.training[category.name].fillna(MISSING).to_numpy(object)
    columns[GROUP] = group_positions(fold.schema, fold.training).astype(str).astype(object)
    columns[TARGET] = outcome(fold.training, fold.schema).astype(str).astype(object)
    return pd.DataFrame({name: pd.Series(values, dtype=None) for name, values in columns.items()})


def _canonical(fold: Fold, made: pd.DataFrame) -> pd.DataFrame:
    schema, layout = fold.schema, Layout(fold.schema)
    table: dict[str, Any] = {}
    for column in layout.numeric:
        values = np.round(made[column.name].to_numpy(float), column.decimals) + 0.0
        if column.optional:
            values = np.where(made[f"{column.name} {MISSING}"] == "1", np.nan, values)
        table[column.name] = values
    for category in layout.categorical:
        found = made[category.name].astype("str")
        table[category.name] = found.mask(found == MISSING)
    other = next(name for name in schema.target.categories if name != schema.positive)
    table[schema.target.name] = pd.Series(np.where(made[TARGET] == "1", schema.positive, other), dtype="str")
    return with_sensitive(schema, table, torch.from_numpy(made[GROUP].to_numpy().astype(np.int64)))


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """The package draws its split from numpy's global generator."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
