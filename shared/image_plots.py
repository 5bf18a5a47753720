"""Grids of pictures for the reports: canonical tables in, SVG text with the pictures inside out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure as Canvas
from torch.nn.functional import one_hot

from shared.codec import group_positions, positions
from shared.generation import Synthesiser, pictures
from shared.image_codec import Pixels, pixel_array
from shared.plots import as_svg, short
from shared.report import Figure
from shared.schema import Schema

ACROSS = 12
MOST_ROWS = 10
CANDIDATES = 2000
"""Latents drawn to find one that is clearly of each class."""


def picture_grid(table: pd.DataFrame, schema: Schema, alt: str) -> Figure:
    """The first pictures of each class that has any in a row, named at its left; of at most ten classes."""
    assert schema.image is not None
    target = positions(schema.target, table[schema.target.name])
    names, rows = [], []
    for index in np.unique(target)[:MOST_ROWS]:
        members = np.flatnonzero(target == index)[:ACROSS]
        names.append(schema.target.categories[index])
        rows.append(list(pixel_array(table[schema.image.name].iloc[members], schema.image)))
    return _grid(rows, names, [], schema.target.name, alt)


def group_grid(synthesiser: Synthesiser, alt: str) -> Figure:
    """Classes down and groups across: one latent for each row, decoded for each group. The words say how much the
    groups differ."""
    schema = synthesiser.schema
    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        latents = synthesiser.latents(CANDIDATES, generator)
        certain = torch.softmax(synthesiser.decoder.label(latents), 1)
        chosen = latents[certain.argmax(0)][:MOST_ROWS]
    membership = one_hot(torch.arange(len(schema.groups)), len(schema.groups))
    rows = [
        list(pictures(synthesiser.decoder, z.expand(len(membership), -1), membership).permute(0, 2, 3, 1).numpy())
        for z in chosen
    ]
    groups = [group.label for group in schema.groups]
    apart = np.mean([np.ptp(row, axis=0) for row in rows])
    alt += f" Along a row the values of a pixel lie {apart:.0f} of 255 apart on average."
    return _grid(rows, schema.target.categories[:MOST_ROWS], groups, schema.target.name, alt)


def group_counts(table: pd.DataFrame, schema: Schema) -> list[tuple[str, ...]]:
    """Rows of a table: how many pictures each class has of each group."""
    target, group = positions(schema.target, table[schema.target.name]), group_positions(schema, table)
    counts = np.zeros((len(schema.target.categories), len(schema.groups)), np.int64)
    np.add.at(counts, (target, group), 1)
    return [
        (name, *(f"{count:,}" for count in row)) for name, row in zip(schema.target.categories, counts, strict=True)
    ]


def _grid(
    rows: Sequence[Sequence[Pixels]], names: Sequence[str], columns: Sequence[str], title: str, alt: str
) -> Figure:
    """Pictures in rows with a name at the left of each and, if given, above each column; in words their names too."""
    across = max(len(row) for row in rows)
    size = min(0.68, 8.4 / across)
    canvas = Canvas(figsize=(0.9 + size * across, 0.3 + size * len(rows)))
    panels = canvas.subplots(len(rows), across, squeeze=False, gridspec_kw={"wspace": 0.06, "hspace": 0.06})
    for line, (row, name) in enumerate(zip(rows, names, strict=True)):
        for place, axes in enumerate(panels[line]):
            axes.set_xticks([])
            axes.set_yticks([])
            axes.set_frame_on(False)
            if place < len(row):
                picture = row[place]
                axes.imshow(
                    picture[:, :, 0] if picture.shape[2] == 1 else picture,
                    cmap="gray",
                    vmin=0,
                    vmax=255,
                    interpolation="nearest",
                )
            if place == 0:
                axes.set_ylabel(f"{short(title)} {short(name)}", fontsize=7, rotation=0, ha="right", va="center")
            if line == 0 and columns:
                axes.set_title(short(columns[place]), fontsize=7)
    alt += f" Rows, {title}: {', '.join(names)}." + (f" Columns: {', '.join(columns)}." if columns else "")
    return as_svg(canvas, alt)
