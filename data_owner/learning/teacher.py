"""The teacher: a VAE whose latent z is independent of the sensitive groups (DESIGN section 2).

E(x, y, s) -> N(μ, diag v)        encoder; never leaves the owner
D(z, s) -> x,  h(z) -> y          decoder and target head; these are released

loss = reconstruction + target_weight · target + kl_weight · KL + β · V²

Criterion "parity": V²(z, s), so z and with it y is independent of s. Criterion "odds": Σ_y π_y V²(z, s | y), so x
keeps its distribution given y and s, and drawing z and s independently of each other rebalances y over groups.

The prior of z is N(m_y, I) with learned m_y. Classes then stand apart in z at no cost of divergence, so h(z) reads the
label that belongs to x instead of one that noise has blurred, and within each z is near to normal, which is why the
statistics are released by class (`shared.strata`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from data_owner.learning.image_encoder import ImageEncoder, reconstruction
from shared.architecture import Architecture, ConvolutionalArchitecture, perceptron
from shared.codec import Encoded, Layout, dense, gap_logits
from shared.decoder import Decoder
from shared.errors import BadInput
from shared.frozen import describe
from shared.logistic import log_mass
from shared.schema import Schema
from shared.scores import Criterion
from shared.sketch import conditional_dependence, dependence, draw_frequencies, sketch
from shared.statistics import LOG_VARIANCE


@dataclass(frozen=True)
class TeacherSettings:
    """Sizes and weights of the teacher. One default for every table, and `IMAGE_TEACHER` for pictures.

    Training ends after `steps` or `epochs`, whichever comes first: few records seen too often are learned by heart.
    Without `by_class` the prior is N(0, I), and without `linked_gaps` each number is missing by itself, given z. A
    group of fewer records than `large_group`, but for the two largest, shares the weights of larger ones
    (`group_weights`).
    """

    criterion: Criterion = "parity"
    latent: int = 16
    encoder_hidden: tuple[int, ...] = (128, 128)
    hidden: tuple[int, ...] = (128, 128)
    head: tuple[int, ...] = (64,)
    kl_weight: float = 0.8
    beta: float = 500.0
    target_weight: float = 1.0
    frequencies: int = 128
    batch: int = 512
    steps: int = 3000
    epochs: int = 160
    learning_rate: float = 8e-3
    maps: tuple[int, ...] = ()
    by_class: bool = True
    linked_gaps: bool = True
    large_group: float = 500.0


IMAGE_TEACHER = TeacherSettings(
    criterion="odds",
    encoder_hidden=(128,),
    maps=(64, 32),
    kl_weight=1.0,
    target_weight=10.0,
    batch=256,
    steps=5000,
    learning_rate=2e-3,
)
"""Defaults for pictures; `maps` are the feature maps of the decoder, the encoder has them the other way round."""


def default_settings(schema: Schema) -> TeacherSettings:
    return TeacherSettings() if schema.image is None else IMAGE_TEACHER


def architecture_for(schema: Schema, settings: TeacherSettings) -> Architecture | ConvolutionalArchitecture:
    """The decoder's. Raises `BadInput` for a schema whose decoder would be larger than the limits."""
    try:
        if schema.image is not None:
            return ConvolutionalArchitecture.for_schema(schema, settings.latent, settings.maps, settings.head)
        return Architecture.for_schema(
            schema, settings.latent, settings.hidden, settings.head, linked_gaps=settings.linked_gaps
        )
    except ValidationError as error:
        remedy = (
            "raise minimum_count in [policy], which merges rare categories, or recode or exclude columns that have many"
        )
        if schema.image is not None:
            remedy = "use a smaller --size, or fewer sensitive groups"
        raise BadInput(
            f"the decoder would be too large, {describe(error)}",
            field="columns" if schema.image is None else schema.image.name,
            remedy=remedy,
        ) from None


@dataclass(frozen=True)
class Losses:
    """Means over a batch, in nats a record; `dependence` is V²."""

    reconstruction: Tensor
    target: Tensor
    divergence: Tensor
    dependence: Tensor

    def total(self, settings: TeacherSettings) -> Tensor:
        return (
            self.reconstruction
            + settings.target_weight * self.target
            + settings.kl_weight * self.divergence
            + settings.beta * self.dependence
        )


