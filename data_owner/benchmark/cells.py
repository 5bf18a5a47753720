"""One system on one fold, judged: the unit of work that is cached, so a killed run goes on and a changed system
reruns alone."""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import os
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.model_selection import StratifiedKFold

from data_owner.benchmark import registry
from data_owner.benchmark.column_fidelity import TableFidelity, table_fidelity
from data_owner.benchmark.systems import Fold, Generator, Rows, System, Unsuitable
from data_owner.datasets import dataset, load
from data_owner.records.disclosure import disclose
from data_owner.records.infer import infer
from data_owner.records.ingest import ingest
from shared import folder
from shared.frozen import Frozen
from shared.metrics import (
    Integers,
    density_coverage,
    out_of_fold,
    predict,
    random_forest,
    scores,
)
from shared.schema import Schema
from shared.scores import Fidelity, Scores

OWN_ROWS = 10_000
"""Rows of the paper's own protocol, of those that are made for models."""

LONGEST_REASON = 200
PACKAGES = ("data_owner", "shared")
NOT_COMPUTING = (registry.__name__, "data_owner.attacks.attack", "data_owner.datasets.colored_mnist")
"""Modules that all systems import and no cell is made by: names of systems and attacks, and a data set of pictures."""

COMPUTING = (
    *("dp-accounting", "fairlearn", "jax", "mbi", "numpy", "opacus", "opendp", "pandas", "prdc", "scikit-learn"),
    *("scipy", "tabfairgan", "torch"),
)


class Study(Frozen):
    """What one comparison is about. `effort` below 1 means less training and fewer rows: a quick look only."""

    dataset: str
    sensitive: tuple[str, ...]
    folds: int
    effort: float = 1.0


class Key(Frozen):
    """One cell of a comparison."""

    study: Study
    system: str
    seed: int
    fold: int


class Cell(Frozen):
    """What is kept of one system on one fold.

    `forest` and `boosting` hold a 0 or 1 for each held-out row. A system that makes no rows has neither its own
    protocol, fidelity nor `seconds`; one that failed has only the reason. `seconds` are of processor time, which other
    work on the machine does not lengthen, until there are rows, with what systems that start alike train once for all.
    """

    forest: str = ""
    boosting: str = ""
    own: Scores | None = None
    fidelity: Fidelity | None = None
    columns: TableFidelity | None = None
    seconds: float | None = None
    failure: str | None = None


@cache
def prepared(name: str, sensitive: tuple[str, ...]) -> tuple[Schema, pd.DataFrame]:
    """The schema and canonical table of a data set that ships; small joint groups are merged."""
    known = dataset(name)
    table = load(name, sensitive)
    settings = infer(
        table,
        name=name,
        source=name,
        target=known.target,
        sensitive=sensitive,
        positive=known.positive,
        small_groups="merge",
    )
    return disclose(ingest(table, settings), settings.policy.minimum_count)


def split(study: Study, seed: int, fold: int) -> tuple[Schema, pd.DataFrame, pd.DataFrame]:
    """Training and held-out part; each seed has a partition of its own, the same for every system."""
    schema, table = prepared(study.dataset, study.sensitive)
    splits = StratifiedKFold(study.folds, shuffle=True, random_state=seed)
    parts = list(splits.split(table, table[schema.target.name]))[fold]
    training, held_out = (table.iloc[rows].reset_index(drop=True) for rows in parts)
    return schema, training, held_out


def cell(key: Key, place: Path) -> Cell:
    """The cell from its file under `place`, or made and, unless it failed, kept there."""
    system = registry.chosen((key.system,))[0]
    path = place / f"{content_key(key, system)}.json"
    if path.is_file():
        return Cell.model_validate_json(path.read_bytes())
    found = judge(system, key, place)
    if found.failure is None:
        folder.write(path, found.model_dump_json().encode())
    return found


