"""The decoder D(z, s) -> x with its target head h(z) -> y: the model that crosses.

The head reads z alone. A head that saw s could re-learn the bias from s, however independent z is
(DESIGN section 2).
"""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Literal, Self

import torch
from pydantic import Field, ValidationError, model_validator
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from shared.codec import Layout
from shared.errors import VerificationFailure
from shared.limits import LIMITS
from shared.schema import Frozen, Schema, describe


class Architecture(Frozen):
    """Everything needed to rebuild the decoder before its weights are loaded."""

    kind: Literal["tabular"] = "tabular"
    latent: int = Field(ge=1, le=LIMITS.latent_dimensions)
    groups: int = Field(ge=2, le=LIMITS.groups)
    classes: int = Field(ge=2, le=LIMITS.categories)
    outputs: int = Field(ge=1, le=LIMITS.parameters)
    hidden: tuple[int, ...] = Field(min_length=1, max_length=LIMITS.layers)
    head: tuple[int, ...] = Field(min_length=1, max_length=LIMITS.layers)

    @model_validator(mode="after")
    def _is_small(self) -> Self:
        if any(not 1 <= width <= LIMITS.layer_width for width in (*self.hidden, *self.head)):
            raise ValueError("a layer is wider than the limit")
        if self.parameters > LIMITS.parameters:
            raise ValueError("the model has more parameters than the limit")
        return self

    @property
    def parameters(self) -> int:
        body = [self.latent + self.groups, *self.hidden, self.outputs]
        head = [self.latent, *self.head, self.classes]
        pairs = [*pairwise(body), *pairwise(head)]
        return sum((into + 1) * out for into, out in pairs)

    @classmethod
    def for_schema(cls, schema: Schema, latent: int, hidden: tuple[int, ...], head: tuple[int, ...]) -> Self:
        return cls(
            latent=latent,
            groups=len(schema.groups),
            classes=len(schema.target.categories),
            outputs=Layout(schema).width,
            hidden=hidden,
            head=head,
        )

    def fits(self, schema: Schema) -> bool:
        return self == self.for_schema(schema, self.latent, self.hidden, self.head)


class Decoder(nn.Module):
    """D(z, s) and h(z)."""

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.architecture = architecture
        inputs = architecture.latent + architecture.groups
        self.body = perceptron(inputs, architecture.hidden, architecture.outputs)
        self.head = perceptron(architecture.latent, architecture.head, architecture.classes)

    def forward(self, z: Tensor, membership: Tensor) -> Tensor:
        """z: (n, latent), membership: one-hot (n, groups). Returns outputs, (n, outputs)."""
        return self.body(torch.cat([z, membership.to(z.dtype)], 1))

    def label(self, z: Tensor) -> Tensor:
        """Class logits of the target, (n, classes), from z alone."""
        return self.head(z)

    def to_bytes(self) -> bytes:
        """safetensors in half precision, half the bytes, with the architecture in the metadata."""
        tensors = {name: value.detach().cpu().half().contiguous() for name, value in self.state_dict().items()}
        return save(tensors, metadata={"architecture": self.architecture.model_dump_json()})

    @classmethod
    def from_bytes(cls, data: bytes, schema: Schema) -> Self:
        """Build from foreign bytes. Raises `VerificationFailure` unless every tensor is the expected one."""
        try:
            architecture = Architecture.model_validate_json(metadata(data)["architecture"])
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


def perceptron(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Linear layers with SiLU between them."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.SiLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def metadata(data: bytes) -> dict[str, str]:
    """The metadata of safetensors bytes: an 8-byte little-endian length, then a JSON header."""
    try:
        length = int.from_bytes(data[:8], "little")
        if not 0 < length <= len(data) - 8:
            raise ValueError
        header = json.loads(data[8 : 8 + length])
        found = header.get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError):
        raise _refused("the header is not safetensors") from None
    return found if isinstance(found, dict) else {}


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
