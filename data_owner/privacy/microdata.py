"""A node's microdata: charged for, then drawn, then kept, and read in place of the records from then on."""

from __future__ import annotations

import hashlib

import pandas as pd

from data_owner.digests import microdata_key
from data_owner.node import Node
from data_owner.privacy.budget import Budget, Charge
from data_owner.privacy.domain import domains
from data_owner.privacy.private_marginals import Plan, draw, of_each_person, plan, rho_of, varied
from data_owner.records.ingest import Records, read
from data_owner.records.records_file import RecordsFile
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
    key = microdata_key(node, settings)  # before the records are read: others that take their place are not charged for
    if charge_of(node, settings) is not None:
        return
    budget = Budget(node.budget)
    records, _, asked = planned(RecordsFile(node.records), settings, privacy, budget.next_rho(privacy))
    charge = budget.charge(asked.queries, privacy, key, now())
    data = draw(records, settings, asked, progress).to_parquet(index=False, compression="zstd")
    folder.write(node.microdata(key), data, folder.PRIVATE)
    budget.keep_result(charge, hashlib.sha256(data).hexdigest())


def load(node: Node, settings: OwnerSettings) -> tuple[pd.DataFrame, OwnerSettings]:
    """The microdata, and the settings of its columns.

    Raises `PolicyRefusal` if there is none of these settings, too little is left in it, or more was charged than ε.
    """
    charged(node, settings)
    privacy = settings.privacy
    if privacy is not None and Budget(node.budget).spent(privacy.delta).epsilon > privacy.epsilon:
        raise PolicyRefusal(
            "more is spent than the budget", field="privacy.epsilon", remedy="set it back: what was charged stays spent"
        )
    return varied(read_table(node.microdata(microdata_key(node, settings))), settings)


def charged(node: Node, settings: OwnerSettings) -> float:
    """The ρ that the microdata was drawn with. Raises `PolicyRefusal` if there is none of these settings."""
    charge = charge_of(node, settings)
    if charge is None:
        raise PolicyRefusal(
            "there is no microdata of these records and settings", field="privacy", remedy="run `fair4free-owner train`"
        )
    return rho_of(charge.queries)


def planned(
    on_disk: RecordsFile, settings: OwnerSettings, privacy: PrivacySettings, rho: float
) -> tuple[Records, pd.Series, Plan]:
    """The records, each person's as many as are allowed, whose each is, and what a draw for `rho` asks of them.

    Raises `PolicyRefusal` for a column without a declaration or a CSV read without a budget, `BadInput` for records
    that cannot be read so.
    """
    table = on_disk.table
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
    return records, persons.loc[records.frame.index], plan(domains(records.columns, settings), privacy, rho)


def charge_of(node: Node, settings: OwnerSettings) -> Charge | None:
    """Which charge made the microdata that is there, if one under these settings did."""
    key = microdata_key(node, settings)
    if not node.microdata(key).is_file():
        return None
    digest = hashlib.sha256(node.microdata(key).read_bytes()).hexdigest()
    return Budget(node.budget).made(key).get(digest)
