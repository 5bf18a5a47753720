"""The consumer's audit of a table: its columns, and models trained on synthetic rows alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from consumer.audited import Audited, scored
from shared.associations import associations
from shared.card import Card
from shared.codec import group_sizes
from shared.generation import group_shares
from shared.metrics import (
    density_coverage,
    group_rates,
    out_of_fold,
    outcome,
    predict,
    random_forest,
)
from shared.plots import correlations, group_bars, marginals, score_bars
from shared.report import Section, Table
from shared.schema import NumericColumn, Schema
from shared.scores import Scores
from shared.table import drawn_rows

LARGEST = 10


def table_audit(schema: Schema, card: Card, rows: pd.DataFrame, own: pd.DataFrame | None) -> Audited:
    """Audit canonical `rows` of a table; `own`: real rows of the analyst's own, if any."""
    only, synthetic = _synthetic_section(schema, card, rows)
    found = None if own is None else _own_section(schema, rows, own)
    sections = (
        synthetic,
        *([found[1]] if found else []),
        _marginal_section(schema, rows, own),
    )
    return Audited(only, found[0] if found else None, sections)


def _synthetic_section(schema: Schema, card: Card, rows: pd.DataFrame) -> tuple[Scores, Section]:
    found, table = scored("synthetic rows", rows, out_of_fold(rows, schema), schema)
    rates = {"synthetic": group_rates(rows, outcome(rows, schema), schema)}
    counts, released = group_sizes(schema, rows), group_shares(schema)
    trained_on = {group.label: group.records for group in card.groups}
    return found, Section(
        "On synthetic rows alone",
        "Trained and tested on synthetic rows, the Fair4Free paper's protocol. It says how consistent the rows are "
        "with themselves, not how a model does on people; for that, see the owner's figures above, which are of models "
        "trained on rows of generate --balanced. In rows of this release labels are drawn independently of the group, "
        "so that rates by group are alike whatever was recorded. To describe people, generate without --balanced, or "
        "weigh each row by its group's share of the records over that of the rows. Rows of groups that few records "
        "were trained on resemble those of larger groups: they do not describe these people.",
        (
            table,
            Table(
                ("group", "rows", "share", "share in the records", f"training {card.rows} (to tens)", "positive rate"),
                tuple(
                    (
                        group.label,
                        int(counts[index]),
                        float(counts[index]) / len(rows),
                        float(released[index]),
                        trained_on.get(group.label),
                        rates["synthetic"].get(group.label),
                    )
                    for index, group in enumerate(schema.groups)
                ),
            ),
        ),
        (group_bars(rates, "Share of positive rows in each synthetic group."),),
    )


def _marginal_section(schema: Schema, rows: pd.DataFrame, own: pd.DataFrame | None) -> Section:
    """Marginals against the released quantile tables, and associations."""
    tables = {"synthetic": rows} if own is None else {"own records": own, "synthetic": rows}
    matrices = {name: associations(schema, each) for name, each in tables.items()}
    names = [column.name for column in schema.tabular]
    distances = {
        column.name: quantile_distance(column, rows[column.name])
        for column in schema.columns
        if isinstance(column, NumericColumn)
    }
    lines = sorted(distances.items(), key=lambda entry: -entry[1])[:LARGEST]
    return Section(
        "Columns",
        "Distribution of each column, and for numbers the largest difference between the synthetic distribution "
        f"function and the released quantile table, of groups as recorded (0 is equal, 1 as far as can be); the "
        f"{LARGEST} largest. No figure of the records' associations is released: the owner's report compares them, so "
        "ask which pairs are furthest apart. A column that another fixes in the records, as a diagnosis its class, is "
        "not always fixed here.",
        (Table(("number", "largest difference"), tuple(lines)),) if lines else (),
        (
            marginals(schema, tables, f"Each column in these rows: {' and '.join(tables)}."),
            correlations(names, matrices, f"Associations of every two columns: {' and '.join(matrices)}."),
        ),
    )


def quantile_distance(column: NumericColumn, values: pd.Series) -> float:
    """Kolmogorov's distance between the values that are present and the column's quantile table, at its points."""
    present = np.sort(values.dropna().to_numpy(float))
    if len(present) == 0:
        return 1.0
    points, ranks = np.asarray(column.quantiles.values), np.asarray(column.quantiles.ranks)
    distinct = np.unique(points)
    # a value is a point or less where it was that, or half a step more at most, before it was rounded
    at = distinct + 0.5 * 10.0**-column.decimals
    released = np.interp(at, points, ranks)  # of a repeated point, its highest rank
    empirical = np.searchsorted(present, at, "right") / len(present)
    return float(np.abs(released - empirical).max())


ROWS_PER_OWN = 4
"""As many as an owner compares with each held-out record: of more, some lie near anything."""


def _own_section(schema: Schema, rows: pd.DataFrame, own: pd.DataFrame) -> tuple[Scores, Section]:
    found, table = scored("synthetic rows", own, predict(rows, own, schema, random_forest(0)), schema)
    compared = drawn_rows(rows, ROWS_PER_OWN * len(own), np.random.default_rng(0))
    fidelity = density_coverage(own, compared, schema, seed=0)
    return found, Section(
        "On your own records",
        f"Trained on synthetic rows, tested on the {len(own):,} real rows you gave. They went nowhere. The ceiling is "
        "what chance leaves of the same predictions with groups permuted; the constant classifier names the commonest "
        f"class. Density and coverage are of at most {ROWS_PER_OWN} synthetic rows for each of yours.",
        (table, Table(("density", "coverage"), ((fidelity.density, fidelity.coverage),))),
        (score_bars({"synthetic rows, your records": found}, "Scores on your own records."),),
    )
