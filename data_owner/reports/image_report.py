"""The owner's report of pictures, with originals that never leave the owner."""

from __future__ import annotations

from typing import Any

import pandas as pd

from data_owner.measure import Measured
from data_owner.records.ingest import MergedGroups
from data_owner.reports.owner_report import frame, gate_section, latent_section, merged_groups_table, training_section
from shared.generation import Synthesiser
from shared.headlines import picture_section, score_section
from shared.image_plots import group_counts, group_grid, picture_grid
from shared.judge import left_out
from shared.report import Report, Section, Table
from shared.schema import Schema


def image_report(
    measured: Measured,
    failures: tuple[str, ...],
    synthesiser: Synthesiser,
    held_out: pd.DataFrame,
    history: list[dict[str, Any]],
    merged: MergedGroups | None = None,
) -> Report:
    """Everything the gate looked at, for the person who approves. `failures`: all that it found against the release."""
    card, schema = measured.card, synthesiser.schema
    target = schema.target.name
    groups = tuple(group.label for group in schema.groups)
    return frame(
        card,
        failures,
        (
            gate_section(card),
            score_section(card),
            *([picture_section(measured.pictures)] if measured.pictures is not None else []),
            Section(
                "Originals and synthetic pictures",
                "Held-out originals, which stay with the owner, then synthetic ones, a row for each class. Last, one "
                "latent a class, decoded for every group: only what s decides may differ along a row.",
                figures=(
                    picture_grid(held_out, schema, "Real held-out pictures by class. They stay with the owner."),
                    picture_grid(measured.synthetic, schema, "Synthetic pictures by class."),
                    group_grid(synthesiser, "The same latent decoded for each group."),
                ),
            ),
            Section(
                "Classes and groups",
                f"Pictures of each {target} in each group: held out, then synthetic, where the group is drawn without "
                f"regard to the class.{_left_out(held_out, schema)}",
                (
                    Table((f"{target}, held out", *groups), tuple(group_counts(held_out, schema))),
                    Table((f"{target}, synthetic", *groups), tuple(group_counts(measured.synthetic, schema))),
                    *merged_groups_table(merged),
                ),
            ),
            latent_section(measured, synthesiser),
            training_section(history),
        ),
    )


def _left_out(held_out: pd.DataFrame, schema: Schema) -> str:
    """Which groups are not among the pictures that models are tested on, if any."""
    names = left_out(held_out, schema)
    return f" No model is tested on groups that lack a class here: {', '.join(names)}." if names else ""
