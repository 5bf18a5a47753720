"""The consumer's audit of pictures: grids, and classifiers trained on synthetic pictures alone."""

from __future__ import annotations

import numpy as np
import pandas as pd

from consumer.audited import Audited, scored
from shared.card import Card
from shared.generation import Synthesiser
from shared.headlines import picture_section
from shared.image_plots import group_counts, group_grid, picture_grid
from shared.judge import ImageJudge
from shared.metrics import Integers, group_rates, outcome
from shared.report import Section, Table
from shared.scores import Fidelity, Scores

TRAINED_ON = 0.8
"""Share of the synthetic pictures that the classifier is trained on; the rest test it."""


def image_audit(synthesiser: Synthesiser, card: Card, rows: pd.DataFrame, own: pd.DataFrame | None) -> Audited:
    """Audit canonical pictures `rows`; `own`: real canonical pictures of the analyst's own, if any."""
    schema = synthesiser.schema
    mixed = rows.sample(frac=1.0, random_state=0)  # a folder may be sorted by class
    split = int(TRAINED_ON * len(rows))
    judge, tested = ImageJudge(schema, mixed.iloc[:split], seed=0), mixed.iloc[split:]
    predicted = judge.predict(judge.reference, tested if own is None else pd.concat([tested, own]))
    only, table = scored("synthetic pictures", tested, predicted[: len(tested)], schema)
    found = None if own is None else _own_section(judge, rows, own, predicted[len(tested) :])
    sections = [
        *([picture_section(card.pictures)] if card.pictures is not None else []),
        _synthetic_section(synthesiser, table, rows),
        *([found[1]] if found else []),
    ]
    return Audited(only, found[0] if found else None, tuple(sections))


def _synthetic_section(synthesiser: Synthesiser, scores: Table, rows: pd.DataFrame) -> Section:
    schema = synthesiser.schema
    groups = tuple(group.label for group in schema.groups)
    return Section(
        "On synthetic pictures alone",
        "A small classifier trained on four fifths of the pictures and tested on the rest says how consistent "
        "they are with themselves, not how a model does on real ones; for that, see the owner's figures above. Below, "
        "synthetic pictures by class, and one latent for each class decoded for every group: only what the group "
        "decides may differ along a row.",
        (
            scores,
            Table((f"{schema.target.name}, pictures", *groups), tuple(group_counts(rows, schema))),
        ),
        (
            picture_grid(rows, schema, "Synthetic pictures by class."),
            group_grid(synthesiser, "The same latent decoded for each group."),
        ),
    )


def _own_section(
    judge: ImageJudge, rows: pd.DataFrame, own: pd.DataFrame, predicted: Integers
) -> tuple[Scores, Section]:
    schema = judge.schema
    found, table = scored("synthetic pictures", own, predicted, schema)
    fidelity: Fidelity = judge.fidelity(own, rows)
    accuracies = group_rates(own, (outcome(own, schema) == predicted).astype(np.int64), schema)
    section = Section(
        "On your own pictures",
        f"Trained on synthetic pictures, tested on {len(own):,} of the real ones you gave. They went nowhere. Density "
        "and coverage are in the features of the classifier trained on the synthetic pictures.",
        (
            table,
            Table(("density", "coverage"), ((fidelity.density, fidelity.coverage),)),
            Table(("group", "accuracy"), tuple(accuracies.items())),
        ),
        (picture_grid(own, schema, "Your own pictures by class."),),
    )
    return found, section
