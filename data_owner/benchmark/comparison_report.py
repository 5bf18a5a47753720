"""A comparison as the offline HTML report: tables, fairness against accuracy, the paper's figures 3 and 4."""

from __future__ import annotations

import numpy as np

from data_owner.benchmark.comparison import Comparison, Row
from data_owner.benchmark.plots import frontier, importance_bars
from data_owner.benchmark.portrait import Portrait
from data_owner.benchmark.resampling import LEVEL
from data_owner.benchmark.table import (
    COLUMNS,
    EACH_COLUMN,
    FIDELITY_COLUMNS,
    RESAMPLED_COLUMNS,
    cell_text,
    column_rows,
    fidelity_rows,
    headline,
    resampled_rows,
    rows,
    sweep_rows,
)
from shared.latent_plots import overlay
from shared.report import Figure, Report, Section, Table, Verdict


def as_report(found: Comparison) -> Report:
    """Headlines, then every table and picture."""
    return Report(
        title=f"Fair synthetic {found.study.dataset}, system by system",
        subtitle=headline(found),
        verdicts=_verdicts(found),
        facts=(("Protocol", found.protocol),),
        sections=(_scores(found), _fidelity(found), *((_figures(found.portrait),) if found.portrait else ())),
    )


def _scores(found: Comparison) -> Section:
    tables = [Table(COLUMNS, tuple(rows(found))), Table(RESAMPLED_COLUMNS, tuple(resampled_rows(found)))]
    if found.sweep:
        tables.append(Table(COLUMNS, tuple(sweep_rows(found))))
    return Section(
        "Every system on the same folds",
        "DPR and EOR are the demographic parity and equalized odds ratios, 1 is equal treatment; with s permuted they "
        "are what chance leaves of a system's predictions. Boosting is a second downstream model. The own protocol is "
        "that of the Fair4Free paper, trained and tested on synthetic rows, ours balanced; nothing about real people. "
        f"Below, where {LEVEL:.0%} of a seed's scores lie if the people who were held out are drawn anew.",
        tuple(tables),
        (
            parity_against_accuracy(found),
            _against_accuracy(found, "equalized_odds_ratio", "equalized odds ratio"),
        ),
    )


def parity_against_accuracy(found: Comparison) -> Figure:
    return _against_accuracy(found, "demographic_parity_ratio", "demographic parity ratio")


def _against_accuracy(found: Comparison, ratio: str, title: str) -> Figure:
    def places(line: tuple[Row, ...]) -> dict[str, tuple[float, float]]:
        return {row.title: (row.forest.accuracy.mean, getattr(row.forest, ratio).mean) for row in line if row.forest}

    lines = {name: list(places(line).values()) for name, line in found.sweep.items()}
    alt = f"The {title} against accuracy on real people, a point for each system: up is fairer."
    return frontier({name: line for name, line in lines.items() if line}, places(found.systems), title, alt)


def _fidelity(found: Comparison) -> Section:
    tables = [Table(FIDELITY_COLUMNS, tuple(fidelity_rows(found)))]
    if each := column_rows(found):
        tables.append(Table(EACH_COLUMN, tuple(each)))
    return Section(
        "What is kept of the columns",
        "Against real held-out rows, with original data, the training rows, as the ceiling. Distance is Kolmogorov's "
        "for numbers and total variation for categories. A value that at least 1 % of rows share is a repeated one, a "
        "category of at most 1 % a rare one. Associations are of all pairs of columns: rank correlations, and with "
        "more than two categories how far they fix the other column (correlation ratio, Cramér's V).",
        tuple(tables),
    )


def _figures(portrait: Portrait) -> Section:
    return Section(
        "One fold looked at",
        "Above, the teacher's latents of training records and the student's, made from noise: one cloud if the student "
        "learned what was released. Below, what a forest relies on, trained on original and on synthetic rows: look "
        "whether the sensitive columns and what stands for them lose weight, and whether the rest keeps it.",
        figures=(
            overlay(
                {"teacher": np.array(portrait.teacher), "student": np.array(portrait.student)},
                "Latents of teacher and student by PCA and t-SNE; one cloud is good.",
            ),
            importance_bars(
                {"original rows": portrait.original, "synthetic rows": portrait.synthetic},
                "Permutation importance of each column on real held-out rows.",
            ),
        ),
    )


def _verdicts(found: Comparison) -> tuple[Verdict, ...]:
    """What the first system reached, and why others have no figures."""
    failed = tuple(Verdict("bad", row.title, row.failure) for row in found.systems if row.failure)
    first = found.systems[0]
    if first.forest is None:
        return failed
    text = f"On real people, {found.folds} of {found.study.folds} folds."
    parity, accuracy = first.forest.demographic_parity_ratio, first.forest.accuracy
    return (
        Verdict("neutral", f"{first.title}: demographic parity ratio", text, cell_text(parity)),
        Verdict("neutral", f"{first.title}: accuracy", text, cell_text(accuracy)),
        *failed,
    )
