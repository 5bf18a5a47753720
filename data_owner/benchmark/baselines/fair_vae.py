"""The fair VAE that the paper's own systems share: FairDisco's (Liu et al., KDD 2022) on x and y.

Hidden 64, latent 8, Adam 1e-3, batch 2048; y stands among the decoder's outputs. The pairwise penalty is
evaluated on `PENALTY_ROWS` of each batch, because its cost is quadratic. Numbers are binned, as in the authors' code,
which trains for 1,000 epochs, on COMPAS as many steps as `STEPS`, and tries every `BETA` from 1 to 1e10.
"""

from __future__ import annotations

import hashlib
import inspect
import io
import time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from data_owner.benchmark.baselines.matrix import Matrix
from data_owner.benchmark.pairwise import dependence_by_kernel
from data_owner.benchmark.systems import Fold
from data_owner.learning.device import trains_on
from shared import folder
from shared.codec import group_positions

HIDDEN = 64
LATENT = 8
BATCH = 2048
STEPS = 3000
LEARNING_RATE = 1e-3
PENALTY_ROWS = 512
BETA = 1e4


class FairVAE(nn.Module):
    """E(x, y, s) and D(z, s) -> x, y, each with one hidden layer."""

    def __init__(self, width: int, groups: int) -> None:
        super().__init__()
        self.groups = groups
        self.encoder = nn.Sequential(nn.Linear(width + groups, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 2 * LATENT))
        self.decoder = nn.Sequential(nn.Linear(LATENT + groups, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, width))

    def encode(self, records: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of z, (n, LATENT) each."""
        mean, log_variance = self.encoder(torch.cat([records, one_hot(group, self.groups)], 1)).chunk(2, 1)
        return mean, log_variance.exp()

    def decode(self, z: Tensor, group: Tensor) -> Tensor:
        """Outputs, (n, width)."""
        return self.decoder(torch.cat([z, one_hot(group, self.groups)], 1))


class Fitted:
    """A trained fair VAE with what is needed to make a table of latents."""

    def __init__(self, fold: Fold) -> None:
        self.matrix = Matrix(fold.schema, fold.training)
        self.records = self.matrix.encode(fold.training)
        self.group = torch.from_numpy(group_positions(fold.schema, fold.training))
        self.model = _load_or_train(fold, self.matrix, self.records, self.group)

    @torch.no_grad()
    def latents(self, generator: torch.Generator) -> Tensor:
        """One draw of each training record's posterior, (n, LATENT)."""
        mean, variance = self.model.encode(self.records, self.group)
        return mean + variance.sqrt() * torch.randn(mean.shape, generator=generator)

    @torch.no_grad()
    def table(self, z: Tensor, generator: torch.Generator) -> pd.DataFrame:
        """Rows decoded from latents (n, LATENT) and groups drawn independently of them."""
        group = self.matrix.draw_groups(len(z), generator)
        return self.matrix.decode(self.model.decode(z, group), group, generator)


def _load_or_train(fold: Fold, matrix: Matrix, records: Tensor, group: Tensor) -> FairVAE:
    """Systems that start from the same fair VAE train it once a fold."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fold.seed)
        model = FairVAE(matrix.width, len(fold.schema.groups))
    kept = fold.scratch / kept_as(fold, records, group)
    if kept.is_file():
        found = torch.load(kept, weights_only=True)
        model.load_state_dict(found["model"])
        fold.reused_seconds.append(found["seconds"])
        return model
    start = time.process_time()
    device = trains_on()
    model, records, group = model.to(device), records.to(device), group.to(device)
    generator = torch.Generator(device).manual_seed(fold.seed)
    optimiser = torch.optim.Adam(model.parameters(), LEARNING_RATE)
    for _ in range(fold.steps(STEPS)):
        rows = torch.randperm(len(records), generator=generator, device=device)[:BATCH]
        loss = losses(model, matrix, records[rows], group[rows], generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    model = model.cpu()
    buffer = io.BytesIO()
    torch.save({"model": model.state_dict(), "seconds": time.process_time() - start}, buffer)
    folder.write(kept, buffer.getvalue())
    return model


def kept_as(fold: Fold, records: Tensor, group: Tensor) -> str:
    """A file name that no other records, settings or source have."""
    versions = f"{torch.__version__} {np.__version__} {trains_on().type}"
    digest = hashlib.sha256(f"{fold.seed} {fold.effort} {versions}".encode())
    sources = (Path(inspect.getfile(piece)).read_bytes() for piece in (FairVAE, Matrix, dependence_by_kernel, Fold))
    for content in (records.numpy().tobytes(), group.numpy().tobytes(), *sources):
        digest.update(hashlib.sha256(content).digest())
    return f"fair-vae-{digest.hexdigest()[:32]}.pt"


def losses(model: FairVAE, matrix: Matrix, records: Tensor, group: Tensor, generator: torch.Generator) -> Tensor:
    """reconstruction + KL + β V², mean over records."""
    mean, variance = model.encode(records, group)
    z = mean + variance.sqrt() * torch.randn(mean.shape, generator=generator, device=mean.device)
    reconstruction = matrix.reconstruction(model.decode(z, group), records)
    divergence = 0.5 * (mean.square() + variance - 1.0 - variance.log()).sum(1).mean()
    few = slice(PENALTY_ROWS)
    membership = one_hot(group[few], model.groups).float()
    return reconstruction + divergence + BETA * dependence_by_kernel(mean[few], variance[few], membership)
