"""FairDisco: the fair VAE as a generator, latents from its prior."""

from __future__ import annotations

import pandas as pd
import torch

from data_owner.benchmark.baselines.fair_vae import LATENT, Fitted
from data_owner.benchmark.systems import Fold


def generate(fold: Fold) -> pd.DataFrame:
    generator = torch.Generator().manual_seed(fold.seed)
    return Fitted(fold).table(torch.randn(fold.rows, LATENT, generator=generator), generator)
