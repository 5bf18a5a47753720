"""owner.toml: written for a person to read and edit, read back with errors that name the setting."""

from __future__ import annotations

import tomllib

import tomlkit

from data_owner.attacks.attack import AT_EVERY_GATE
from data_owner.node import Node
from data_owner.settings import OwnerSettings
from shared import folder
from shared.errors import BadInput
from shared.frozen import explained

HEADER = """\
What this node holds and what may leave it. Read it, edit it, then run `fair4free-owner train`.

Each [columns] entry has a kind: number, integer, category, boolean, date, image, or exclude: it does not leave, but
stays in records.parquet.
A kind of "undecided" stops everything until you decide. Roles: feature, sensitive, target.
Optional: categories = ["a", "b"], bounds = [0.0, 100.0] and decimals = 1 declare what is public knowledge already.

A limit of an attack is a risk: what is guessed right about members beyond others, as a share of the guesses that fail
about others. 0.05 lets nearly 6 in 100 members be told while 1 in 100 others is mistaken for one. 0.1 lets one in ten
guesses that fail about others come true about members. A higher limit lets more be told. They, minimum_count and
release_days are judgements and no norms: think of who could be harmed, and how.

Without a [privacy] section nothing bounds what a release may have memorised. With epsilon = 1.0 in it, everything that
leaves is differentially private; then every column must declare its categories or bounds. Kinds were guessed from the
records and leave too: see that each is right from public knowledge.
"""

COMMENTS = {
    "minimum_count": "no group, category or quantile point is of fewer records: the fewer, the more it says of each",
    "small_groups": '"refuse" or "merge" sensitive groups with fewer records; too few together join the next smallest',
    "release_days": "an approved release expires after so many days, to be decided anew; copies that are out remain",
    "privacy": "added to the signed privacy statement; this is its text without a budget",
    "criterion_of_ceiling": "demographic parity (under odds, equalized odds) as a share of a fair model's",
    "other_ratio_of_ceiling": "the same for the other of the two ratios",
    "accuracy_of_original": "share of what a model trained on the original records reaches",
    "f1_of_original": "the same, for the positive class",
    "density_of_real": "share of what real records score against other real records",
    "coverage_of_real": "the same, for how much of the real variety is met",
    "required": "attacks that must have been made before approval; membership and canaries need `attack`",
    "inconclusive": '"allow" or "refuse" a release where an attack is not shown to stay within its limit',
    "reconstruction": "risk of telling members by how closely the decoder reproduces them",
    "density_ratio": "risk of telling members by where synthetic rows are too dense",
    "attribute_inference": "risk of guessing a column of a member from all others",
    "linkability": "risk of linking two files about a member",
    "singling_out": "risk that a condition made from synthetic rows holds for exactly one member",
    "membership": "risk of telling members by shadow releases",
    "canary_epsilon": "the largest ε that canaries may refute; 1.0: one record makes an outcome 2.7 times as likely",
    "criterion": '"parity": latents independent of the group; "odds" (repair = 0.0): so within a class',
    "repair": "0.0: labels as recorded; 1.0: group effect removed; more: overshoot, since models mute it",
    "shape": "height, width and channels, 1 for grey or 3",
    "epsilon": "what everything that ever leaves may reveal about one person; smaller is safer",
    "delta": "probability with which epsilon may not hold; far below one over the number of people",
    "draws": "how often microdata may be drawn from changed records or settings within epsilon",
    "person": "the excluded column that says whose a row is; without it a row is a person",
    "rows_per_person": "rows of one person that are kept",
    "seed": "the same records, settings and seed train the same teacher on one machine",
}


def dump(settings: OwnerSettings) -> str:
    """The text of owner.toml."""
    document = tomlkit.document()
    for line in HEADER.splitlines():
        document.add(tomlkit.comment(line) if line else tomlkit.nl())
    document.add(tomlkit.nl())
    content = settings.model_dump(mode="json", exclude_none=True)
    columns = content.pop("columns")
    for key, value in content.items():
        document.add(key, _item(value))
    table = tomlkit.table(is_super_table=True)
    for name, entry in columns.items():
        table.add(name, _item({key: value for key, value in entry.items() if value != ""}))
    document.add("columns", table)
    return tomlkit.dumps(document)


def parse(text: str) -> OwnerSettings:
    """Raises `BadInput` with the line, or the setting, that is wrong."""
    try:
        with explained("owner.toml", "correct that setting"):
            settings = OwnerSettings.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        place = str(error).rpartition("(")[2].rstrip(")")
        raise BadInput(f"not TOML, {place}", field="owner.toml", remedy="mend that line") from None
    if settings.privacy is not None and not {*settings.policy.attacks.required} <= {*AT_EVERY_GATE}:
        raise BadInput(
            "with a budget the gate requires no attack that trains: its outcome would be an answer nobody charged",
            field="policy.attacks.required",
            remedy="leave membership and canaries out; `fair4free-owner attack` makes them for the house alone",
        )
    return settings


def read_settings(node: Node) -> OwnerSettings:
    """The owner.toml of a node, as it is now."""
    return parse(folder.read(node.settings, "restore owner.toml").decode(errors="replace"))


def _item(value: object) -> tomlkit.items.Item:
    if not isinstance(value, dict):
        return tomlkit.item(value)
    table = tomlkit.table()
    for key, entry in value.items():
        item = _item(entry)
        if key in COMMENTS:
            item.comment(COMMENTS[key])
        table.add(key, item)
    return table
