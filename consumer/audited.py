"""What an audit finds, of tables and of pictures alike."""

from __future__ import annotations

from dataclasses import dataclass

from shared.report import Section
from shared.scores import Scores


@dataclass(frozen=True)
class Audited:
    """Scores on synthetic rows alone and, if there are any, on rows of the analyst's own; and the sections."""

    synthetic_only: Scores
    on_own_records: Scores | None
    sections: tuple[Section, ...]
