"""The consumer's audit: what can be known of synthetic rows without a single record.

Beside it stands what the owner measured on held-out records, which is on the release card. An analyst who holds a
real file of their own gets the real comparison too.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from consumer.image_audit import image_audit
from consumer.lineage import Lineage, Origin, Run
from consumer.reading import AUDITED_ROWS, Rows
from consumer.table_audit import table_audit
from protocol.manifest import Manifest
from shared.card import Card
from shared.conform import conform, listed
from shared.generation import Synthesiser, group_shares
from shared.headlines import attack_verdict, score_section, score_verdicts
from shared.judge import ImageJudge, TableJudge
from shared.latent_plots import student_overlay
from shared.plots import curves
from shared.report import Level, Report, Section, Table, Verdict
from shared.schema import Schema
from shared.scores import Scores
from shared.student import Distillation
from shared.table import drawn_rows

DRAW = 0
"""Draws the rows of a longer table that models learn from; its origin is looked for in all of it."""


@dataclass(frozen=True)
class Audit:
    """Scores of models trained and tested on synthetic rows, and the report."""

    synthetic_only: Scores
    on_own_records: Scores | None
    report: Report = field(repr=False)


def audit_report(
    synthesiser: Synthesiser,
    card: Card,
    manifest: Manifest,
    synthetic: Rows,
    distillation: Distillation,
    origin: Origin,
    real: Rows | None,
) -> Audit:
    """Audit synthetic rows. `real`: rows of the analyst's own, if any."""
    schema = synthesiser.schema
    rows = conform(schema, drawn_rows(synthetic.table, AUDITED_ROWS, np.random.default_rng(DRAW)))
    own = None if real is None else conform(schema, real.table)
    looked_at = [("Synthetic rows", len(rows), synthetic)]
    looked_at += [] if real is None else [("Your own rows", len(real.table), real)]
    audited = (
        table_audit(schema, card, rows, own) if schema.image is None else image_audit(synthesiser, card, rows, own)
    )
    report = Report(
        title=f"Audit of synthetic rows from {manifest.node}",
        subtitle=f"{synthetic.held:,} rows, release {manifest.version}. Target {card.target}, positive class "
        f"{card.positive}, sensitive {', '.join(card.sensitive)}. "
        + _made_from(card, origin.lineage, has_own=own is not None),
        verdicts=(
            _origin(origin.lineage),
            *_of_the_owners_rows(card, origin, distillation, schema),
            attack_verdict(card),
            *_of_the_owners_gate(card),
        ),
        facts=(
            ("Groups", _groups(origin.run)),
            ("Labels", _labels(card) if origin.lineage is Lineage.PROVED else "not known"),
            ("Standard errors", STANDARD_ERRORS.format(card.records, card.rows)),
            ("Privacy", manifest.privacy),
            ("Release expires", f"{datetime.fromtimestamp(manifest.expires, UTC):%Y-%m-%d}"),
            ("Measured by the owner", card.protocol),
            *((name, f"{some:,} of {of.held:,}, drawn at random") for name, some, of in looked_at if some < of.held),
            *((f"{name}, seed of the draw", str(of.draw)) for name, _, of in looked_at if len(of.table) < of.held),
            *_foreign_columns(synthetic, schema),
        ),
        sections=(
            _trust(manifest, origin.lineage),
            score_section(card),
            *audited.sections,
            _latent_section(synthesiser, distillation),
        ),
    )
    return Audit(audited.synthetic_only, audited.on_own_records, report)


def _made_from(card: Card, lineage: Lineage, *, has_own: bool) -> str:
    """What records had to do with the rows, and with this audit of them."""
    said = []
    if lineage is Lineage.PROVED:
        said.append(f"The rows come from a decoder trained on some {card.records:,} {card.rows}.")
    if has_own:
        said.append("Beside them are records of your own, which went nowhere.")
    elif lineage is Lineage.PROVED:
        said.append("This audit saw no record.")
    return " ".join(said)


def _groups(run: Run | None) -> str:
    """How often the groups of the audited rows come."""
    if run is None:
        return "not known"
    return "halfway to equally often (generate --balanced)" if run.balanced else "as recorded"


def _labels(card: Card) -> str:
    """What the target's column is, which is not what happened to anyone."""
    how = "repaired, not observed outcomes" if card.repair else "as recorded ones are distributed"
    return f"{how}; drawn independently of the group, so all groups have the same rate, whatever was recorded"


STANDARD_ERRORS = (
    "of these rows say nothing, however many rows there are: all that is known comes from some {:,} {}, by way of a "
    "model with errors of its own"
)


def _origin(lineage: Lineage) -> Verdict:
    text = f"Signed by the owner; these rows: {lineage.value}."
    if lineage is Lineage.PROVED:
        return Verdict("good", "Origin", text, "verified")
    if lineage is Lineage.UNKNOWN:
        return Verdict("caution", "Origin", text, "unproved")
    return Verdict("bad", "Origin", text, "mismatch")


