"""A comparison asked for on the command line: run it and write HTML, JSON, a table in Markdown and a picture."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from data_owner.benchmark import registry
from data_owner.benchmark.cells import Study
from data_owner.benchmark.comparison import Comparison, compare
from data_owner.benchmark.comparison_report import as_report, parity_against_accuracy
from data_owner.benchmark.table import as_markdown
from data_owner.datasets import dataset
from shared import folder
from shared.errors import BadInput
from shared.progress import Progress

QUICK_EFFORT = 0.05


@dataclass(frozen=True)
class Request:
    """`systems` empty means all of them, and the references come with any; `sweep` adds our system over β; `quick` is
    one fold of one seed at `QUICK_EFFORT`, without systems under a budget that are not named."""

    dataset: str
    sensitive: tuple[str, ...]
    systems: tuple[str, ...]
    folds: int
    seeds: int
    sweep: bool
    quick: bool

    @property
    def name(self) -> str:
        """Of what is written: no quick look, no few systems, folds or seeds take the place of more."""
        few = [hashlib.sha256(" ".join(sorted(self.systems)).encode()).hexdigest()[:8]] if self.systems else []
        sweep = ["sweep"] if self.sweep else []
        effort = "quick" if self.quick else f"seeds{self.seeds}"
        return "-".join((self.dataset, *self.sensitive, *few, *sweep, f"folds{self.folds}", effort))


@dataclass(frozen=True)
class Written:
    """A comparison and what was written of it."""

    comparison: Comparison
    markdown: str
    report: Path


def run(request: Request, out: Path, workers: int, progress: Progress) -> Written:
    """Run or resume, then write HTML, JSON, Markdown and the picture of parity against accuracy as SVG, named by the
    request, into `out`; cells are kept there too."""
    known = dataset(request.dataset)
    unknown = [name for name in request.sensitive if name not in known.sensitive]
    if unknown:
        raise BadInput("not a sensitive column", field=unknown[0], remedy=f"choose from {', '.join(known.sensitive)}")
    names = request.systems or (registry.QUICK if request.quick else ())
    study = Study(
        dataset=request.dataset,
        sensitive=request.sensitive,
        folds=request.folds,
        effort=QUICK_EFFORT if request.quick else 1.0,
    )
    found = compare(
        study,
        registry.chosen((*names, *registry.REFERENCES) if names else ()),
        registry.SWEEP if request.sweep else {},
        seeds=(0,) if request.quick else tuple(range(request.seeds)),
        folds_run=1 if request.quick else request.folds,
        place=out / "cells",
        workers=workers,
        progress=progress,
    )
    markdown = as_markdown(found)
    report = out / f"{request.name}.html"
    folder.write(report, as_report(found).to_html().encode())
    folder.write(out / f"{request.name}.json", found.model_dump_json(indent=1).encode())
    folder.write(out / f"{request.name}.md", markdown.encode())
    folder.write(out / f"{request.name}.svg", parity_against_accuracy(found).svg.encode())
    return Written(found, markdown, report)
