"""The consumer's steps from a fetched release to synthetic rows: distil, generate. They read and write files; what they
decide is elsewhere."""

from __future__ import annotations

import hashlib
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from consumer import lineage, receiving_steps
from consumer.distillation import distilled_from, said_of
from consumer.image_folder import image_folder_writer
from consumer.lineage import Run
from consumer.study import Study
from protocol.artefacts import TRAINED, Artefact
from protocol.trust import TrustedRelease
from shared import folder
from shared.errors import BadInput, PolicyRefusal, VerificationFailure
from shared.generation import Synthesiser, Writer, group_shares, parse_release, shard_bounds
from shared.limits import LIMITS
from shared.progress import Progress, quiet
from shared.schema import Schema
from shared.student import LAST_SEED, Distillation, Student, StudentSettings, distil
from shared.table import TableWriter


@dataclass(frozen=True)
class Generated:
    """A file of synthetic rows: `start`..`stop`-1 of the run."""

    path: Path
    start: int
    stop: int


def distill(path: Path | str, *, seed: int = 0, progress: Progress = quiet) -> Distillation:
    """Distil the student from noise and the released statistics; write it with its lineage. Returns how far it came.

    Raises `VerificationFailure` unless what was fetched is still what was signed, and in date, and `PolicyRefusal` in
    an auditor's study.
    """
    _check_seed(seed)
    study = Study(Path(path))
    trusted = release_with_decoder(study)
    parts = (trusted.artefacts[kind] for kind in TRAINED)
    schema, _, statistics = parse_release(*parts)
    distilled = distil(statistics, group_shares(schema), StudentSettings(seed=seed), progress)
    said = said_of(distilled.distillation, trusted.manifest.digest)
    folder.write(study.student, distilled.student.to_bytes(said))
    return distilled.distillation


def generate(
    path: Path | str,
    *,
    rows: int,
    out: Path | str | None = None,
    seed: int = 0,
    shard: str = "1/1",
    balanced: bool = False,
    progress: Progress = quiet,
) -> Generated:
    """Stream synthetic rows to CSV or Parquet, pictures to Parquet or, without a suffix, to a folder of PNG files.

    The same seed gives the same rows; `shard` "i/n" its i-th part. `balanced` rows are for models to be trained on.
    Without `out` they take the place of the study's last ones; what stands at `out` is never replaced. Raises as
    `distill` does, and `VerificationFailure` for a student of another release.
    """
    _check_seed(seed)
    study = Study(Path(path))
    target = study.synthetic if out is None else Path(out)
    if not 1 <= rows <= LIMITS.rows:
        raise BadInput("not a number of rows", field="--rows", remedy=f"give 1 to {LIMITS.rows:,}")
    start, stop = shard_bounds(rows, *parse_shard(shard))
    if start == stop:
        raise BadInput("this shard has no rows", field="--shard", remedy="use fewer shards or more rows")
    trusted = release_with_decoder(study)  # an auditor hears of that role before of a student
    synthesiser, origin = synthesiser_with(read_student(study), study, trusted)
    origin |= Run(seed, start, stop, balanced).said()
    with _writer(target, synthesiser.schema, start, origin, replaces=out is None) as writer:
        synthesiser.write(writer, seed, start, stop, balanced, progress)
    return Generated(target, start, stop)


def release_with_decoder(study: Study) -> TrustedRelease:
    """The fetched release, verified, with what generation needs. Raises `PolicyRefusal` in an auditor's study."""
    trusted = receiving_steps.verify(study.folder).release
    if Artefact.DECODER not in trusted.artefacts:
        raise PolicyRefusal(
            "an auditor holds no decoder", field="role", remedy="ask the owner to approve you as an analyst"
        )
    return trusted


def _check_seed(seed: int) -> None:
    if not 0 <= seed <= LAST_SEED:
        raise BadInput("not a seed", field="--seed", remedy=f"give a whole number from 0 to {LAST_SEED:,}")


def parse_shard(text: str) -> tuple[int, int]:
    """ "3/16" as (3, 16). Raises `BadInput`."""
    found = re.fullmatch(r"([0-9]{1,20})/([0-9]{1,20})", text)
    if found is not None and 1 <= int(found[1]) <= int(found[2]):
        return int(found[1]), int(found[2])
    raise BadInput("not a shard", field="--shard", remedy="write it as i/n, with i from 1 to n")


def read_student(study: Study) -> bytes:
    return folder.read(study.student, "run `fair4free distill`")


def synthesiser_with(student: bytes, study: Study, trusted: TrustedRelease) -> tuple[Synthesiser, dict[str, str]]:
    """What generates, and the lineage it gives to a file, of the bytes of the study's student, read once: another may
    take its place at any time. Raises `VerificationFailure` unless it was distilled from that release."""
    digest = trusted.manifest.digest
    if distilled_from(student) != digest:
        raise VerificationFailure(
            "the student was not distilled from the release last fetched",
            field=str(study.student),
            remedy="run `fair4free distill` again",
        )
    schema, decoder, statistics = parse_release(*(trusted.artefacts[kind] for kind in TRAINED))
    try:
        fitted = Student.from_bytes(student, statistics.latent)
    except VerificationFailure as error:
        raise VerificationFailure(
            "the student is damaged", field=str(study.student), remedy="run `fair4free distill` again"
        ) from error
    return Synthesiser(schema, decoder, statistics, fitted), {
        lineage.MANIFEST: digest,
        lineage.STUDENT: hashlib.sha256(student).hexdigest(),
        "fair4free.node": trusted.manifest.node,
        "fair4free.version": str(trusted.manifest.version),
    }


def _writer(
    path: Path, schema: Schema, start: int, origin: dict[str, str], replaces: bool
) -> AbstractContextManager[Writer]:
    """What writes the rows of a schema to `path`."""
    if schema.image is None or path.suffix.lower() == ".parquet":
        return TableWriter(path, origin, replaces=replaces)
    if path.suffix:
        raise BadInput(
            "pictures do not fit into such a file",
            field=str(path),
            remedy="choose a .parquet file, or a folder for PNG files",
        )
    return image_folder_writer(path, schema.image, start, origin)
