"""A comparison as a Markdown table and as the offline HTML report."""

from __future__ import annotations

from data_owner.benchmark.comparison import Comparison, Judged, Row, Spread
from shared.metrics import Fidelity, Scores
from shared.plots import frontier
from shared.report import Cell, Report, Section, Table, Verdict

COLUMNS = (
    "trained on",
    *("DPR", "EOR", "accuracy", "recall", "F1", "density", "coverage"),
    *("DPR, boosting", "EOR, boosting", "accuracy, boosting"),
    *("DPR, own protocol", "accuracy, own protocol"),
    "CPU s a fold",
)


def as_markdown(found: Comparison) -> str:
    """The README's table, with what stands beside every score."""
    lines = [headline(found), "", "| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for cells in rows(found):
        lines.append("| " + " | ".join(cells) + " |")
    failures = [f"{row.title}: {row.failure}" for row in found.systems if row.failure]
    return "\n".join([*lines, "", *(f"- {line}" for line in failures), *([""] if failures else []), found.protocol])


def headline(found: Comparison) -> str:
    groups = ", ".join(f"{label} {count:,}" for label, count in found.groups.items())
    quick = "" if found.is_complete else " A quick look, not a result."
    return (
        f"{found.study.dataset} by {' and '.join(found.study.sensitive)}: {found.rows:,} rows ({groups}), "
        f"{found.folds} of {found.study.folds} folds pooled, seeds {', '.join(map(str, found.seeds))}, positive class "
        f"{found.positive}. Means over seeds, lowest to highest in brackets.{quick}"
    )


def rows(found: Comparison) -> list[tuple[str, ...]]:
    """A row a system, then ceilings and floor, as printed."""
    first = found.systems[0]
    made = [_system(row) for row in found.systems]
    if first.ceiling is not None:
        made.append(_scores(f"ceiling: {first.title}, s permuted", first.ceiling))
    made.append(_scores("ceiling of density and coverage: real rows", None, found.fidelity_ceiling))
    made.append(_scores("floor: the constant classifier", found.floor))
    return [tuple(map(_text, cells)) for cells in made]


def as_report(found: Comparison) -> Report:
    """The table, a picture of fairness against accuracy, and what the figures mean."""
    points = {
        row.title: (row.forest.accuracy.mean, row.forest.demographic_parity_ratio.mean)
        for row in found.systems
        if row.forest
    }
    ours = found.systems[0]
    return Report(
        title=f"Fair synthetic {found.study.dataset}, system by system",
        subtitle=headline(found),
        verdicts=_verdicts(ours),
        facts=(("Protocol", found.protocol),),
        sections=(
            Section(
                "Every system on the same folds",
                "DPR and EOR are the demographic parity and equalized odds ratios, 1 is equal treatment. Boosting is a "
                "second downstream model. The own protocol is that of the Fair4Free paper, trained and tested on "
                "synthetic rows; it says nothing about real people.",
                (Table(COLUMNS, tuple(rows(found))),),
                (frontier({}, points, "Demographic parity ratio against accuracy, a point for each system."),),
            ),
        ),
    )


def _verdicts(ours: Row) -> tuple[Verdict, ...]:
    if ours.forest is None:
        return (Verdict("bad", ours.title, ours.failure or "did not run"),)
    parity, accuracy = ours.forest.demographic_parity_ratio, ours.forest.accuracy
    return (
        Verdict("neutral", f"{ours.title}: demographic parity ratio", "On real people, all folds.", _text(parity)),
        Verdict("neutral", f"{ours.title}: accuracy", "On real people, all folds.", _text(accuracy)),
    )


Shown = Cell | Spread


def _system(row: Row) -> tuple[Shown, ...]:
    if row.forest is None or row.boosting is None:
        return (row.title, *("failed" for _ in COLUMNS[1:]))
    boosted = row.boosting
    return (
        row.title,
        *_judged(row.forest),
        row.density,
        row.coverage,
        boosted.demographic_parity_ratio,
        boosted.equalized_odds_ratio,
        boosted.accuracy,
        row.own.demographic_parity_ratio if row.own else None,
        row.own.accuracy if row.own else None,
        row.seconds,
    )


def _judged(judged: Judged) -> tuple[Spread, ...]:
    return tuple(getattr(judged, name) for name in Scores.model_fields)


def _scores(title: str, found: Scores | None, fidelity: Fidelity | None = None) -> tuple[Shown, ...]:
    cells: list[Cell] = list(found.model_dump().values()) if found else [None] * len(Scores.model_fields)
    cells += [fidelity.density, fidelity.coverage] if fidelity else [None, None]
    return (title, *cells, *(None for _ in range(len(COLUMNS) - 1 - len(cells))))


def _text(cell: Shown) -> str:
    if cell is None:
        return ""
    if isinstance(cell, Spread):
        return (
            f"{cell.mean:.3f}" if cell.high - cell.low < 5e-4 else f"{cell.mean:.3f} [{cell.low:.3f}, {cell.high:.3f}]"
        )
    return f"{cell:.3f}" if isinstance(cell, float) else str(cell)
