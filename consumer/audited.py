"""What an audit finds, of tables and of pictures alike."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from shared.metrics import Integers, ceiling, floor, scores
from shared.report import Section, Table
from shared.schema import Schema
from shared.scores import Scores


@dataclass(frozen=True)
class Audited:
    """Scores on synthetic rows alone and, if there are any, on rows of the analyst's own; and the sections."""

    synthetic_only: Scores
    on_own_records: Scores | None
    sections: tuple[Section, ...]


def scored(name: str, tested: pd.DataFrame, predicted: Integers, schema: Schema) -> tuple[Scores, Table]:
    """Scores of predictions (n,) of the outcomes of canonical rows, called `name` in a table of them, ceiling and
    constant classifier."""
    found = scores(tested, predicted, schema)
    rows = {
        name: found,
        "ceiling: groups permuted": ceiling(tested, predicted, schema, seed=0),
        "constant classifier: the commonest class": floor(tested, schema),
    }
    return found, Table(("", *Scores.heads()), tuple((each, *line.cells()) for each, line in rows.items()))
