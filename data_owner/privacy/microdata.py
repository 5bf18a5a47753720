"""A node's microdata: charged for, then drawn, then kept, and read in place of the records from then on."""

from __future__ import annotations

import hashlib

import pandas as pd

from data_owner.ingest import Records, read
from data_owner.node import Node
from data_owner.privacy.budget import Budget
from data_owner.privacy.domain import domains
from data_owner.privacy.private_marginals import Plan, draw, of_each_person, plan, varied
from data_owner.settings import OwnerSettings, PrivacySettings
from shared import folder
from shared.clock import now
from shared.errors import PolicyRefusal
from shared.progress import Progress
from shared.table import read_table


def make(node: Node, settings: OwnerSettings, privacy: PrivacySettings, progress: Progress) -> None:
    """Draw microdata, unless it was drawn from these records under these settings already, which then serves again.

    Raises `PolicyRefusal` if the budget does not allow it, or a column does not declare what it can hold.
    """
    if _is_made(node, settings):
        return
    records, _, asked = planned(node, settings, privacy)
    charge = Budget(node.budget).charge(asked.queries, privacy, _key(node, settings), now())
    data = draw(records, settings, asked, progress).to_parquet(index=False, compression="zstd")
    folder.write(node.microdata, data, folder.PRIVATE)
    Budget(node.budget).keep_result(charge, hashlib.sha256(data).hexdigest())


def load(node: Node, settings: OwnerSettings) -> tuple[pd.DataFrame, OwnerSettings]:
    """The microdata, and the settings of its columns. Raises `PolicyRefusal` if there is none of these settings."""
    if not _is_made(node, settings):
        raise PolicyRefusal(
            "there is no microdata of these records and settings", field="privacy", remedy="run `fair4free-owner train`"
        )
    return varied(read_table(node.microdata), settings)


def planned(node: Node, settings: OwnerSettings, privacy: PrivacySettings) -> tuple[Records, pd.Series, Plan]:
    """The records, each person's as many as are allowed, whose each is, and what a draw would ask of them."""
    table = read_table(node.records)
    if settings.source.lower().endswith(".csv") and not all(
        pd.api.types.is_string_dtype(table[name]) for name in table
    ):
        raise PolicyRefusal(
            "the CSV was read without a budget, where one cell may decide how others are read",
            field="privacy",
            remedy="make a new node from it with `fair4free-owner init --epsilon`",
        )
    table = of_each_person(table, privacy)
    records = read(table, settings, as_declared=True)
    persons = table[privacy.person] if privacy.person else table.index.to_series()
    return records, persons.loc[records.frame.index], plan(domains(records.columns, settings), privacy)


def _is_made(node: Node, settings: OwnerSettings) -> bool:
    if not node.microdata.is_file():
        return False
    data = node.microdata.read_bytes()
    return hashlib.sha256(data).hexdigest() in Budget(node.budget).made(_key(node, settings))


def _key(node: Node, settings: OwnerSettings) -> str:
    """What microdata depends on: columns, the privacy settings and the records, hex."""
    parts = (
        settings.model_dump_json(include={"columns", "privacy", "positive"}).encode(),
        folder.read(node.records, "restore records.parquet from its backup"),
    )
    return hashlib.sha256(b"\n".join(parts)).hexdigest()
