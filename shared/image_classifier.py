"""The small classifier that judges pictures, and whose features are the space in which they are compared."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.codec import group_positions, positions
from shared.image_codec import as_tensor
from shared.schema import Schema

MAPS, FEATURES = 16, 64
STEPS, BATCH, LEARNING_RATE = 1200, 128, 3e-3
SMALLEST = 8
"""Pictures are halved until their longer side is no larger."""

PART = 1000
"""Pictures classified at once."""


class ImageClassifier(nn.Module):
    """Strided convolutions with twice the maps each time, a layer of 64 features, then a logit for each class."""

    def __init__(self, channels: int, height: int, width: int, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into, out = channels, MAPS
        while max(height, width) > SMALLEST:
            layers += [nn.Conv2d(into, out, 3, stride=2, padding=1), nn.SiLU()]
            into, out, height, width = out, 2 * out, -(-height // 2), -(-width // 2)
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(into * height * width, FEATURES), nn.SiLU())
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """(n, channels, height, width) uint8 to logits (n, classes)."""
        return self.head(self.body(pixels.float() / 255.0))

    @torch.inference_mode()
    def features(self, table: pd.DataFrame, schema: Schema) -> NDArray[np.float64]:
        """The 64 features of each picture, (n, 64)."""
        return torch.cat([self.body(part.float() / 255.0) for part in _parts(table, schema)]).double().numpy()

    @torch.inference_mode()
    def predict(self, table: pd.DataFrame, schema: Schema) -> NDArray[np.int64]:
        """Class positions, (n,)."""
        return torch.cat([self(part).argmax(1) for part in _parts(table, schema)]).numpy()


def train_classifier(table: pd.DataFrame, schema: Schema, seed: int, *, rebalanced: bool = False) -> ImageClassifier:
    """Trained on a canonical table of pictures: the same table and seed give the same classifier.

    `rebalanced` draws pictures so that every group is as frequent within a class: such a classifier has no use for s.
    """
    assert schema.image is not None
    pixels = as_tensor(table[schema.image.name], schema.image)
    target = torch.from_numpy(positions(schema.target, table[schema.target.name]))
    height, width, channels = schema.image.shape
    weights = _cell_weights(target, torch.from_numpy(group_positions(schema, table))) if rebalanced else None
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = ImageClassifier(channels, height, width, len(schema.target.categories))
    optimiser = torch.optim.AdamW(model.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    for _ in range(STEPS):
        if weights is None:
            chosen = torch.randint(len(pixels), (BATCH,), generator=generator)
        else:
            chosen = torch.multinomial(weights, BATCH, replacement=True, generator=generator)
        loss = cross_entropy(model(pixels[chosen]), target[chosen])
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return model.eval()


def _cell_weights(target: Tensor, group: Tensor) -> Tensor:
    """Weights (n,) under which every group of a class has the same, and classes keep their shares."""
    groups = int(group.max()) + 1
    _, cell, counts = torch.unique(target * groups + group, return_inverse=True, return_counts=True)
    return torch.bincount(target)[target] / counts[cell]


def _parts(table: pd.DataFrame, schema: Schema) -> Iterator[Tensor]:
    assert schema.image is not None
    pictures = table[schema.image.name]
    for start in range(0, len(pictures), PART):
        yield as_tensor(pictures.iloc[start : start + PART], schema.image)
