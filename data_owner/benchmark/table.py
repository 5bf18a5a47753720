"""A comparison as tables of text."""

from __future__ import annotations

from data_owner.benchmark.column_fidelity import FIGURES
from data_owner.benchmark.comparison import Comparison, Judged, Row, Spread
from data_owner.benchmark.registry import CONSTANT, ORIGINAL, OURS
from data_owner.benchmark.resampling import Interval, Resampled
from shared.report import Cell
from shared.scores import Scores

COLUMNS = (
    "trained on",
    *("DPR", "EOR", "accuracy", "recall", "F1", "density", "coverage"),
    *("DPR, s permuted", "EOR, s permuted"),
    *("DPR, boosting", "EOR, boosting", "accuracy, boosting"),
    *("DPR, own protocol", "EOR, own protocol", "accuracy, own protocol"),
    "CPU s a fold",
)

STANDS_FOR = {ORIGINAL: ": ceiling of density and coverage", CONSTANT: ": floor"}
"""What the rows of references are to all others."""

RESAMPLED_COLUMNS = ("trained on", "DPR", "EOR", "accuracy")

FIDELITY_COLUMNS = (
    "made by",
    *("distance of a column", "repeated values kept", "on the column's grid", "rare categories kept"),
    *("difference in missing", "difference in missing patterns", "difference in associations"),
)

EACH_COLUMN = ("column", *(name for figure in FIGURES for name in (figure, "real rows")))


def as_markdown(found: Comparison) -> str:
    """The tables of RESULTS.md, with what stands beside every score."""
    failures = [f"- {row.title}: {row.failure}" for row in found.systems if row.failure]
    parts = [
        [headline(found)],
        _table(COLUMNS, rows(found)),
        failures,
        _table(RESAMPLED_COLUMNS, resampled_rows(found)),
        _table(COLUMNS, sweep_rows(found)),
        _table(FIDELITY_COLUMNS, [tuple(map(cell_text, cells)) for cells in fidelity_rows(found)]),
        _table(EACH_COLUMN, [tuple(map(cell_text, cells)) for cells in column_rows(found)]),
        [found.protocol],
    ]
    return "\n\n".join("\n".join(lines) for lines in parts if lines)


def _table(columns: tuple[str, ...], body: list[tuple[str, ...]]) -> list[str]:
    """Lines of Markdown; none for no rows."""
    lines = [columns, ("---",) * len(columns), *body]
    return ["| " + " | ".join(cells) + " |" for cells in lines] if body else []


def headline(found: Comparison) -> str:
    groups = ", ".join(f"{label} {count:,}" for label, count in found.groups.items())
    quick = "" if found.is_complete else " A quick look with fewer rows and steps, not a result."
    return (
        f"{found.study.dataset} by {' and '.join(found.study.sensitive)}: {found.rows:,} rows ({groups}), "
        f"{found.folds} of {found.study.folds} folds pooled, seeds {', '.join(map(str, found.seeds))}, positive class "
        f"{found.positive}. Means over seeds, ± half the range.{quick}"
    )


def rows(found: Comparison) -> list[tuple[str, ...]]:
    """A row a system, as printed."""
    return [tuple(map(cell_text, _system(row))) for row in found.systems]


def sweep_rows(found: Comparison) -> list[tuple[str, ...]]:
    """A row for each point of each line, as printed."""
    return [tuple(map(cell_text, _system(row))) for line in found.sweep.values() for row in line]


def resampled_rows(found: Comparison) -> list[tuple[str, ...]]:
    """A row a system, the intervals of its scores."""
    every = [(row.title, row.resampled) for row in found.systems if row.resampled]
    return [
        (title, *(_interval(getattr(intervals, name)) for name in Resampled.model_fields)) for title, intervals in every
    ]


def fidelity_rows(found: Comparison) -> list[tuple[Cell, ...]]:
    """A row a system that makes rows: means over the columns that have the figure."""
    return [
        (
            row.title,
            *(row.columns.over_columns(figure) for figure in FIGURES),
            row.columns.patterns,
            row.columns.associations,
        )
        for row in found.systems
        if row.columns
    ]


def column_rows(found: Comparison) -> list[tuple[Cell, ...]]:
    """A row a column: each figure of our rows, with that of real rows beside it; none without either."""
    made, real = found.columns(OURS), found.columns(ORIGINAL)
    if made is None or real is None:
        return []
    return [
        (column.name, *(getattr(each, figure) for figure in FIGURES for each in (column, ceiling)))
        for column, ceiling in zip(made.columns, real.columns, strict=True)
    ]


Shown = Cell | Spread


def _system(row: Row) -> tuple[Shown, ...]:
    title = row.title + STANDS_FOR.get(row.name, "")
    if row.forest is None or row.boosting is None:
        return (title, *("failed" for _ in COLUMNS[1:]))
    boosted = row.boosting
    return (
        title,
        *_judged(row.forest),
        row.density,
        row.coverage,
        row.ceiling.demographic_parity_ratio if row.ceiling else None,
        row.ceiling.equalized_odds_ratio if row.ceiling else None,
        boosted.demographic_parity_ratio,
        boosted.equalized_odds_ratio,
        boosted.accuracy,
        row.own.demographic_parity_ratio if row.own else None,
        row.own.equalized_odds_ratio if row.own else None,
        row.own.accuracy if row.own else None,
        row.seconds,
    )


def _judged(judged: Judged) -> tuple[Spread, ...]:
    return tuple(getattr(judged, name) for name in Scores.model_fields)


def _interval(found: Interval) -> str:
    return f"{found.low:.3f} to {found.high:.3f}"


def cell_text(cell: Shown) -> str:
    """A figure to three decimals; a mean with half its range, if that shows."""
    if cell is None:
        return ""
    if isinstance(cell, Spread):
        half = f"{(cell.high - cell.low) / 2:.3f}"
        return f"{cell.mean:.3f}" + (f" ± {half}" if float(half) else "")
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
