"""Training the teacher: deterministic by seed, resumable after a kill, stopped early on an inner validation split.

An epoch draws from a generator seeded by (seed, epoch) alone, and some end in an atomic checkpoint, so a run that
was killed and resumed gives the same weights as one that was not.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import one_hot

from data_owner.learning.device import trains_on
from data_owner.learning.group_weights import are_large, share_weights
from data_owner.learning.teacher import Losses, Teacher, TeacherSettings
from data_owner.records.disclosure import shares
from shared.codec import Encoded, sample_level
from shared.errors import BadInput
from shared.generation import group_shares
from shared.progress import Progress, quiet
from shared.schema import Schema
from shared.statistics import LatentStatistics, measure

VALIDATION_SHARE = 0.1
MOST_PICTURES_VALIDATED = 5000
"""They go through the convolutions at once; a mean over so many is exact enough, and more would need much memory."""

LINKS_FASTER = 15.0
"""Adam moves each weight by alike steps, and a link is one number that must reach several nats."""

LEAST_EPOCHS = 20
"""At least: training is validated and kept so often. Of very many records an epoch takes a part, drawn anew."""

CHECKPOINTS = 40
"""A run of at least so many epochs saves its state so often, up to nearly twice that; a shorter one every epoch."""

PATIENCE = 0.25
"""Stop when the best validation loss is older than this share of the whole run, and than `LEAST_PATIENCE` epochs."""

LEAST_PATIENCE = 10

DIGEST = 32
"""Bytes of SHA-256 before what a checkpoint holds."""

PART = 1000
"""Pictures encoded at once outside a training step."""


@dataclass(frozen=True)
class Epoch:
    """Validation losses after an epoch, in nats a record; `dependence` is V²(z, s), under odds Σ_y π_y V²(z, s | y)."""

    step: int
    reconstruction: float
    target: float
    divergence: float
    dependence: float
    total: float


@dataclass(frozen=True)
class Trained:
    """The best teacher, its latent statistics and how training went."""

    teacher: Teacher
    statistics: LatentStatistics
    history: tuple[Epoch, ...]


def train_teacher(
    schema: Schema,
    records: Encoded,
    targets: Tensor,
    settings: TeacherSettings,
    seed: int,
    *,
    load: Callable[[], bytes | None] = lambda: None,
    save: Callable[[bytes], None] = lambda data: None,
    progress: Progress = quiet,
) -> Trained:
    """Train on encoded records, their labels drawn anew each epoch from `targets` (n, classes).

    `load` returns the last checkpoint, if any, and `save` keeps one atomically. Raises `BadInput` for a damaged one.
    """
    device = trains_on()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        teacher = Teacher(schema, settings).to(device)
    validated, learned = validation_split(schema, len(records), seed)
    labelled = with_labels(records, targets, torch.Generator().manual_seed(seed))
    validation, training = labelled[validated].to(device), records[learned].to(device)
    training_targets = targets[learned].to(device)
    large = are_large(group_shares(schema).to(device), len(training), settings.large_group)
    some_are_small = not bool(large.all())
    batch = min(settings.batch, len(training))
    per_epoch = min(len(training) // batch, max(1, settings.steps // LEAST_EPOCHS))
    epochs = min(math.ceil(settings.steps / per_epoch), settings.epochs)
    optimiser = torch.optim.AdamW(_by_rate(teacher, settings.learning_rate), weight_decay=1e-4, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, [group["lr"] for group in optimiser.param_groups], total_steps=epochs * per_epoch, pct_start=0.1
    )
    history: list[Epoch] = []
    best = {name: value.clone() for name, value in teacher.state_dict().items()}
    checkpoint = load()
    if checkpoint is not None:
        digest, content = checkpoint[:DIGEST], checkpoint[DIGEST:]
        if hashlib.sha256(content).digest() != digest:
            raise BadInput("the checkpoint is damaged", field="checkpoint", remedy="train with --restart")
        state = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        teacher.load_state_dict(state["teacher"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        history, best = [Epoch(*entry) for entry in state["history"]], state["best"]

    # a table's matrices are small: threads would wait for each other longer than they work
    threads = 1 if schema.image is None else None
    # of a GPU's convolutions only some add up in the same order each time
    with (
        threadpool_limits(threads),
        torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
    ):
        for epoch in range(len(history), epochs):
            if _is_stale(history, epochs):
                break
            generator = torch.Generator(device).manual_seed((seed << 20) + epoch)
            teacher.train()
            epoch_records = with_labels(training, training_targets, generator)
            shuffled = torch.randperm(len(training), generator=generator, device=device)
            for step in range(per_epoch):
                losses = teacher.losses(epoch_records[shuffled[step * batch : (step + 1) * batch]], generator)
                optimiser.zero_grad()
                losses.total(settings).backward()  # type: ignore[no-untyped-call]
                torch.nn.utils.clip_grad_norm_(teacher.parameters(), 10.0)
                optimiser.step()
                schedule.step()
                if some_are_small:
                    share_weights(teacher.decoder.group_weights, large)
            history.append(_validate(teacher, validation, (epoch + 1) * per_epoch, seed))
            if history[-1].total <= min(entry.total for entry in history):
                best = {name: value.clone() for name, value in teacher.state_dict().items()}
            if (epoch + 1) % max(1, epochs // CHECKPOINTS) == 0:
                save(_checkpoint(teacher, optimiser, schedule, history, best))
            progress(epoch + 1, epochs, f"validation loss {history[-1].total:.3f}, V² {history[-1].dependence:.1e}")

        teacher.load_state_dict(best)
        teacher.cpu().eval()
        statistics = latent_statistics(teacher, labelled, seed)
    return Trained(teacher, statistics, tuple(history))


def _by_rate(teacher: Teacher, rate: float) -> list[dict[str, Any]]:
    """Parameters by learning rate: links of gaps have their own, where there are any."""
    links = teacher.decoder.links
    groups = [{"params": [each for each in teacher.parameters() if each is not links], "lr": rate}]
    return groups if links is None else [*groups, {"params": [links], "lr": LINKS_FASTER * rate}]


def validation_split(schema: Schema, records: int, seed: int) -> tuple[Tensor, Tensor]:
    """Of so many records the rows that choose the best epoch, and those that weights are learned from."""
    held = int(records * VALIDATION_SHARE)
    held = held if schema.image is None else min(held, MOST_PICTURES_VALIDATED)
    order = torch.randperm(records, generator=torch.Generator().manual_seed(seed))
    return order[:held], order[held:]


def with_labels(records: Encoded, targets: Tensor, generator: torch.Generator) -> Encoded:
    """The records with one label each drawn from its probabilities (n, classes)."""
    uniform = torch.rand(len(targets), generator=generator, device=targets.device)
    return replace(records, target=sample_level(targets.log(), uniform))


@torch.no_grad()
def latent_statistics(teacher: Teacher, records: Encoded, seed: int) -> LatentStatistics:
    """The statistics of all records' posteriors, with shares of the classes rounded as the schema rounds those of
    groups."""
    mean, variance = posteriors(teacher, records)
    architecture = teacher.decoder.architecture
    groups, classes = one_hot(records.group, architecture.groups), one_hot(records.target, architecture.classes)
    found = measure(mean, variance, groups, classes, seed)
    rounded = torch.tensor(shares(classes.sum(0).numpy()))
    return replace(found, strata=replace(found.strata, shares=rounded / rounded.sum()))


def posteriors(teacher: Teacher, records: Encoded) -> tuple[Tensor, Tensor]:
    """Mean and variance of z for each record, (n, latent) each; pictures in parts, which bounds memory."""
    if not teacher.shows_pictures:
        return teacher.posterior(records)
    parts = torch.split(torch.arange(len(records)), PART)
    mean, variance = zip(*(teacher.posterior(records[part]) for part in parts), strict=True)
    return torch.cat(mean), torch.cat(variance)


@torch.no_grad()
def _validate(teacher: Teacher, validation: Encoded, step: int, seed: int) -> Epoch:
    teacher.eval()
    generator = torch.Generator(validation.target.device).manual_seed(seed)
    losses: Losses = teacher.losses(validation, generator)
    parts = (losses.reconstruction, losses.target, losses.divergence, losses.dependence)
    return Epoch(step, *(float(part) for part in (*parts, losses.total(teacher.settings))))


def _is_stale(history: list[Epoch], epochs: int) -> bool:
    if not history:
        return False
    best = min(range(len(history)), key=lambda index: history[index].total)
    return len(history) - 1 - best > max(LEAST_PATIENCE, PATIENCE * epochs)


def _checkpoint(
    teacher: Teacher,
    optimiser: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
    history: list[Epoch],
    best: dict[str, Any],
) -> bytes:
    buffer = io.BytesIO()
    torch.save(
        {
            "teacher": teacher.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": schedule.state_dict(),
            "history": [list(vars(entry).values()) for entry in history],
            "best": best,
        },
        buffer,
    )
    content = buffer.getvalue()
    return hashlib.sha256(content).digest() + content
