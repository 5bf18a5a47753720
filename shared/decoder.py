"""The decoder D(z, s) -> x with its target head h(z) -> y: the model that crosses.

The head reads z alone. A head that saw s could re-learn the bias from s, however independent z is
(DESIGN section 2).
"""

from __future__ import annotations

from typing import Self

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from shared.architecture import ARCHITECTURES, Architecture, ConvolutionalArchitecture, perceptron
from shared.errors import VerificationFailure
from shared.frozen import describe
from shared.schema import Schema
from shared.tensor_metadata import metadata


class Decoder(nn.Module):
    """D(z, s) and h(z)."""

    def __init__(self, architecture: Architecture | ConvolutionalArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        self.body = architecture.body()
        self.head = perceptron(architecture.latent, architecture.head, architecture.classes)
        gaps = architecture.gaps if isinstance(architecture, Architecture) else 0
        self.links = nn.Parameter(torch.zeros(gaps * (gaps - 1) // 2)) if gaps else None

    def forward(self, z: Tensor, membership: Tensor) -> Tensor:
        """z: (n, latent), membership: one-hot (n, groups). Returns the body's outputs, (n, ...)."""
        return self.body(torch.cat([z, membership.to(z.dtype)], 1))

    @property
    def gap_links(self) -> Tensor | None:
        """What a gap adds to the log-odds of one in each later numeric column, (gaps, gaps), later by earlier."""
        if self.links is None or not isinstance(self.architecture, Architecture):
            return None
        gaps = self.architecture.gaps
        return self.links.new_zeros(gaps, gaps).index_put(tuple(torch.tril_indices(gaps, gaps, -1)), self.links)

    @property
    def group_weights(self) -> Tensor:
        """What the first layer adds for each group, a view of its weights: (width, groups)."""
        first = next(layer for layer in self.body.modules() if isinstance(layer, nn.Linear))
        return first.weight[:, self.architecture.latent :]

    def label(self, z: Tensor) -> Tensor:
        """Class logits of the target, (n, classes), from z alone."""
        return self.head(z)

    def to_bytes(self) -> bytes:
        """safetensors in half precision, half the bytes, with the architecture in the metadata."""
        tensors = {name: value.detach().cpu().half().contiguous() for name, value in self.state_dict().items()}
        # without links as it was before there were any: programs from then read it
        unlinked = {"gaps"} if self.links is None else set()
        return save(tensors, metadata={"architecture": self.architecture.model_dump_json(exclude=unlinked)})

    @classmethod
    def from_bytes(cls, data: bytes, schema: Schema) -> Self:
        """Build from foreign bytes. Raises `VerificationFailure` unless every tensor is the expected one."""
        try:
            architecture = ARCHITECTURES.validate_json(metadata(data)["architecture"])
        except ValidationError as error:
            raise _refused(f"architecture {describe(error)}") from None
        except (KeyError, TypeError):
            raise _refused("the architecture is missing") from None
        if not architecture.fits(schema):
            raise _refused("the architecture does not fit the schema")
        with torch.device("meta"):
            model = cls(architecture)
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        tensors = checked(data, shapes, torch.float16)
        model = model.to_empty(device="cpu")
        model.load_state_dict(tensors)
        return model.eval()


def checked(data: bytes, shapes: dict[str, tuple[int, ...]], dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    """Load safetensors bytes. Refuses any name, shape or dtype not expected, and values not finite."""
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError, TypeError):
        raise _refused("the tensors cannot be read") from None
    if set(tensors) != set(shapes):
        raise _refused("tensor names are not the expected ones")
    for name, tensor in tensors.items():
        if tuple(tensor.shape) != shapes[name] or tensor.dtype != dtype:
            raise _refused("a tensor has the wrong shape or type")
        if not bool(torch.isfinite(tensor).all()):
            raise _refused("a tensor holds a value that is not finite")
    return tensors


def _refused(problem: str) -> VerificationFailure:
    return VerificationFailure(problem, field="tensors", remedy="ask the owner for a new release")
