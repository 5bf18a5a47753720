"""All systems on the same folds under DESIGN section 6: predictions pooled over every real row, then one score."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from data_owner.benchmark.cells import Cell, Key, Study, cell, predictions, prepared, split
from data_owner.benchmark.systems import System
from shared.metrics import PROTOCOL, Fidelity, Integers, Scores, ceiling, density_coverage, floor, scores
from shared.schema import Frozen, Schema

Progress = Callable[[int, int, str], None]


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
    """One system. `ceiling` is the forest's predictions with s permuted; `own` is the paper's protocol."""

    name: str
    title: str
    failure: str | None = None
    forest: Judged | None = None
    ceiling: Scores | None = None
    boosting: Judged | None = None
    own: Scores | None = None
    density: Spread | None = None
    coverage: Spread | None = None
    seconds: float | None = None


class Comparison(Frozen):
    """`folds` were run of the study's; `fidelity_ceiling`: real training rows against the same held-out rows.
    `seconds` of a row are a fold's."""

    study: Study
    seeds: tuple[int, ...]
    folds: int
    positive: str
    rows: int
    groups: dict[str, int]
    protocol: str
    fidelity_ceiling: Fidelity
    floor: Scores
    systems: tuple[Row, ...]

    @property
    def is_complete(self) -> bool:
        """Whether every fold ran, at full effort."""
        return self.folds == self.study.folds and self.study.effort == 1.0


def compare(
    study: Study,
    systems: tuple[System, ...],
    seeds: tuple[int, ...],
    folds_run: int,
    place: Path,
    workers: int,
    progress: Progress,
) -> Comparison:
    """Run the first `folds_run` folds, what is not in `place` yet, a process a core, and pool."""
    folds = range(folds_run)
    keys = [
        Key(study=study, system=system.name, seed=seed, fold=fold)
        for system in systems
        for seed in seeds
        for fold in folds
    ]
    cells = _run(keys, place, workers, progress)
    schema, _ = prepared(study.dataset, study.sensitive)
    tests = {seed: pd.concat([split(study, seed, fold)[2] for fold in folds], ignore_index=True) for seed in seeds}
    group = tests[seeds[0]][[column.name for column in schema.sensitive]].agg(", ".join, axis=1)
    return Comparison(
        study=study,
        seeds=seeds,
        folds=folds_run,
        positive=schema.positive,
        rows=len(tests[seeds[0]]),
        groups={str(label): int(count) for label, count in group.value_counts().items()},
        protocol=PROTOCOL,
        fidelity_ceiling=Fidelity.mean(
            [
                density_coverage(held_out, training, schema, seed)
                for seed in seeds
                for _, training, held_out in (split(study, seed, fold) for fold in folds)
            ]
        ),
        floor=floor(tests[seeds[0]], schema),
        systems=tuple(
            _row(
                system,
                {seed: [cells[key] for key in keys if (key.system, key.seed) == (system.name, seed)] for seed in seeds},
                tests,
                schema,
            )
            for system in systems
        ),
    )


def _row(system: System, cells: dict[int, list[Cell]], tests: dict[int, pd.DataFrame], schema: Schema) -> Row:
    every = [one for found in cells.values() for one in found]
    failures = [one.failure for one in every if one.failure]
    if failures:
        return Row(name=system.name, title=system.title, failure=failures[0])
    forest, boosted, best = [], [], []
    for seed, found in cells.items():
        predicted = _pooled(one.forest for one in found)
        forest.append(scores(tests[seed], predicted, schema))
        best.append(ceiling(tests[seed], predicted, schema, seed))
        boosted.append(scores(tests[seed], _pooled(one.boosting for one in found), schema))
    own = [one.own for one in every if one.own]
    made = [[one.fidelity for one in found if one.fidelity] for found in cells.values()]
    fidelity = [Fidelity.mean(found) for found in made if found]
    return Row(
        name=system.name,
        title=system.title,
        forest=Judged.of(forest),
        ceiling=Scores.mean(best),
        boosting=Judged.of(boosted),
        own=Scores.mean(own) if own else None,
        density=Spread.of(one.density for one in fidelity) if fidelity else None,
        coverage=Spread.of(one.coverage for one in fidelity) if fidelity else None,
        seconds=round(float(np.mean([one.seconds for one in every])), 1),
    )


def _pooled(digits: Iterable[str]) -> Integers:
    return predictions("".join(digits))


def _run(keys: list[Key], place: Path, workers: int, progress: Progress) -> dict[Key, Cell]:
    """Each cell once. A killed run keeps what it finished; interrupting it starts nothing new."""
    place.mkdir(parents=True, exist_ok=True)
    # one thread a process: OpenMP's waiting threads would starve the other processes
    os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[Key, Cell] = {}
    with ProcessPoolExecutor(workers, get_context("spawn"), _one_thread) as pool:
        running = {pool.submit(cell, key, place): key for key in keys}
        try:
            for done in as_completed(running):
                key = running[done]
                found[key] = done.result()
                progress(len(found), len(keys), f"{key.system}, seed {key.seed}, fold {key.fold + 1}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return found


def _one_thread() -> None:
    torch.set_num_threads(1)
