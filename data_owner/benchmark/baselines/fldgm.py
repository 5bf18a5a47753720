"""FLDGM (Ramachandranpillai, Sikder and Heintz, ECAI 2023): a generative model over a fair VAE's latents.

Smaller and trained for less long than the authors' own: `STEPS` updates of `BATCH`, on one draw of the latents, where
they have 20,000 epochs of 2,048 for the GAN and 5,000 for the diffusion. Their GAN has least squares (or Wasserstein's
distance), 64 noises and batch normalisation, ours the non-saturating loss; their diffusion has 1,000 times and
predicts v, ours `TIMES` and the noise.
"""

from __future__ import annotations

import math

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from data_owner.benchmark.baselines.fair_vae import LATENT, Fitted
from data_owner.benchmark.systems import Fold

HIDDEN = 128
BATCH = 512
STEPS = 4000
NOISE = 16
TIMES = 100


def generate_by_gan(fold: Fold) -> pd.DataFrame:
    generator = torch.Generator().manual_seed(fold.seed)
    teacher = Fitted(fold)
    latents = teacher.latents(generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold.seed)
        maker, critic = _perceptron(NOISE, LATENT), _perceptron(LATENT, 1)
        makers = torch.optim.Adam(maker.parameters(), 2e-4, betas=(0.5, 0.999))
        critics = torch.optim.Adam(critic.parameters(), 2e-4, betas=(0.5, 0.999))
        ones, zeros = torch.ones(BATCH, 1), torch.zeros(BATCH, 1)
        for _ in range(fold.steps(STEPS)):
            real = latents[torch.randint(len(latents), (BATCH,))]
            made = maker(torch.randn(BATCH, NOISE))
            loss = binary_cross_entropy_with_logits(critic(real), ones)
            _step(critics, loss + binary_cross_entropy_with_logits(critic(made.detach()), zeros))
            _step(makers, binary_cross_entropy_with_logits(critic(made), ones))
        with torch.no_grad():
            z = maker(torch.randn(fold.rows, NOISE))
    return teacher.table(z, generator)


def generate_by_diffusion(fold: Fold) -> pd.DataFrame:
    """Denoising diffusion (Ho et al. 2020) over standardised latents, cosine schedule."""
    generator = torch.Generator().manual_seed(fold.seed)
    teacher = Fitted(fold)
    latents = teacher.latents(generator)
    centre, spread = latents.mean(0), latents.std(0)
    latents = (latents - centre) / spread
    kept = _kept()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold.seed)
        model = _perceptron(LATENT + 2, LATENT)
        optimiser = torch.optim.Adam(model.parameters(), 1e-3)
        for _ in range(fold.steps(STEPS)):
            clean = latents[torch.randint(len(latents), (BATCH,))]
            time = torch.randint(TIMES, (BATCH,))
            noise = torch.randn_like(clean)
            share = kept[time].unsqueeze(1)
            noisy = share.sqrt() * clean + (1 - share).sqrt() * noise
            _step(optimiser, mse_loss(model(_with_time(noisy, time)), noise))
        with torch.no_grad():
            z = _denoise(model, kept, fold.rows)
    return teacher.table(centre + spread * z, generator)


def _denoise(model: nn.Module, kept: Tensor, count: int) -> Tensor:
    z = torch.randn(count, LATENT)
    for time in reversed(range(TIMES)):
        before = kept[time - 1] if time else torch.ones(())
        alpha = kept[time] / before
        noise = model(_with_time(z, torch.full((count,), time)))
        clean = ((z - (1 - kept[time]).sqrt() * noise) / kept[time].sqrt()).clamp(-6, 6)
        mean = (before.sqrt() * (1 - alpha) * clean + alpha.sqrt() * (1 - before) * z) / (1 - kept[time])
        variance = (1 - before) * (1 - alpha) / (1 - kept[time])
        z = mean + variance.sqrt() * torch.randn_like(z)
    return z


def _kept() -> Tensor:
    """Share of the signal that is left after each time, (TIMES,)."""
    times = torch.arange(1, TIMES + 1) / TIMES
    return torch.cos(0.5 * math.pi * (times + 0.008) / 1.008).square().clamp_min(1e-4)


def _with_time(z: Tensor, time: Tensor) -> Tensor:
    angle = 0.5 * math.pi * time.unsqueeze(1) / TIMES
    return torch.cat([z, angle.sin(), angle.cos()], 1)


def _perceptron(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


def _step(optimiser: torch.optim.Optimizer, loss: Tensor) -> None:
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()
