"""The encoder's half for pictures, E(x, y, s) -> N(μ, diag v), and how well a decoder's picture tells of x."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from shared.architecture import ConvolutionalArchitecture


class ImageEncoder(nn.Module):
    """Convolutions that halve the picture, the decoder's maps the other way round; then y and s join."""

    def __init__(self, architecture: ConvolutionalArchitecture, hidden: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        into = int(architecture.channels)
        height, width = architecture.height, architecture.width
        for maps in reversed(architecture.maps):
            padding = (1 + height % 2, 1 + width % 2)
            layers += [nn.Conv2d(into, maps, 4, stride=2, padding=padding), nn.SiLU()]
            into, height, width = maps, (height + 1) // 2, (width + 1) // 2
        self.convolutions = nn.Sequential(*layers, nn.Flatten())
        features = into * height * width
        condition = architecture.classes + architecture.groups
        self.rest = nn.Sequential(
            nn.Linear(features + condition, hidden), nn.SiLU(), nn.Linear(hidden, 2 * architecture.latent)
        )

    def forward(self, pixels: Tensor, condition: Tensor) -> Tensor:
        """pixels: (n, channels, height, width) uint8; condition: one-hot y and s. Returns (n, 2 · latent)."""
        return self.rest(torch.cat([self.convolutions(pixels.to(condition.dtype) / 255.0), condition], 1))


def reconstruction(outputs: Tensor, pixels: Tensor) -> Tensor:
    """Cross-entropy of all channels' intensities under logits (n, channels, height, width): (n,) in nats."""
    intensity = pixels.to(outputs.dtype) / 255.0
    return binary_cross_entropy_with_logits(outputs, intensity, reduction="none").flatten(1).sum(1)
