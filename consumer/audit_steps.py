"""The consumer's audit as a step over a study. Apart from the other steps: models and plots take seconds to import."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from consumer import lineage
from consumer.audit_report import Audit, audit_report
from consumer.distillation import distillation_of, measured_again
from consumer.reading import read_rows
from consumer.steps import read_student, release_with_decoder, synthesiser_with
from consumer.study import Study
from protocol.artefacts import Artefact
from protocol.trust import TrustedRelease
from shared import folder
from shared.card import Card
from shared.errors import Unreachable, VerificationFailure
from shared.progress import Progress, quiet
from shared.schema import Schema


def audit(
    path: Path | str,
    *,
    synthetic: Path | str | None = None,
    real: Path | str | pd.DataFrame | None = None,
    progress: Progress = quiet,
) -> Audit:
    """Audit a file of synthetic rows without records; compare with real ones of the analyst's own if there are any.

    Raises as `generate` does.
    """
    study = Study(Path(path))
    table_path = study.synthetic if synthetic is None else Path(synthetic)
    trusted = release_with_decoder(study)
    student = read_student(study)
    synthesiser, expected = synthesiser_with(student, study, trusted)
    card = card_of(trusted, synthesiser.schema)
    if synthetic is None and not table_path.exists():
        raise Unreachable("not there yet", field=str(table_path), remedy="run `fair4free generate`, or name a file")
    own = None if real is None else read_rows(Path(real) if isinstance(real, str) else real, synthesiser.schema)
    rows = read_rows(table_path, synthesiser.schema)
    progress(0, 3, "making rows again")
    origin = lineage.origin_of(table_path, rows, synthesiser, expected)  # before `generate` puts other rows there
    distillation = measured_again(synthesiser, distillation_of(student, str(study.student)))
    progress(1, 3, "models on synthetic rows")
    found = audit_report(synthesiser, card, trusted.manifest, rows, distillation, origin, own)
    progress(2, 3, "report")
    # the analyst's own records, where given, are drawn there
    folder.write(study.report, found.report.to_html().encode(), folder.PRIVATE)
    folder.write(study.figures, found.report.to_json().encode(), folder.PRIVATE)
    progress(3, 3, "done")
    return found


def card_of(trusted: TrustedRelease, schema: Schema) -> Card:
    """The card of a release. Raises `VerificationFailure` where it tells of another node or of other columns."""
    card = Card.from_bytes(trusted.artefacts[Artefact.CARD])
    told = card.node, card.target, card.positive, card.sensitive
    sensitive = tuple(column.name for column in schema.sensitive)
    if told != (trusted.manifest.node, schema.target.name, schema.positive, sensitive):
        raise VerificationFailure(
            "tells of another node, target, positive class or sensitive columns than the release",
            field="card",
            remedy=Card.remedy,
        )
    return card
