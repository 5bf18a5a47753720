"""The teacher: a VAE whose latent z is independent of the sensitive groups (DESIGN section 2).

E(x, y, s) -> N(μ, diag v)        encoder; never leaves the owner
D(z, s) -> x,  h(z) -> y          decoder and target head; these are released

loss = reconstruction + kl_weight · KL + β · V²(z, s)
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, one_hot

from shared.codec import Encoded, Layout, dense
from shared.decoder import Architecture, Decoder, perceptron
from shared.logistic import log_mass
from shared.schema import Schema
from shared.sketch import dependence, draw_frequencies, sketch


@dataclass(frozen=True)
class TeacherSettings:
    """Sizes and weights of the teacher. One default for every table."""

    latent: int = 16
    encoder_hidden: tuple[int, ...] = (256, 256)
    hidden: tuple[int, ...] = (112, 96)
    head: tuple[int, ...] = (64,)
    kl_weight: float = 0.5
    beta: float = 300.0
    target_weight: float = 1.0
    frequencies: int = 256
    frequency_scales: tuple[float, ...] = (0.15, 0.3, 0.6)
    batch: int = 512
    steps: int = 4000
    learning_rate: float = 4e-3


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
        architecture = Architecture.for_schema(schema, settings.latent, settings.hidden, settings.head)
        inputs = self.layout.inputs + architecture.classes + architecture.groups
        self.encoder = perceptron(inputs, settings.encoder_hidden, 2 * settings.latent)
        self.decoder = Decoder(architecture)

    def posterior(self, records: Encoded) -> tuple[Tensor, Tensor]:
        """Mean and variance of z for each record, (n, latent) each."""
        inputs = [
            dense(self.layout, records),
            self._one_hot(records.target, self.decoder.architecture.classes),
            self._membership(records),
        ]
        mean, log_variance = self.encoder(torch.cat(inputs, 1)).chunk(2, 1)
        return mean, log_variance.clamp(-12.0, 4.0).exp()

    def losses(self, records: Encoded, generator: torch.Generator | None = None) -> Losses:
        """One stochastic evaluation: one z a record, fresh frequencies."""
        mean, variance = self.posterior(records)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = mean + variance.sqrt() * noise
        membership = self._membership(records)
        outputs = self.decoder(z, membership)
        # frequencies are per coordinate of standardised z, so shrinking z does not hide a dependence
        spread = (mean.var(0) + variance.mean(0)).sqrt().detach()
        frequencies = draw_frequencies(
            self.settings.frequencies, z.shape[1], self.settings.frequency_scales, generator, z.device
        )
        parts = sketch(mean, membership, frequencies / spread, variance)
        return Losses(
            reconstruction=self._reconstruction(records, outputs),
            target=cross_entropy(self.decoder.label(z), records.target),
            divergence=0.5 * (mean.square() + variance - 1.0 - variance.log()).sum(1).mean(),
            dependence=dependence(parts),
        )

    def _reconstruction(self, records: Encoded, outputs: Tensor) -> Tensor:
        """Negative log-likelihood of the features that are present, mean over records."""
        layout = self.layout
        mass = log_mass(layout.mixtures(outputs), records.low, records.high)
        loss = -mass.masked_fill(records.absent, 0.0).sum(1).mean()
        if layout.optional:
            flags = records.absent[:, list(layout.optional)].to(outputs.dtype)
            loss = (
                loss + binary_cross_entropy_with_logits(outputs[:, layout.flags], flags, reduction="none").sum(1).mean()
            )
        for index, logits in enumerate(layout.levels):
            loss = loss + cross_entropy(outputs[:, logits], records.levels[:, index])
        return loss

    def _membership(self, records: Encoded) -> Tensor:
        return self._one_hot(records.group, self.decoder.architecture.groups)

    @staticmethod
    def _one_hot(values: Tensor, width: int) -> Tensor:
        return one_hot(values, width).float()
