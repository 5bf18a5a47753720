"""What a release says of its privacy, in plain words: signed in the manifest and printed on the card."""

from __future__ import annotations

from math import ceil

from data_owner.node import Node
from data_owner.privacy.accounting import Guarantee
from data_owner.privacy.budget import Budget
from data_owner.settings import UNBOUNDED, OwnerSettings, PrivacySettings
from shared.card import Card

ON_MICRODATA = (
    " Under differential privacy, original and held-out rows are microdata drawn under it, not people's records."
)
"""What the protocol of a card ends in where nothing was measured on people."""


def privacy_statement(node: Node, settings: OwnerSettings) -> str:
    """What a release of this node says: with a budget, what everything charged so far adds up to."""
    if settings.privacy is None:
        return settings.policy.stated(UNBOUNDED)
    return statement(settings, settings.privacy, Budget(node.budget).spent(settings.privacy.delta))


def statement(settings: OwnerSettings, privacy: PrivacySettings, spent: Guarantee) -> str:
    """The guarantee, with all it rests on."""
    if privacy.person is None:
        unit = "one record, which the owner vouches is one person"
    else:
        unit = (
            "all records of one person, told by her identifier in the table, its case, invisible characters and "
            f"blanks around it aside, of which at most {privacy.rows_per_person} are used"
        )
    epsilon = ceil(1000.0 * spent.epsilon) / 1000.0
    text = (
        f"Differentially private: ε = {epsilon:.3f}, δ = {spent.delta:g}, for everything this node has let out "
        f"and this release together; its budget is ε = {privacy.epsilon:g}. "
        f"Unit: {unit}. Neighbours: tables with and without that person; a number outside its column's bounds counts "
        "as the nearest inside, an undeclared category as missing, and a row without a declared class not at all. "
        "Public: names and types of columns, the positive class, declared categories, bounds and decimals. "
        "Mechanism: counts of records, and sums of absolute differences between counts and a model's, with Gaussian "
        "noise, asked of all records (no sampling, none counted on); microdata is drawn from a model of those counts, "
        "and decoder, statistics, schema, card and gate are made from microdata alone. "
        f"Accountants: Rényi (ε = {spent.rdp:.3f}) and privacy loss distributions (ε = {spent.pld:.3f}) of "
        "dp_accounting; the larger is stated. "
        "Numerics: whole numbers, an exact discrete Gaussian sampler, randomness of the operating system. "
        "Not covered: how long computations take, and what people decide after looking at the records or at a "
        "rehearsal on them."
    )
    return settings.policy.stated(text)


def on_card(card: Card, stated: str) -> Card:
    """The card with that statement, saying what its figures were measured on."""
    return card.model_copy(update={"privacy": stated, "protocol": card.protocol + ON_MICRODATA, "microdata": True})
