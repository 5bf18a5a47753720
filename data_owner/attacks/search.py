"""Searching the latent space of a released decoder for the z that explains a record best.

The attacker has no encoder. It has D(z, s), h(z) and the moments of z by class, so it climbs

    Σ_known columns log p(column | z, s) + log Σ_y π_y N(z; mean_y, covariance_y)

from the centre of the record's class, or of each where the class is not known. Columns that it does not know are left
out of the sum; the rest of z then says what the release believes them to be. (Chen et al., GAN-Leaks, CCS 2020,
section 4.4: full access to a decoder.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot

from data_owner.learning.image_encoder import reconstruction
from protocol.artefacts import TRAINED, Artefact
from shared.codec import Encoded, Layout, gap_logits
from shared.decoder import Decoder
from shared.generation import parse_release
from shared.logistic import log_mass
from shared.schema import Schema
from shared.statistics import LatentStatistics

STEPS = 60
LEARNING_RATE = 0.15
BATCH = 1024


@dataclass(frozen=True)
class Released:
    """What an attacker holds of a release."""

    schema: Schema
    decoder: Decoder
    statistics: LatentStatistics

    @cached_property
    def layout(self) -> Layout:
        return Layout(self.schema)

    @property
    def columns(self) -> int:
        """How many columns a record is searched by: the features and the target."""
        return len(self.schema.features) + 1

    def outputs(self, z: Tensor, records: Encoded) -> Tensor:
        """What the decoder says of each record's features at its own z (n, latent) and group: (n, ...)."""
        return self.decoder(z, one_hot(records.group, self.decoder.architecture.groups))

    @classmethod
    def of(cls, artefacts: Mapping[Artefact, bytes]) -> Self:
        """From the bytes that leave. Raises `BadContent` if they do not fit each other."""
        return cls(*parse_release(*(artefacts[kind] for kind in TRAINED)))


@dataclass(frozen=True)
class Found:
    """Best z of each record, (n, latent); `fit` log p(column | z, s) there, (n, columns); `prior` log p(z), (n,)."""

    z: Tensor
    fit: Tensor
    prior: Tensor

    @property
    def joint(self) -> Tensor:
        """Log-likelihood of the whole record at its z, (n,)."""
        return self.fit.sum(1) + self.prior


def log_likelihood(released: Released, z: Tensor, records: Encoded, known: Tensor | None = None) -> Tensor:
    """log p(column | z, s) of each record at its own z (n, latent): (n, columns).

    Columns are the numbers, then the categories, then the target; of pictures, the picture and the target. A missing
    number counts as its flag alone. known: columns the attacker knows, (n, columns) bool, all if not given: of others
    no gap tells of a later one, but how likely it is.
    """
    layout = released.layout
    outputs = released.outputs(z, records)
    label = _chosen(released.decoder.label(z), records.target)
    if released.schema.image is not None:
        return torch.cat([-reconstruction(outputs, records.pixels).unsqueeze(1), label], 1)
    mixtures, absent, of_levels = layout.split(outputs)
    numbers = log_mass(mixtures, records.low, records.high).masked_fill(records.absent, 0.0)
    if layout.optional:
        places = list(layout.optional)
        flags = records.absent[:, places].to(outputs.dtype)
        told = flags if known is None else torch.where(known[:, places], flags, torch.sigmoid(absent))
        logits = gap_logits(absent, told, released.decoder.gap_links)
        numbers = numbers.index_add(1, torch.tensor(places), logsigmoid((flags * 2.0 - 1.0) * logits))
    levels = [_chosen(level, records.levels[:, index]) for index, level in enumerate(of_levels)]
    return torch.cat([numbers, *levels, label], 1)


def search(released: Released, records: Encoded, known: Tensor | None = None) -> Found:
    """Find the z of each record. known: columns the attacker knows, (n, columns) bool; all if not given.

    Where the class is hidden the search starts from each in turn, and the likeliest end counts.
    """
    parts = []
    for start in range(0, max(len(records), 1), BATCH):  # of no records, an empty batch
        rows = torch.arange(start, min(start + BATCH, len(records)))
        parts.append(_search(released, records[rows], None if known is None else known[rows]))
    return Found(*(torch.cat(values) for values in zip(*(vars(part).values() for part in parts), strict=True)))


def _search(released: Released, records: Encoded, known: Tensor | None) -> Found:
    means = released.statistics.strata.mean
    own = means[records.target]
    if known is None:
        known = torch.ones(len(records), released.columns, dtype=torch.bool)
    is_told = known[:, -1:]
    starts = [own] if bool(is_told.all()) else [torch.where(is_told, own, mean) for mean in means]
    ends = [_climb(released, records, known, start) for start in starts]
    best = torch.stack([(end.fit * known).sum(1) + end.prior for end in ends]).argmax(0)
    rows = torch.arange(len(records))
    return Found(
        *(torch.stack(values)[best, rows] for values in zip(*(vars(end).values() for end in ends), strict=True))
    )


def _climb(released: Released, records: Encoded, known: Tensor, start: Tensor) -> Found:
    strata = released.statistics.strata
    scale = torch.linalg.cholesky(strata.pooled_covariance()).T
    step = torch.zeros_like(start, requires_grad=True)
    optimiser = torch.optim.Adam([step], LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS)
    for parameter in released.decoder.parameters():
        parameter.requires_grad_(False)
    for _ in range(STEPS):
        z = start + step @ scale
        loss = -((log_likelihood(released, z, records, known) * known).sum() + strata.log_density(z).sum())
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    with torch.no_grad():
        z = start + step @ scale
        return Found(z, log_likelihood(released, z, records, known), strata.log_density(z))


def _chosen(logits: Tensor, position: Tensor) -> Tensor:
    return torch.log_softmax(logits, 1).gather(1, position.unsqueeze(1))
