"""Pooled cross-validation under DESIGN section 6: train on synthetic, test on real, every real row once."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold

from data_owner import steps
from data_owner.datasets import dataset, load
from data_owner.disclosure import disclose
from data_owner.ingest import infer, ingest
from data_owner.measure import reference
from protocol.artefacts import Artefact
from shared.metrics import (
    PROTOCOL,
    ROWS_PER_RECORD,
    Fidelity,
    Scores,
    ceiling,
    density_coverage,
    floor,
    predict,
    scores,
)
from shared.schema import Frozen

Progress = Callable[[int, int, str], None]


class Benchmark(Frozen):
    """Pooled scores; density, coverage, seconds and bytes are means over folds."""

    dataset: str
    sensitive: tuple[str, ...]
    positive: str
    folds: int
    seed: int
    rows: int
    protocol: str
    synthetic: Scores
    original: Scores
    ceiling: Scores
    floor: Scores
    fidelity: Fidelity
    fidelity_ceiling: Fidelity
    training_seconds: float
    distillation_seconds: float
    release_bytes: int


def run(
    name: str,
    sensitive: tuple[str, ...],
    *,
    folds: int,
    seed: int,
    progress: Progress = steps.quiet,
) -> Benchmark:
    """Train, distil, generate and test once a fold."""
    known = dataset(name)
    table = load(name, sensitive)
    settings = infer(table, name=name, source=name, target=known.target, sensitive=sensitive, positive=known.positive)
    settings = settings.model_copy(update={"training": settings.training.model_copy(update={"seed": seed})})
    schema, canonical = disclose(ingest(table, settings), settings.policy.minimum_count)
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    tests, predicted, from_original = [], [], []
    fidelity, best_fidelity, seconds, sizes = [], [], [], []
    for fold, (train, test) in enumerate(splits.split(canonical, canonical[known.target])):
        training, held_out = (canonical.iloc[rows].reset_index(drop=True) for rows in (train, test))
        start = time.perf_counter()
        trained = steps.fit(
            steps.Prepared(schema, training, held_out),
            settings,
            progress=_scaled(progress, fold, folds),
        )
        released = steps.artefacts(schema, trained)
        middle = time.perf_counter()
        synthesiser, _ = reference(
            released[Artefact.SCHEMA], released[Artefact.DECODER], released[Artefact.STATISTICS], seed
        )
        seconds.append((middle - start, time.perf_counter() - middle))
        sizes.append(sum(map(len, released.values())))
        synthetic = synthesiser.table(seed, ROWS_PER_RECORD * len(training))
        tests.append(held_out)
        predicted.append(predict(synthetic, held_out, schema, seed))
        from_original.append(predict(training, held_out, schema, seed))
        fidelity.append(density_coverage(held_out, synthetic.iloc[: len(training)], schema, seed))
        best_fidelity.append(density_coverage(held_out, training, schema, seed))
    pooled = pd.concat(tests, ignore_index=True)
    pooled_predictions = np.concatenate(predicted)
    training_seconds, distillation_seconds = np.mean(seconds, axis=0)
    return Benchmark(
        dataset=name,
        sensitive=sensitive,
        positive=schema.positive,
        folds=folds,
        seed=seed,
        rows=len(pooled),
        protocol=PROTOCOL,
        synthetic=scores(pooled, pooled_predictions, schema),
        original=scores(pooled, np.concatenate(from_original), schema),
        ceiling=ceiling(pooled, pooled_predictions, schema, seed),
        floor=floor(pooled, schema),
        fidelity=_mean(fidelity),
        fidelity_ceiling=_mean(best_fidelity),
        training_seconds=round(float(training_seconds), 1),
        distillation_seconds=round(float(distillation_seconds), 1),
        release_bytes=max(sizes),
    )


def as_text(found: Benchmark) -> str:
    """A Markdown table: the very one of the README."""
    rows = (
        ("synthetic", found.synthetic, found.fidelity),
        ("original", found.original, None),
        ("ceiling", found.ceiling, found.fidelity_ceiling),
        ("floor", found.floor, None),
    )
    lines = [
        f"{found.dataset} by {', '.join(found.sensitive)}: {found.rows:,} rows, {found.folds} folds pooled, "
        f"positive class {found.positive}, seed {found.seed}",
        "",
        "| trained on | DPR | EOR | accuracy | recall | F1 | density | coverage |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, each, fidelity in rows:
        cells = [f"{value:.3f}" for value in each.model_dump().values()]
        cells += [f"{fidelity.density:.3f}", f"{fidelity.coverage:.3f}"] if fidelity else ["", ""]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    lines += [
        "",
        f"training {found.training_seconds} s a fold, distillation {found.distillation_seconds} s, "
        f"decoder + statistics + schema {found.release_bytes:,} bytes",
        "",
        found.protocol,
    ]
    return "\n".join(lines)


def _scaled(progress: Progress, fold: int, folds: int) -> Progress:
    def within(step: int, total: int, message: str) -> None:
        progress(fold * 1000 + 1000 * step // total, folds * 1000, f"fold {fold + 1}: {message}")

    return within


def _mean(found: list[Fidelity]) -> Fidelity:
    return Fidelity(
        density=float(np.mean([one.density for one in found])),
        coverage=float(np.mean([one.coverage for one in found])),
    )