class Teacher(nn.Module):
    """Encoder and decoder together. Only `decoder` is ever written into a release."""

    def __init__(self, schema: Schema, settings: TeacherSettings) -> None:
        super().__init__()
        self.settings = settings
        self.layout = Layout(schema)
        self.shows_pictures = schema.image is not None
        architecture = architecture_for(schema, settings)
        if isinstance(architecture, ConvolutionalArchitecture):
            self.encoder: nn.Module = ImageEncoder(architecture, settings.encoder_hidden[0])
        else:
            inputs = self.layout.inputs + architecture.classes + architecture.groups
            self.encoder = perceptron(inputs, settings.encoder_hidden, 2 * settings.latent)
        self.decoder = Decoder(architecture)
        if settings.by_class:
            self.prior = nn.Parameter(torch.randn(self.decoder.architecture.classes, settings.latent))

    def posterior(self, records: Encoded) -> tuple[Tensor, Tensor]:
        """Mean and variance of z for each record, (n, latent) each."""
        target, membership = self._one_hot(records.target, self.decoder.architecture.classes), self._membership(records)
        if self.shows_pictures:
            found = self.encoder(records.pixels, torch.cat([target, membership], 1))
        else:
            found = self.encoder(torch.cat([dense(self.layout, records), target, membership], 1))
        mean, log_variance = found.chunk(2, 1)
        return mean, log_variance.clamp(*LOG_VARIANCE).exp()

    def losses(self, records: Encoded, generator: torch.Generator | None = None) -> Losses:
        """One stochastic evaluation: one z a record, fresh frequencies."""
        mean, variance = self.posterior(records)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = mean + variance.sqrt() * noise
        membership = self._membership(records)
        outputs = self.decoder(z, membership)
        # frequencies are per coordinate of standardised z, so shrinking z does not hide a dependence
        spread = (mean.var(0) + variance.mean(0)).sqrt().detach()
        frequencies = draw_frequencies(self.settings.frequencies, z.shape[1], generator=generator, device=z.device)
        return Losses(
            reconstruction=self._reconstruction(records, outputs),
            target=cross_entropy(self.decoder.label(z), records.target),
            divergence=0.5 * (self._from_prior(records, mean).square() + variance - 1.0 - variance.log()).sum(1).mean(),
            dependence=self._dependence(records.target, membership, frequencies / spread, mean, variance),
        )

    def _from_prior(self, records: Encoded, mean: Tensor) -> Tensor:
        """Posterior means (n, latent) less the mean of their prior."""
        return mean - self.prior[records.target] if self.settings.by_class else mean

    def _dependence(
        self, target: Tensor, membership: Tensor, frequencies: Tensor, mean: Tensor, variance: Tensor
    ) -> Tensor:
        if self.settings.criterion == "parity":
            return dependence(sketch(mean, membership, frequencies, variance))
        classes = self.decoder.architecture.classes
        cells = self._one_hot(target, classes).unsqueeze(2) * membership.unsqueeze(1)
        return conditional_dependence(sketch(mean, cells.flatten(1), frequencies, variance), classes)

    def _reconstruction(self, records: Encoded, outputs: Tensor) -> Tensor:
        """Negative log-likelihood of the features that are present, mean over records."""
        if self.shows_pictures:
            return reconstruction(outputs, records.pixels).mean()
        mixtures, absent, levels = self.layout.split(outputs)
        mass = log_mass(mixtures, records.low, records.high)
        loss = -mass.masked_fill(records.absent, 0.0).sum(1).mean()
        if self.layout.optional:
            flags = records.absent[:, list(self.layout.optional)].to(outputs.dtype)
            logits = gap_logits(absent, flags, self.decoder.gap_links)
            loss = loss + binary_cross_entropy_with_logits(logits, flags, reduction="none").sum(1).mean()
        for index, level in enumerate(levels):
            loss = loss + cross_entropy(level, records.levels[:, index])
        return loss

    def _membership(self, records: Encoded) -> Tensor:
        return self._one_hot(records.group, self.decoder.architecture.groups)

    @staticmethod
    def _one_hot(values: Tensor, width: int) -> Tensor:
        return one_hot(values, width).float()
