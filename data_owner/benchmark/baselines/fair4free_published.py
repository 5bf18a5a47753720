"""Fair4Free as published (arXiv 2410.01423): a fair VAE teacher and a student from noise under L1 + KL, Adam 1e-5."""

from __future__ import annotations

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import l1_loss

from data_owner.benchmark.baselines.fair_vae import LATENT, Fitted
from data_owner.benchmark.systems import Fold

NOISE = 64
HIDDEN = 32
BATCH = 512
STEPS = 20_000
LEARNING_RATE = 1e-5


class PublishedStudent(nn.Module):
    """Noise (n, 64) to a draw of z' with its mean and log-variance."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(NOISE, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))

    def forward(self, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, log_variance = self.body(noise).chunk(2, 1)
        return mean + (0.5 * log_variance).exp() * torch.randn_like(mean), mean, log_variance


def generate(fold: Fold) -> pd.DataFrame:
    generator = torch.Generator().manual_seed(fold.seed)
    teacher = Fitted(fold)
    targets = teacher.latents(generator)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold.seed)
        student = PublishedStudent()
        optimiser = torch.optim.Adam(student.parameters(), LEARNING_RATE)
        for _ in range(fold.steps(STEPS)):
            wanted = targets[torch.randint(len(targets), (BATCH,))]
            z, mean, log_variance = student(torch.randn(BATCH, NOISE))
            divergence = 0.5 * (mean.square() + log_variance.exp() - 1.0 - log_variance).sum(1).mean()
            loss = l1_loss(z, wanted) + divergence
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        with torch.no_grad():
            z, _, _ = student(torch.randn(fold.rows, NOISE))
    return teacher.table(z, generator)
