"""A study: the folder that holds everything of one consumer.

invitation.json        the root of trust, as the owner handed it over
identity/              keys (never leave), certificate, and the key's fingerprint for people to read
last_seen.json         the roots followed since the invitation and the highest of everything else accepted, which
                       nothing older may replace; last_seen.lock beside it
releases/N/            the five that crossed, with signatures and the proof of approval, verified
student.safetensors    the distilled student, and how it came to be
synthetic.parquet      what was generated last, unless elsewhere
audit.html, .json      the consumer's report
.gitignore             git takes nothing of it for source, where enrol made the folder
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from protocol import identity
from protocol.invitation import Invitation
from protocol.root import SignedRoot, follow
from protocol.trust import LastSeen
from shared import folder
from shared.errors import BadInput, VerificationFailure
from shared.folder import At

READABLE = "make it readable by you"


@dataclass(frozen=True)
class Study:
    """Paths of a study, and the small files that trust rests on."""

    folder: Path

    invitation_file = At("invitation.json")
    key = At("identity", "key.pem")
    fingerprint = At("identity", "fingerprint")
    certificate = At("identity", "certificate.pem")
    witness_key = At("identity", "witness.key")
    last_seen_file = At("last_seen.json")
    student = At("student.safetensors")
    synthetic = At("synthetic.parquet")
    report = At("audit.html")
    figures = At("audit.json")

    def release(self, version: int) -> Path:
        return self.folder / "releases" / str(version)

    def check(self) -> None:
        """Raises `BadInput` if this is no study."""
        if not self.invitation_file.is_file():
            raise BadInput(
                "not a study: it has no invitation.json",
                field=str(self.folder),
                remedy="run `fair4free enrol STUDY --invitation FILE` with the owner's file",
            )

    def invitation(self) -> Invitation:
        """Raises `BadInput` if the study has none."""
        self.check()
        return Invitation.from_bytes(folder.read(self.invitation_file, READABLE))

    def last_seen(self) -> LastSeen:
        """What was accepted so far; at first, only the root in the invitation.

        Raises `Unreachable` if the file cannot be read, `BadInput` if it is damaged, and a `VerificationFailure` unless
        its roots lead from the invitation's: whoever wrote the folder may have followed another owner's.
        """
        invitation = self.invitation()
        invited = invitation.trusted_root()
        if not self.last_seen_file.is_file():
            return LastSeen(roots=(SignedRoot(document=invitation.root, signatures=invitation.root_signatures),))
        seen = LastSeen.from_bytes(folder.read(self.last_seen_file, READABLE))
        try:
            follow(invited, seen.roots)
        except VerificationFailure as error:
            raise type(error)(
                "its roots do not lead from the one in the study's invitation",
                field=str(self.last_seen_file),
                remedy="use nothing of this study; start a new one with the invitation the owner handed over",
            ) from error
        return seen

    def read_key(self) -> bytes:
        """PEM. Raises `Unreachable` if it cannot be read and `BadInput` if it is damaged."""
        missing = f"run `fair4free enrol`, or {READABLE}"
        return _whole(self.key, missing, identity.key_fingerprint, "remove it, then enrol again")

    def read_certificate(self) -> bytes:
        """PEM, of whatever date. Raises as `read_key` does."""
        missing = "run `fair4free enrol` until the owner has approved"
        return _whole(
            self.certificate, missing, identity.certificate_fingerprint, "run `fair4free enrol` to replace it"
        )

    def party(self) -> str:
        """Who this study is in the egress log: the fingerprint of the key in its certificate."""
        return identity.certificate_fingerprint(self.read_certificate())

    def locked(self) -> AbstractContextManager[None]:
        """Held while keys are made and by a whole fetch: of two at once, each could be shown another log.

        Raises `Unreachable` while another command holds it.
        """
        return folder.locked(self.folder / "last_seen.lock", waits=False)

    def remember(self, seen: LastSeen) -> None:
        """Keep what was accepted; only who holds the lock may."""
        folder.write(self.last_seen_file, seen.to_bytes())


def _whole(path: Path, missing: str, parse: Callable[[bytes], object], damaged: str) -> bytes:
    """The bytes of a file that `parse` can read; `missing` and `damaged` are what to do if there are none such."""
    data = folder.read(path, missing)
    try:
        parse(data)
    except VerificationFailure as error:
        raise BadInput("is damaged", field=str(path), remedy=damaged) from error
    return data
