"""What a decoder is made of: all that is needed to rebuild it before its weights are loaded.

A specification comes from outside. It is checked against the limits as numbers, parameters and activations alike,
before anything of its size is allocated.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator
from torch import Tensor, nn

from shared.codec import Layout
from shared.frozen import Frozen
from shared.limits import LIMITS
from shared.schema import Schema

Widths = Annotated[tuple[int, ...], Field(min_length=1, max_length=LIMITS.layers)]


class _Common(Frozen):
    """What every decoder D(z, s) and its head h(z) have."""

    latent: int = Field(ge=1, le=LIMITS.latent_dimensions)
    groups: int = Field(ge=2, le=LIMITS.groups)
    classes: int = Field(ge=2, le=LIMITS.classes)
    head: Widths

    @property
    def head_parameters(self) -> int:
        return _dense([self.latent, *self.head, self.classes])

    def _joins(self, schema: Schema) -> bool:
        """Whether groups and classes are the schema's."""
        return (self.groups, self.classes) == (len(schema.groups), len(schema.target.categories))


class Architecture(_Common):
    """A perceptron whose outputs are the parameters of a table's columns. `gaps`: how many numeric columns
    have gaps that are linked; none where at most one has any, and in releases from before they were."""

    kind: Literal["tabular"] = "tabular"
    outputs: int = Field(ge=1, le=LIMITS.table_outputs)
    hidden: Widths
    gaps: int = Field(default=0, ge=0, le=LIMITS.columns)

    @model_validator(mode="after")
    def _is_small(self) -> Self:
        _check((*self.hidden, *self.head), self.parameters)
        return self

    @property
    def parameters(self) -> int:
        body = _dense([self.latent + self.groups, *self.hidden, self.outputs])
        return body + self.gaps * (self.gaps - 1) // 2 + self.head_parameters

    @classmethod
    def for_schema(
        cls, schema: Schema, latent: int, hidden: tuple[int, ...], head: tuple[int, ...], *, linked_gaps: bool = True
    ) -> Self:
        optional = len(Layout(schema).optional)
        return cls(
            latent=latent,
            groups=len(schema.groups),
            classes=len(schema.target.categories),
            outputs=Layout(schema).width,
            hidden=hidden,
            head=head,
            gaps=optional if linked_gaps and optional > 1 else 0,
        )

    def fits(self, schema: Schema) -> bool:
        layout = Layout(schema)
        sizes = self.outputs == layout.width and self.gaps in (0, len(layout.optional))
        return schema.image is None and self._joins(schema) and sizes

    def body(self) -> nn.Module:
        return perceptron(self.latent + self.groups, self.hidden, self.outputs)


class ConvolutionalArchitecture(_Common):
    """Transposed convolutions that double a small picture of `maps[0]` feature maps, once for each of `maps`.

    The outputs are logits of each channel's intensity, (n, channels, height, width).
    """

    kind: Literal["convolutional"] = "convolutional"
    height: int = Field(ge=LIMITS.least_image_side, le=LIMITS.image_side)
    width: int = Field(ge=LIMITS.least_image_side, le=LIMITS.image_side)
    channels: Literal[1, 3]
    maps: Widths

    @model_validator(mode="after")
    def _is_small(self) -> Self:
        _check((*self.maps, *self.head), self.parameters)
        height, width = self.start
        sizes = [maps * (height << step) * (width << step) for step, maps in enumerate((*self.maps, self.channels))]
        if max(sizes) > LIMITS.activations:
            raise ValueError("a layer has more activations than the limit")
        return self

    @property
    def start(self) -> tuple[int, int]:
        """Height and width of the smallest maps."""
        factor = 1 << len(self.maps)
        return -(-self.height // factor), -(-self.width // factor)

    @property
    def parameters(self) -> int:
        height, width = self.start
        first = _dense([self.latent + self.groups, self.maps[0] * height * width])
        return first + sum((16 * a + 1) * b for a, b in pairwise((*self.maps, self.channels))) + self.head_parameters

    @classmethod
    def for_schema(cls, schema: Schema, latent: int, maps: tuple[int, ...], head: tuple[int, ...]) -> Self:
        """Of a schema with an image."""
        assert schema.image is not None
        height, width, channels = schema.image.shape
        return cls(
            latent=latent,
            groups=len(schema.groups),
            classes=len(schema.target.categories),
            height=height,
            width=width,
            channels=1 if channels == 1 else 3,
            maps=maps,
            head=head,
        )

    def fits(self, schema: Schema) -> bool:
        shape = self.height, self.width, self.channels
        return schema.image is not None and self._joins(schema) and shape == schema.image.shape

    def body(self) -> nn.Module:
        return _Picture(self)


AnyArchitecture = Annotated[Architecture | ConvolutionalArchitecture, Field(discriminator="kind")]
ARCHITECTURES: TypeAdapter[Architecture | ConvolutionalArchitecture] = TypeAdapter(AnyArchitecture)


class _Picture(nn.Module):
    """(n, latent + groups) to logits (n, channels, height, width)."""

    def __init__(self, architecture: ConvolutionalArchitecture) -> None:
        super().__init__()
        self.architecture = architecture
        height, width = architecture.start
        self.first = nn.Linear(architecture.latent + architecture.groups, architecture.maps[0] * height * width)
        layers: list[nn.Module] = []
        for into, out in pairwise((*architecture.maps, architecture.channels)):
            layers += [nn.SiLU(), nn.ConvTranspose2d(into, out, 4, stride=2, padding=1)]
        self.rest = nn.Sequential(*layers)

    def forward(self, inputs: Tensor) -> Tensor:
        smallest = self.first(inputs).view(len(inputs), self.architecture.maps[0], *self.architecture.start)
        return self.rest(smallest)[:, :, : self.architecture.height, : self.architecture.width]


def perceptron(inputs: int, hidden: tuple[int, ...], outputs: int) -> nn.Sequential:
    """Linear layers with SiLU between them."""
    layers: list[nn.Module] = []
    for width in hidden:
        layers += [nn.Linear(inputs, width), nn.SiLU()]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, outputs))


def _dense(widths: list[int]) -> int:
    """Parameters of linear layers of these widths."""
    return sum((into + 1) * out for into, out in pairwise(widths))


def _check(widths: tuple[int, ...], parameters: int) -> None:
    if any(not 1 <= width <= LIMITS.layer_width for width in widths):
        raise ValueError("a layer is wider than the limit")
    if parameters > LIMITS.parameters:
        raise ValueError("the model has more parameters than the limit")
