"""The owner's steps over a node, one function each. They read and write files; what they decide is elsewhere."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pandas as pd
from safetensors.torch import save as save_tensors

from data_owner import authority, findings, release, roots
from data_owner.attacks.battery import Battery
from data_owner.attacks.run import at_every_gate
from data_owner.datasets import codebook
from data_owner.digests import settings_digest, teacher_digest
from data_owner.learning.fitting import Prepared, artefacts, fit, recipe, split, with_refused_undecided
from data_owner.ledger import Ledger
from data_owner.measure import Measured, measure, reference
from data_owner.measure_pictures import restored_teacher
from data_owner.node import Node
from data_owner.owner_toml import dump, read_settings
from data_owner.preconditions import check_apart, check_bounded, check_teacher, check_unchanged
from data_owner.privacy.budget import Budget
from data_owner.privacy.declarations import with_budget
from data_owner.privacy.statement import on_card, privacy_statement
from data_owner.records.differencing import view_of
from data_owner.records.infer import infer
from data_owner.records.ingest import read
from data_owner.records.records_file import RecordsFile
from data_owner.records.source import as_parquet, source
from data_owner.release_status import State, step
from data_owner.reports.image_report import image_report
from data_owner.reports.owner_report import named, owner_report
from data_owner.settings import OwnerSettings
from protocol.artefacts import release_digest
from shared import folder
from shared.canonical import canonical
from shared.clock import moment, now
from shared.errors import BadInput
from shared.limits import LIMITS
from shared.printable import is_one_line
from shared.progress import Progress, quiet
from shared.student import StudentSettings
from shared.table import read_table


def init(
    path: Path | str,
    *,
    data: Path | str | pd.DataFrame | None = None,
    images: Path | str | None = None,
    labels: Path | str | None = None,
    size: int | None = None,
    skip_bad_files: bool | None = None,
    dataset_name: str | None = None,
    sensitive: str | Sequence[str] = (),
    target: str | None = None,
    positive: str | int | bool | None = None,
    name: str | None = None,
    small_groups: Literal["refuse", "merge"] = "refuse",
    epsilon: float | None = None,
) -> OwnerSettings:
    """Make a node from a file, a frame, pictures with their labels or a data set that ships.

    Nothing is written unless all of it is sound; a feature that is not waits for a person, "undecided". Nothing stays
    of what could not be written whole. A folder that is not there yet is made for nobody else to get in. `sensitive`
    may be one name. `size` and `skip_bad_files` are of `images.read_labelled`. `epsilon` turns differential privacy
    on; a data set's codebook, where it has one, then declares its columns. What is returned is a copy: edit
    `owner.toml` in the folder. Raises `PolicyRefusal` for what the policy does not allow, such as a small group, and
    `VerificationFailure` for a shipped data set that was changed.
    """
    path = Path(path)
    node = Node(path)
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise BadInput("not a folder", field=str(path), remedy="choose a new folder for the node")
    name = name or path.resolve().name
    if not is_one_line(name) or len(name) > LIMITS.name_characters:
        raise BadInput(
            "not a name that can be shown", field="--name", remedy="give the node a short name in plain letters"
        )
    _check_empty(node)
    sensitive = (sensitive,) if isinstance(sensitive, str) else tuple(sensitive)
    positive = None if positive is None else str(positive)
    found = source(data, images, labels, size, skip_bad_files, dataset_name, sensitive, target, positive)
    if epsilon is not None and found.positive is None:
        raise BadInput(
            "with a budget the positive class is public, not read off the records",
            field="--positive",
            remedy="name one of the target's classes",
        )
    table = found.table
    settings = infer(
        table,
        name=name,
        source=found.name,
        target=found.target,
        sensitive=found.sensitive,
        positive=found.positive,
        small_groups=small_groups,
    )
    if epsilon is not None:
        settings = with_budget(settings, epsilon, codebook(dataset_name) if dataset_name else {})
        if isinstance(data, (str, Path)):
            table = read_table(Path(data), text="all")  # no cell decides how others are read
        positive = _as_written(table[found.target], found.positive, settings.positive)
        settings = settings.model_copy(update={"positive": positive})
    records = as_parquet(table)
    if len(records) > LIMITS.table_bytes:  # as `train` would read them
        raise BadInput(
            "the records are larger than the limit",
            field="table",
            remedy="give a sample of them" + ("" if images is None else ", or use a smaller --size"),
        )
    listed = pd.DataFrame(found.skipped).to_csv(index=False).encode() if found.skipped else None
    undecided = any(entry.kind == "undecided" for entry in settings.columns.values())
    if not undecided and epsilon is None:
        settings = with_refused_undecided(table, settings)
    elif not undecided:
        read(table, settings, as_declared=True)
    folder.make(node.folder, folder.PRIVATE_FOLDER)
    with folder.locked(node.lock):
        _check_empty(node)  # reading took minutes
        try:
            folder.hide_from_git(node.folder)
            authority.create_keys(node, settings.name, moment())
            roots.create(node, settings.name, now())
            Ledger.create(node.ledger)
            Budget.create(node.budget)
            folder.write(node.records, records, folder.PRIVATE)
            if listed is not None:
                folder.write(node.skipped, listed, folder.PRIVATE)
            folder.write(node.settings, dump(settings).encode())
        except BaseException:
            for made in _held(node):
                shutil.rmtree(made) if made.is_dir() else made.unlink()
            raise
    return settings


def _as_written(target: pd.Series, *spellings: str | None) -> str:
    """The first spelling of the positive class that is one of the target's cells."""
    classes = set(canonical(target, str(target.name), "category"))
    for spelling in spellings:
        if spelling in classes:
            return str(spelling)
    raise BadInput("not a class of the target", field="--positive", remedy="write it as the file does")


