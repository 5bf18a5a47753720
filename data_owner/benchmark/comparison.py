"""All systems on the same folds under DESIGN section 6: predictions pooled over every real row, then one score."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from concurrent.futures import as_completed
from pathlib import Path

import numpy as np
import pandas as pd

from data_owner.benchmark.cells import Cell, Key, Study, cell, predictions, prepared, split
from data_owner.benchmark.column_fidelity import TableFidelity
from data_owner.benchmark.portrait import Portrait, portrait
from data_owner.benchmark.processes import Processes
from data_owner.benchmark.registry import OURS
from data_owner.benchmark.resampling import Resampled, resampled
from data_owner.benchmark.systems import System
from shared.frozen import Frozen
from shared.metrics import PROTOCOL, Integers, ceiling, scores
from shared.progress import Progress
from shared.schema import Schema
from shared.scores import Fidelity, Scores

CELLS_A_PROCESS = 20


class Spread(Frozen):
    """Mean of a figure over seeds, with the lowest and the highest."""

    mean: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        found = list(values)
        return cls(mean=float(np.mean(found)), low=min(found), high=max(found))


class Judged(Frozen):
    """Scores of one downstream model over seeds."""

    demographic_parity_ratio: Spread
    equalized_odds_ratio: Spread
    accuracy: Spread
    recall: Spread
    f1: Spread

    @classmethod
    def of(cls, found: list[Scores]) -> Judged:
        return cls(**{name: Spread.of(getattr(each, name) for each in found) for name in Scores.model_fields})


class Row(Frozen):
    """One system. `ceiling` is the forest's predictions with s permuted, `resampled` on people drawn anew; `own` is
    the paper's protocol."""

    name: str
    title: str
    failure: str | None = None
    forest: Judged | None = None
    ceiling: Scores | None = None
    resampled: Resampled | None = None
    boosting: Judged | None = None
    own: Scores | None = None
    density: Spread | None = None
    coverage: Spread | None = None
    columns: TableFidelity | None = None
    seconds: float | None = None


class Comparison(Frozen):
    """`folds` were run of the study's. `sweep`: named lines of systems. `seconds` of a row are a fold's, until rows are
    made."""

    study: Study
    seeds: tuple[int, ...]
    folds: int
    positive: str
    rows: int
    groups: dict[str, int]
    protocol: str
    systems: tuple[Row, ...]
    sweep: dict[str, tuple[Row, ...]]
    portrait: Portrait | None

    @property
    def is_complete(self) -> bool:
        """Whether every fold ran, at full effort."""
        return self.folds == self.study.folds and self.study.effort == 1.0

    def columns(self, name: str) -> TableFidelity | None:
        """What the rows of a system keep of the columns, if it made any."""
        return next((row.columns for row in self.systems if row.name == name), None)


def compare(
    study: Study,
    systems: tuple[System, ...],
    sweep: Mapping[str, tuple[System, ...]],
    seeds: tuple[int, ...],
    folds_run: int,
    place: Path,
    workers: int,
    progress: Progress,
) -> Comparison:
    """Run the first `folds_run` folds, what is not in `place` yet, in `workers` processes, and pool.

    The portrait is drawn if our system is among them.
    """
    folds = range(folds_run)
    swept = tuple(system for line in sweep.values() for system in line)
    every = {system.name: system for system in (*systems, *swept)}
    keys = [Key(study=study, system=name, seed=seed, fold=fold) for name in every for seed in seeds for fold in folds]
    drawn = any(system.name == OURS for system in systems)
    cells, portrait = _run(keys, study if drawn else None, place, workers, progress)
    schema, _ = prepared(study.dataset, study.sensitive)
    tests = {seed: pd.concat([split(study, seed, fold)[2] for fold in folds], ignore_index=True) for seed in seeds}
    group = tests[seeds[0]][[column.name for column in schema.sensitive]].agg(", ".join, axis=1)
    rows = {
        system.name: _row(
            system,
            {seed: [cells[key] for key in keys if (key.system, key.seed) == (system.name, seed)] for seed in seeds},
            tests,
            schema,
        )
        for system in every.values()
    }
    return Comparison(
        study=study,
        seeds=seeds,
        folds=folds_run,
        positive=schema.positive,
        rows=len(tests[seeds[0]]),
        groups={str(label): int(count) for label, count in group.value_counts().items()},
        protocol=PROTOCOL,
        systems=tuple(rows[system.name] for system in systems),
        sweep={title: tuple(rows[system.name] for system in line) for title, line in sweep.items()},
        portrait=portrait,
    )


def _row(system: System, cells: dict[int, list[Cell]], tests: dict[int, pd.DataFrame], schema: Schema) -> Row:
    every = [one for found in cells.values() for one in found]
    failures = [one.failure for one in every if one.failure]
    if failures:
        return Row(name=system.name, title=system.title, failure=failures[0])
    forest, boosted, best, drawn = [], [], [], []
    for seed, found in cells.items():
        predicted = _pooled(one.forest for one in found)
        forest.append(scores(tests[seed], predicted, schema))
        best.append(ceiling(tests[seed], predicted, schema, seed))
        drawn.append(resampled(tests[seed], predicted, schema, seed))
        boosted.append(scores(tests[seed], _pooled(one.boosting for one in found), schema))
    own = [one.own for one in every if one.own]
    columns = [one.columns for one in every if one.columns]
    seconds = [one.seconds for one in every if one.seconds is not None]
    made = [[one.fidelity for one in found if one.fidelity] for found in cells.values()]
    fidelity = [Fidelity.mean(found) for found in made if found]
    return Row(
        name=system.name,
        title=system.title,
        forest=Judged.of(forest),
        ceiling=Scores.mean(best),
        resampled=Resampled.mean(drawn),
        boosting=Judged.of(boosted),
        own=Scores.mean(own) if own else None,
        density=Spread.of(one.density for one in fidelity) if fidelity else None,
        coverage=Spread.of(one.coverage for one in fidelity) if fidelity else None,
        columns=TableFidelity.mean(columns) if columns else None,
        seconds=round(float(np.mean(seconds)), 1) if seconds else None,
    )


def _pooled(digits: Iterable[str]) -> Integers:
    return predictions("".join(digits))


def _run(
    keys: list[Key], drawn: Study | None, place: Path, workers: int, progress: Progress
) -> tuple[dict[Key, Cell], Portrait | None]:
    """Each cell once, and the portrait of `drawn`. A killed run keeps what it finished."""
    place.mkdir(parents=True, exist_ok=True)
    found: dict[Key, Cell] = {}
    with Processes(workers, CELLS_A_PROCESS) as processes:
        running = {processes.submit(cell, key, place): key for key in keys}
        picture = processes.submit(portrait, drawn, place) if drawn else None
        for done in as_completed(running):
            key = running[done]
            found[key] = done.result()
            progress(len(found), len(keys), f"{key.system}, seed {key.seed}, fold {key.fold + 1}")
        return found, picture.result() if picture else None