def judge(system: System, key: Key, scratch: Path) -> Cell:
    """Run a system on its fold and judge what comes out, on real held-out rows."""
    schema, training, held_out = split(key.study, key.seed, key.fold)
    fold = Fold(key.study.dataset, schema, training, held_out, key.seed, key.study.effort, scratch)
    models = (random_forest(key.seed), boosting(key.seed))
    try:
        if not isinstance(system, Generator):
            predicted = [system.predict(fold, model) for model in models]
            return Cell(forest=_digits(predicted[0]), boosting=_digits(predicted[1]))
        start = _processor_time()
        made = system.generate(fold)
        seconds = _processor_time() - start + sum(fold.reused_seconds)
        rows = made if isinstance(made, Rows) else Rows(made, made.iloc[: len(training)])
        if not len(rows.for_models):
            return Cell(failure="made no rows")
        forest, boosted = (predict(rows.for_models, held_out, schema, model) for model in models)
        return Cell(
            forest=_digits(forest),
            boosting=_digits(boosted),
            own=synthetic_only(rows.for_models.iloc[:OWN_ROWS], schema),
            fidelity=density_coverage(held_out, rows.like_training, schema, key.seed),
            columns=table_fidelity(held_out, rows.like_training, schema),
            seconds=seconds,
        )
    except Unsuitable as reason:
        return Cell(failure=str(reason))
    except Exception as error:  # whatever a package raises, the other systems go on
        said = str(error).strip().partition("\n")[0][:LONGEST_REASON]  # of public data: nothing in it is secret
        return Cell(failure=f"{type(error).__name__} while it ran{said and f': {said}'}")


def boosting(seed: int) -> HistGradientBoostingClassifier:
    """A second downstream model, to show that nothing is tuned to the first."""
    return HistGradientBoostingClassifier(random_state=seed)


def synthetic_only(rows: pd.DataFrame, schema: Schema) -> Scores:
    """Trained and tested on synthetic rows, five folds pooled: the Fair4Free paper's own protocol, kept apart."""
    return scores(rows, out_of_fold(rows, schema), schema)


def content_key(key: Key, system: System) -> str:
    """The first 32 hex digits of SHA-256 over the cell's place, the data, versions of what computes, whether a GPU
    does, the system's source and all of ours that it imports, with the files that these name."""
    made_by = system.generate if isinstance(system, Generator) else system.predict
    computing = ([(name, _version(name)) for name in COMPUTING], torch.cuda.is_available())
    place = (key.model_dump_json(), dataset(key.study.dataset).sha256, made_by.__qualname__, computing)
    digest = hashlib.sha256(repr(place).encode())
    for name in sorted({*_imported(made_by.__module__), *_imported(__name__)}):
        digest.update(_source(name))
    return digest.hexdigest()[:32]


def _version(package: str) -> str | None:
    """None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def sources(module: str) -> bytes:
    """Of a module and all of ours that it imports, with the files that these name."""
    return b"".join(map(_source, sorted(_imported(module))))


def _imported(module: str) -> set[str]:
    """`module` and every module of this project that it imports, directly or not, but by those `NOT_COMPUTING`."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name in NOT_COMPUTING:
            continue
        found.add(name)
        waiting += _imports(name)
    return found


@cache
def _imports(module: str) -> tuple[str, ...]:
    """The modules of this project that a module imports when it is loaded."""
    named = []
    for statement in ast.parse(Path(str(sys.modules[module].__file__)).read_bytes()).body:
        if isinstance(statement, ast.ImportFrom) and str(statement.module).split(".")[0] in PACKAGES:
            named += [str(statement.module), *(f"{statement.module}.{each.name}" for each in statement.names)]
    return tuple(name for name in named if getattr(sys.modules.get(name), "__file__", None))


@cache
def _source(module: str) -> bytes:
    """A module's file, and every file that a constant of its own names."""
    named = [value for value in vars(sys.modules[module]).values() if isinstance(value, Path) and value.is_file()]
    return b"".join(path.read_bytes() for path in (Path(str(sys.modules[module].__file__)), *named))


def _digits(predicted: Integers) -> str:
    return "".join(map(str, predicted.tolist()))


def predictions(digits: str) -> Integers:
    """The 0/1 predictions (n,) of a cell."""
    return np.frombuffer(digits.encode(), np.uint8).astype(np.int64) - ord("0")


def _processor_time() -> float:
    """Seconds of this process and of those it started and waited for."""
    return round(sum(os.times()[:4]), 2)