def _check_empty(node: Node) -> None:
    if _held(node):
        raise BadInput("the folder is not empty", field=str(node.folder), remedy="choose a new folder for the node")


def _held(node: Node) -> list[Path]:
    """What is in the folder, but for the lock: an `init` that failed leaves that."""
    return [path for path in node.folder.iterdir() if path != node.lock] if node.folder.exists() else []


def skipped(path: Path) -> list[str]:
    """Names of the pictures that were left out at init."""
    place = Node(path).skipped
    return pd.read_csv(place)["name"].tolist() if place.is_file() else []


def train(path: Path | str, *, progress: Progress = quiet, restart: bool = False) -> int:
    """Train the teacher, or go on where it was stopped, and write a draft release. Returns its version.

    Raises `PolicyRefusal` where owner.toml does not allow it and `Unreachable` while another run trains on this node.
    """
    node = Node.open(path)
    with folder.locked(node.training_lock, waits=False):
        return _train(node, progress, restart)


def _train(node: Node, progress: Progress, restart: bool) -> int:
    settings = read_settings(node)
    check_bounded(node, settings)
    charges = 0
    if settings.privacy is not None:
        from data_owner.privacy import microdata  # brings JAX, which nothing else needs

        microdata.make(node, settings, settings.privacy, progress)
        charges = len(Budget(node.budget).charges())
    run = settings_digest(node, settings)  # before the records are read: what takes their place is another run
    records = RecordsFile(node.records)
    prepared = prepare(node, settings, records)
    rows = b"" if settings.privacy is not None else records.rows(view_of(settings)).to_bytes()
    del records  # they are large, and training is long
    marker = node.checkpoint.with_suffix(".run")
    how = f"{run} {charges} {recipe(prepared.schema, settings.training)} {prepared.schema.model_dump_json()}"
    made_by = hashlib.sha256(how.encode()).hexdigest()
    resumes = not restart and node.checkpoint.is_file() and marker.is_file() and marker.read_text() == made_by
    if not resumes:
        node.checkpoint.unlink(missing_ok=True)
        folder.write(marker, made_by.encode(), folder.PRIVATE)
    trained = fit(
        prepared,
        settings.training,
        load=lambda: node.checkpoint.read_bytes() if node.checkpoint.is_file() else None,
        save=lambda data: folder.write(node.checkpoint, data, folder.PRIVATE),
        progress=progress,
    )
    encoder = {name: value.contiguous() for name, value in trained.teacher.encoder.state_dict().items()}
    folder.write(node.encoder, save_tensors(encoder), folder.PRIVATE)
    history = [dataclasses.asdict(epoch) for epoch in trained.history]
    folder.write(node.history, json.dumps(history).encode(), folder.PRIVATE)
    version = release.write_draft(
        node,
        artefacts(prepared.schema, trained),
        run,
        now(),
        teacher_sha256=teacher_digest(node),
        rows=rows,
        charges=charges,
    )
    node.checkpoint.unlink(missing_ok=True)
    return version


