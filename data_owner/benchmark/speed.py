"""What our system takes on one fold: `python -m data_owner.benchmark.speed DATASET SENSITIVE...`

One run, as `train`, `distill` and `generate` are: what torch loads once in a process that trains, the teacher, the
student, then rows into Parquet, four times as many the second time. Peak memory is the process's so far, with torch and
all: where rows take flat memory, the second run of them adds nothing.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from rich.console import Console
from rich.table import Table

from data_owner.benchmark.cells import Study, split
from data_owner.benchmark.fair4free import PARITY, distil, train
from data_owner.benchmark.systems import Fold
from data_owner.learning.teacher import TeacherSettings
from shared.table import TableWriter

ROWS = (1_000_000, 4_000_000)


def measured(study: Study, runs: tuple[int, ...]) -> Table:
    """A line for each step on fold 0 at seed 0; `runs` are numbers of rows to make."""
    table = Table("step", "seconds", "processor seconds", "rows a second", "peak memory, MB")

    @contextmanager
    def step(name: str, rows: int | None = None) -> Iterator[None]:
        clock, processor = time.perf_counter(), time.process_time()
        yield
        clock, processor = time.perf_counter() - clock, time.process_time() - processor
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        rate = "" if rows is None else f"{rows / clock:,.0f}"
        table.add_row(name, f"{clock:.1f}", f"{processor:.1f}", rate, f"{peak:,.0f}")

    schema, training, held_out = split(study, seed=0, fold=0)
    with TemporaryDirectory() as scratch:
        fold = Fold(study.dataset, schema, training, held_out, 0, study.effort, Path(scratch))
        with step("loading optimisers"):
            torch.optim.AdamW([torch.zeros(1, requires_grad=True)]).zero_grad()
        with step(f"teacher, {len(training):,} records"):
            trained = train(fold, PARITY, TeacherSettings())
        with step("student"):
            synthesiser = distil(fold, trained)
        for rows in runs:
            path = Path(scratch) / f"{rows}.parquet"
            with step(f"{rows:,} rows to Parquet", rows), TableWriter(path, {}) as writer:
                synthesiser.write(writer, 0, 0, rows)
    return table


if __name__ == "__main__":
    dataset, *sensitive = sys.argv[1:]
    Console().print(measured(Study(dataset=dataset, sensitive=tuple(sensitive), folds=5), ROWS))
