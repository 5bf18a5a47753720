"""The records of a node, as many parts of one step look at them."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import pandas as pd

from data_owner.records.differencing import Rows, View
from shared.table import read_table


class RecordsFile:
    """Records on disk, read once, when they are first asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, Rows] = {}

    @cached_property
    def table(self) -> pd.DataFrame:
        """Raises `BadInput` and `Unreachable`, as `read_table`."""
        return read_table(self.path)

    def rows(self, view: View) -> Rows:
        """Their digests in a view. Raises `BadInput` as `Rows.of`."""
        key = view.model_dump_json()
        if key not in self._rows:
            self._rows[key] = Rows.of(self.table, view)
        return self._rows[key]