def _foreign_columns(synthetic: Rows, schema: Schema) -> tuple[tuple[str, str], ...]:
    """What the file holds beside the columns of the release, if it does."""
    names = [name for name in synthetic.table.columns if name not in schema.names]
    return (("Columns that are not of the release, not audited", listed(names)),) if names else ()


def _of_the_owners_rows(card: Card, origin: Origin, distillation: Distillation, schema: Schema) -> tuple[Verdict, ...]:
    """The card's headlines, which the owner measured on rows that it made itself from this release, with a student of
    its own. What a model does hangs on how often groups come, too."""
    doubts = []
    if origin.lineage is not Lineage.PROVED:
        doubts.append("Measured by the owner on other rows; nothing shows that these are alike.")
    if distillation.has_failed:
        doubts.append(
            "Measured by the owner with another student; yours is further from the released statistics than a Gaussian "
            "of their moments: distil by another seed."
        )
    fair, useful, *others = score_verdicts(card)
    of_models = [*doubts, *_other_groups(origin.run, schema)]
    return (
        _doubted(fair, of_models),
        _doubted(useful, of_models),
        *(_doubted(verdict, doubts) for verdict in others),
    )


def _other_groups(run: Run | None, schema: Schema) -> list[str]:
    """Says so unless the audited rows have groups as often as those that the owner's models learn from."""
    judge = TableJudge if schema.image is None else ImageJudge
    if run is not None and run.balanced == judge.balanced:
        return []
    learned = "of generate --balanced" if judge.balanced else "with groups as recorded"
    these = "these are not known to be" if run is None else "these are not"
    return [f"The owner's model learned from rows {learned}, which {these}."]


def _doubted(verdict: Verdict, doubts: list[str]) -> Verdict:
    """A headline that says why it is no good news, if there is a doubt."""
    level: Level = "caution" if doubts and verdict.level == "good" else verdict.level
    return replace(verdict, level=level, text=" ".join((*doubts, verdict.text)))


def _of_the_owners_gate(card: Card) -> tuple[Verdict, ...]:
    """The checks that did not pass, if any: over such nobody at an honest owner can let a release out."""
    failed = [
        f"{each.name} is {each.measured:g}, asked for is {each.required:g}" for each in card.checks if not each.passed
    ]
    if card.checks and not failed:
        return ()
    text = f"By its card the release does not pass: {'; '.join(failed) or 'nothing was checked'}."
    return (Verdict("bad", "Held to the owner's policy", text, "failed"),)


def _trust(manifest: Manifest, lineage: Lineage) -> Section:
    lines = [
        ("manifest", "signature of the owner's release key", "verified"),
        ("version", f"{manifest.version}, not older than any seen before", "verified"),
        *(
            (kind.value, f"{digest.length:,} bytes, SHA-256 {digest.sha256[:16]}…", "verified")
            for kind, digest in manifest.artefacts.items()
        ),
        ("synthetic rows", lineage.value, "verified" if lineage is Lineage.PROVED else lineage.name.lower()),
    ]
    return Section(
        "What crossed, and whether it is what was signed",
        "Of what is made from records five things came, each checked against the signature before it was read; beside "
        "them keys, signatures and the log's proof of approval, with the approver's name.",
        (Table(("what", "checked", "result"), tuple(lines)),),
    )


def _latent_section(synthesiser: Synthesiser, distillation: Distillation) -> Section:
    steps = [entry[0] for entry in distillation.history]
    return Section(
        "Latents",
        "The student learned the latents from noise and the released sketch. Its squared distance to the sketch, on "
        "frequencies it was not trained on, beside Gaussians of the released moments and of unit variance. Then how "
        "far the latents, whitened by class, depend on the sensitive group (V²), from the sketch by group, in which "
        "small groups are one. Of n records in independent groups chance leaves something like 1/n.",
        (
            Table(
                ("latents", "squared sketch distance"),
                tuple(
                    (name, f"{distance:.2e}")
                    for name, distance in (
                        ("student", distillation.distance),
                        ("Gaussian of the moments", distillation.gaussian_distance),
                        ("Gaussians of unit variance, the prior", distillation.prior_distance),
                    )
                ),
            ),
            Table(
                ("released latents", "V²"),
                (("dependence on the group, classes pooled", f"{released_dependence(synthesiser):.2e}"),),
            ),
        ),
        (
            student_overlay(synthesiser),
            curves(
                steps,
                {"held-out sketch distance": [max(entry[1], 1e-9) for entry in distillation.history]},
                "squared sketch distance",
                "Distillation: held-out sketch distance over steps; less is better.",
                log=True,
            ),
        ),
    )


def released_dependence(synthesiser: Synthesiser) -> float:
    """V²(z, s) of z whitened by class: E_t Σ_c π_c² |φ_c(t) - φ(t)|² of the released characteristic functions."""
    statistics = synthesiser.statistics
    shares = group_shares(synthesiser.schema)
    real, imaginary = statistics.pooled(shares)
    squared = (statistics.real - real).square() + (statistics.imaginary - imaginary).square()
    return float((shares.square().unsqueeze(1) * squared).sum(0).mean())
