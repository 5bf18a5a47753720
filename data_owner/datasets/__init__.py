"""Real data sets that ship with the package; see ATTRIBUTION.md beside this file."""

from __future__ import annotations

import hashlib
import io
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from data_owner.datasets import colored_mnist
from shared.errors import BadInput, VerificationFailure

FOLDER = Path(__file__).parent
CODEBOOK = FOLDER / "codebook.toml"


@dataclass(frozen=True)
class Dataset:
    """`sha256` is of the shipped Parquet file; `positive` is the positive class of `target`."""

    name: str
    rows: int
    target: str
    positive: str
    sensitive: tuple[str, ...]
    sha256: str


DATASETS: Mapping[str, Dataset] = {
    entry.name: entry
    for entry in (
        Dataset(
            "support2",
            9105,
            "hospdead",
            "1",
            ("race", "sex"),
            "781176ca5c17c813aee70f36501de8516d9c50b535f96180692290f1bf492510",
        ),
        Dataset(
            "compas",
            6172,
            "two_year_recid",
            "1",
            ("sex", "race"),
            "7d10f6c58f0042b6528f4b7d6a65c7d06a8308c6cb800d2271791e6f6ce35147",
        ),
        Dataset(
            "adult",
            48842,
            "income",
            ">50K",
            ("sex", "race"),
            "a481e6f3075e75399f9b7561a76689159ad60ac23c907898817a09ef71e6dce8",
        ),
    )
}


def dataset(name: str) -> Dataset:
    """Raises `BadInput` for a name that does not ship."""
    if name not in DATASETS:
        known = ", ".join((*DATASETS, *colored_mnist.BIAS))
        raise BadInput("no such data set", field=name, remedy=f"choose one of {known}")
    return DATASETS[name]


def load(name: str, sensitive: tuple[str, ...] = ()) -> pd.DataFrame:
    """The table, checked against its SHA-256. COMPAS by race keeps its two largest groups, 5,278 rows."""
    entry = dataset(name)
    data = (FOLDER / f"{name}.parquet").read_bytes()
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        raise VerificationFailure("not the file that was shipped", field=name, remedy="install the package again")
    table = pd.read_parquet(io.BytesIO(data))
    if name == "compas" and "race" in sensitive:
        largest = table["race"].value_counts().index[:2]
        table = table[table["race"].isin(largest)].reset_index(drop=True)
    return table


def codebook(name: str) -> Mapping[str, tuple[float, float] | tuple[str, ...]]:
    """Public bounds or categories of each column of a data set that ships; empty where nobody wrote them down."""
    declared = tomllib.loads(CODEBOOK.read_text(encoding="utf-8")).get(name, {})
    return {column: tuple(values) for column, values in declared.items()}
