"""A node: the folder that holds everything of one data owner.

owner.toml             columns, policy, training: a person edits it
records.parquet        the private records, as they were given
skipped.csv            pictures that were left out, and why; only where there were any
microdata/             what was drawn from them under differential privacy, when it is on: a file each draw
budget.sqlite          what that was charged
teacher/               checkpoint, encoder and training history, and a lock held by who trains; never served
teacher/N.rows         number and digest of the records that release N was trained on, once it is drafted; never served
releases/N/            the five that cross, with signature and state
lock                   held by who changes the state of a release, an enrolment or the root
serving.lock           held by who serves the node
keys/                  authority and server keys, and the sealed keys of the root document
root/N.json, N.sig     which keys speak for the node, and how that changed
ledger.sqlite          the egress log: every decision, and every byte that left
enrolments/            requests of consumers and what was decided
invitation.json        what is handed to an analyst
attacks/N.json         what attacks on release N found; never served
attacks/N-rehearsal.json   the same of a rehearsal on people, where there is a budget
attacks/N-shadows/     releases trained to attack release N, until the attack is done
attacks/lock           held by who attacks
report.html, .json     what the owner measured
privacy.html, .json    what a privacy officer reads
.gitignore             git takes nothing of it for source
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from shared.errors import BadInput
from shared.folder import At


@dataclass(frozen=True)
class Node:
    """Paths of a node. Holds no content."""

    folder: Path

    settings = At("owner.toml")
    records = At("records.parquet")
    skipped = At("skipped.csv")

    def microdata(self, key: str) -> Path:
        """What was drawn of the records and settings that have this digest."""
        return self.folder / "microdata" / f"{key[:32]}.parquet"

    budget = At("budget.sqlite")
    checkpoint = At("teacher", "checkpoint.pt")
    training_lock = At("teacher", "lock")
    encoder = At("teacher", "encoder.safetensors")
    history = At("teacher", "history.json")

    def rows(self, version: int) -> Path:
        return self.encoder.parent / f"{version}.rows"

    releases = At("releases")

    def release(self, version: int) -> Path:
        return self.releases / str(version)

    lock = At("lock")
    serving_lock = At("serving.lock")
    keys = At("keys")
    roots = At("root")
    ledger = At("ledger.sqlite")
    enrolments = At("enrolments")
    invitation = At("invitation.json")
    report = At("report.html")

    def attacks(self, version: int) -> Path:
        return self.folder / "attacks" / f"{version}.json"

    def rehearsal(self, version: int) -> Path:
        return self.folder / "attacks" / f"{version}-rehearsal.json"

    def shadows(self, version: int) -> Path:
        return self.folder / "attacks" / f"{version}-shadows"

    attack_lock = At("attacks", "lock")

    @property
    def withheld(self) -> tuple[Path, ...]:
        """Records, and what stands nearest to them: who serves needs none of it."""
        drawn = self.microdata("").parent
        kept = self.records, self.skipped, drawn, self.encoder.parent, self.folder / "attacks"
        return *kept, self.report, self.figures, self.privacy_report, self.privacy_figures

    privacy_report = At("privacy.html")
    privacy_figures = At("privacy.json")
    figures = At("report.json")

    @classmethod
    def open(cls, folder: Path | str) -> Node:
        """An existing node. Raises `BadInput` if `folder` is none."""
        node = cls(Path(folder))
        if not node.settings.is_file():
            raise BadInput(
                "not a node: it has no owner.toml",
                field=str(folder),
                remedy="make one with `fair4free-owner init`",
            )
        return node
