"""Our system under differential privacy: microdata from private marginals, and everything else trained on that.

What a record could tell is known from the data set's codebook; the fold's own schema, made from its records, serves
only to read the rows that come out.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from data_owner.benchmark import fair4free
from data_owner.benchmark.systems import Fold, Rows, Unsuitable
from data_owner.datasets import codebook
from data_owner.learning.teacher import TeacherSettings
from data_owner.privacy.accounting import affordable
from data_owner.privacy.declarations import with_budget
from data_owner.privacy.domain import domains
from data_owner.privacy.private_marginals import draw, plan, varied
from data_owner.privacy.recoding import recoded
from data_owner.records.disclosure import disclose
from data_owner.records.infer import infer
from data_owner.records.ingest import ingest, read
from data_owner.settings import OwnerSettings
from shared.conform import conform
from shared.progress import quiet
from shared.schema import MERGED, ImageColumn, NumericColumn, Schema


def epsilon_1(fold: Fold) -> Rows:
    return generate(fold, 1.0)


def epsilon_3(fold: Fold) -> Rows:
    return generate(fold, 3.0)


def epsilon_8(fold: Fold) -> Rows:
    return generate(fold, 8.0)


def microdata_1(fold: Fold) -> pd.DataFrame:
    """The microdata itself, once: what a teacher on it has to work with."""
    _, table = microdata(fold, 1.0)
    return readable(table, fold)


def generate(fold: Fold, epsilon: float) -> Rows:
    """The same teacher, release and student as without privacy, on microdata alone."""
    schema, table = microdata(fold, epsilon)
    private = replace(fold, schema=schema, training=table, held_out=table.iloc[:0])
    made = fair4free.train_and_distil(private, fair4free.PARITY, TeacherSettings()).synthesiser
    found = fair4free.rows(made, fold)
    return Rows(readable(found.for_models, fold), readable(found.like_training, fold))


def microdata(fold: Fold, epsilon: float) -> tuple[Schema, pd.DataFrame]:
    """Microdata at (ε, 1e-5), in a schema made from it."""
    settings, training = declared(fold, epsilon)
    records = read(training, settings, as_declared=True)
    privacy = settings.privacy
    assert privacy is not None
    asked = plan(domains(records.columns, settings), privacy, affordable(privacy.epsilon, privacy.delta))
    drawn, kept = varied(draw(records, settings, asked, quiet), settings)
    return disclose(ingest(drawn, kept), kept.policy.minimum_count, of_people=False)


def declared(fold: Fold, epsilon: float) -> tuple[OwnerSettings, pd.DataFrame]:
    """Settings with the codebook's declarations, and the training rows; what the fold's schema merged is a gap."""
    public = codebook(fold.dataset)
    found = infer(
        fold.training,
        name=fold.dataset,
        source=fold.dataset,
        target=fold.schema.target.name,
        sensitive=tuple(column.name for column in fold.schema.sensitive),
        positive=fold.schema.positive,
        small_groups="merge",
    )
    if set(public) != set(found.columns):
        raise Unsuitable("no codebook says what its columns can hold")
    if any(MERGED in column.categories for column in fold.schema.sensitive):
        raise Unsuitable("small groups were merged by looking at the records")
    return with_budget(found, epsilon, public), fold.training.replace(MERGED, None)


def readable(rows: pd.DataFrame, fold: Fold) -> pd.DataFrame:
    """Rows in the fold's schema, without those that have a group, a category or a gap it has no place for.

    A column of which the noise left one value is its lowest or first.
    """
    for column in fold.schema.features:
        if column.name not in rows.columns and not isinstance(column, ImageColumn):
            only = column.quantiles.values[0] if isinstance(column, NumericColumn) else column.categories[0]
            rows = rows.assign(**{column.name: only})
    rows, _ = recoded(fold.schema, rows)
    without_gaps = [column.name for column in fold.schema.tabular if not column.optional]
    return conform(fold.schema, rows.dropna(subset=without_gaps).reset_index(drop=True))