@dataclass(frozen=True)
class Gated:
    """What was measured and attacked of a release, and why it may not be approved: `failures`, which nobody can
    override, and `exceeded`, which two people together can."""

    version: int
    measured: Measured
    battery: Battery
    failures: tuple[str, ...]
    exceeded: tuple[str, ...]


def gate(path: Path | str, *, progress: Progress = quiet) -> Gated:
    """Measure and attack the newest release, keep its card and what the gate found, write the reports.

    Raises `PolicyRefusal` where there is none to be measured, records or settings changed since it was trained or the
    records are others than an approved release's but hardly more or fewer, and `VerificationFailure` where a file is
    not what training wrote. What the policy has against it is returned.
    """
    node = Node.open(path)
    settings = read_settings(node)
    version = release.latest(node)
    step(release.status(node, version), State.MEASURED, at=now())  # before minutes of measuring
    release.check_not_denied(node, version)
    check_unchanged(node, version, settings)
    check_teacher(node, version)
    records = RecordsFile(node.records)
    earlier = check_apart(node, settings, records, version)
    prepared = prepare(node, settings, records)
    del records
    drafted = release.trained_artefacts(node, version)
    progress(0, 4, "distilling the reference student")
    seed = settings.training.seed
    synthesiser, distillation = reference(drafted, StudentSettings(seed=seed))
    teacher = None
    if prepared.schema.image is not None:
        encoder = folder.read(node.encoder, "train again")
        teacher = restored_teacher(prepared.schema, synthesiser.decoder, encoder)
    measured = measure(synthesiser, distillation, prepared.training, prepared.held_out, settings, progress, teacher)
    if settings.privacy is not None:
        measured = dataclasses.replace(measured, card=on_card(measured.card, privacy_statement(node, settings)))
    found = at_every_gate(
        drafted, measured.synthetic, prepared.learned(seed), prepared.held_out, seed, progress
    ).with_training_of(findings.of_training(node, release_digest(drafted)))
    status = findings.keep(node, version, measured.card, found, settings, now(), earlier=earlier)
    measured = dataclasses.replace(measured, card=findings.card(node, version))
    history = json.loads(folder.read(node.history, "train again"))
    failures = (*status.failures, *status.exceeded)
    write_report = owner_report if teacher is None else image_report
    report = named(
        write_report(measured, failures, synthesiser, prepared.held_out, history, prepared.merged), version, status.at
    )
    folder.write(node.report, report.to_html().encode(), folder.PRIVATE)
    folder.write(node.figures, report.to_json().encode(), folder.PRIVATE)
    findings.write_page(node, version, found)
    return Gated(version, measured, found, status.failures, status.exceeded)


def prepare(node: Node, settings: OwnerSettings, records: RecordsFile | None = None) -> Prepared:
    """Records of the node, held to owner.toml, in the schema that may leave, split by seed.

    `records`: the same, where others look at them too. With differential privacy, microdata stands in for them, here
    and in all that follows.
    """
    if settings.privacy is None:
        return split((records or RecordsFile(node.records)).table, settings)
    from data_owner.privacy import microdata

    return split(*microdata.load(node, settings))
