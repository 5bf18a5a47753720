"""The owner's report: what was measured, with pictures of held-out records that never leave the owner."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from data_owner.measure import Measured
from data_owner.records.ingest import MergedGroups
from shared.associations import associations
from shared.card import Card
from shared.clock import minute
from shared.codec import group_positions
from shared.generation import Synthesiser
from shared.headlines import attack_verdict, score_section, score_verdicts
from shared.latent_plots import student_overlay
from shared.metrics import PERMUTATIONS, group_rates, judged_groups, outcome
from shared.plots import correlations, curves, group_bars, marginals
from shared.report import Report, Section, Table, Verdict
from shared.schema import MERGED, CategoricalColumn, Schema, joint_label


def owner_report(
    measured: Measured,
    failures: tuple[str, ...],
    synthesiser: Synthesiser,
    held_out: pd.DataFrame,
    history: list[dict[str, Any]],
    merged: MergedGroups | None = None,
) -> Report:
    """Everything the gate looked at, for the person who approves. `failures`: all that it found against the release."""
    card, schema = measured.card, synthesiser.schema
    sample = measured.synthetic.iloc[: len(held_out)]
    rates = {
        "recorded": group_rates(held_out, outcome(held_out, schema), schema),
        "synthetic": group_rates(measured.synthetic, outcome(measured.synthetic, schema), schema),
        "predicted": measured.predicted,
    }
    judged = how_judged(schema, held_out)
    real = "microdata" if card.microdata else "real"
    return frame(
        card,
        failures,
        (
            gate_section(card),
            score_section(card),
            Section(
                "Groups",
                "How often the target is positive in each group: recorded of held-out rows, in synthetic rows, "
                "and predicted of held-out rows by a model of synthetic rows. The count beside is of rows trained on. "
                "Demographic parity is the lowest prediction over the highest, where the groups judged together "
                "count as one: few are held out of each. Groups differ by chance too: with s permuted, a fairness "
                f"floor would refuse these predictions {measured.refused_by_chance} of {PERMUTATIONS} times.",
                (
                    Table(
                        ("group", f"training {card.rows} (to tens)", *rates, "judged"),
                        tuple(
                            (
                                group.label,
                                group.records,
                                *(each.get(group.label) for each in rates.values()),
                                judged.get(group.label),
                            )
                            for group in card.groups
                        ),
                    ),
                    *merged_groups_table(merged),
                ),
                (group_bars(rates, "Positive rate by group: recorded, synthetic and predicted."),),
            ),
            Section(
                "Columns",
                f"Distribution of each column: held-out {card.rows} in grey, synthetic rows in blue. Both are as "
                "released, rare categories merged: group them in the file if the table names a column that matters.",
                merged_table(schema, held_out, card.rows),
                figures=(
                    marginals(
                        schema,
                        {real: held_out, "synthetic": sample},
                        f"Each column in held-out {card.rows} and in as many synthetic rows: alike where blue follows "
                        "grey.",
                    ),
                ),
            ),
            Section(
                "Associations",
                f"How closely columns hang together, in held-out {card.rows} and in synthetic rows; equal pictures are "
                "good. Of numbers and of two categories rank correlations, from -1 to 1; with more categories how far "
                "they fix the other column, from 0 to 1 (correlation ratio, Cramér's V).",
                figures=(
                    correlations(
                        [column.name for column in schema.tabular],
                        {real: associations(schema, held_out), "synthetic": associations(schema, sample)},
                        f"Associations of every two columns, {real} and synthetic.",
                    ),
                ),
            ),
            latent_section(measured, synthesiser),
            training_section(history),
        ),
    )


def frame(card: Card, failures: tuple[str, ...], sections: tuple[Section, ...]) -> Report:
    """Title, verdicts and facts around the sections."""
    return Report(
        title=f"What {card.node} would release",
        subtitle=f"Measured at the owner on {card.held_out:,} held-out {card.rows}. Target {card.target}, positive "
        f"class {card.positive}, sensitive {', '.join(card.sensitive)}. For the person who approves; not for release.",
        verdicts=(gate_verdict(failures), *score_verdicts(card), attack_verdict(card)),
        facts=(
            (f"Training {card.rows}", f"{card.records:,} (to the nearest ten)"),
            ("Criterion", f"{card.criterion}, labels repaired with strength {card.repair:g}"),
            ("Privacy", card.privacy),
            ("Protocol", card.protocol),
        ),
        sections=sections,
    )


def named(report: Report, version: int, at: int) -> Report:
    """The same report with the release that it is of, and when that was measured."""
    return replace(report, title=f"{report.title}: release {version}", subtitle=f"{minute(at)}. {report.subtitle}")


def gate_section(card: Card) -> Section:
    return Section(
        "The gate",
        "Each line of the policy in owner.toml. A release with a line that did not pass cannot be approved.",
        (
            Table(
                ("check", "measured", "required", "passed"),
                tuple(
                    (check.name, check.measured, check.required, "yes" if check.passed else "NO")
                    for check in card.checks
                ),
            ),
        ),
    )


def how_judged(schema: Schema, held_out: pd.DataFrame) -> dict[str, str]:
    """Whether fairness is measured of a group apart or together with others, by label; none where none is held out."""
    groups = group_positions(schema, held_out)
    together = groups[judged_groups(groups) == -1]
    return {
        schema.groups[index].label: "together" if index in together else "apart"
        for index in map(int, np.unique(groups))
    }


def merged_table(schema: Schema, held_out: pd.DataFrame, rows: str) -> tuple[Table, ...]:
    """Each column with merged categories, if any: how many are left beside, and of how many held-out `rows`."""
    found = [
        (column.name, len(column.categories) - 1, round(float((held_out[column.name] == MERGED).mean()), 2))
        for column in schema.columns
        if isinstance(column, CategoricalColumn) and MERGED in column.categories
    ]
    return (Table(("column", "categories kept", f"share of {rows} merged"), tuple(found)),) if found else ()


def merged_groups_table(merged: MergedGroups | None) -> tuple[Table, ...]:
    """Sensitive groups that were too small, if any: of how many records, and the group that these count to."""
    if merged is None:
        return ()
    columns = ("sensitive groups that were too small", "counted to", "share of records")
    return (Table(columns, ((merged.groups, joint_label(merged.into), round(merged.share, 4)),)),)


def latent_section(measured: Measured, synthesiser: Synthesiser) -> Section:
    reached = measured.distillation
    return Section(
        "Latents",
        f"The reference student's squared distance to the released sketch, on frequencies it was not trained "
        f"on, is {reached.distance:.1e}; the Gaussian of the same moments has {reached.gaussian_distance:.1e}, the "
        f"prior {reached.prior_distance:.1e}.",
        figures=(student_overlay(synthesiser),),
    )


def training_section(history: list[dict[str, Any]]) -> Section:
    names = ("reconstruction", "divergence", "target")
    return Section(
        "Training",
        "Validation losses of the teacher, in nats a record.",
        figures=(
            curves(
                [entry["step"] for entry in history],
                {name: [entry[name] for entry in history] for name in names},
                "nats a record",
                "Validation losses over training steps.",
            ),
        ),
    )


def gate_verdict(failures: tuple[str, ...]) -> Verdict:
    """As of when the gate was run: this page is not written again where `attack` or a person decides."""
    if failures:
        return Verdict("bad", "Gate", f"{'; '.join(failures)}. {SINCE}", "refused")
    return Verdict("good", "Gate", f"Every line of the policy passed when this was measured. {SINCE}", "passed")


SINCE = "What was found and decided since is in privacy.html."
