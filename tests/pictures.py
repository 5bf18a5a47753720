"""Small pictures of three shapes in two colours: as a table, and as a folder with labels."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from data_owner.learning.teacher import IMAGE_TEACHER, TeacherSettings
from data_owner.records.infer import infer
from data_owner.settings import OwnerSettings
from shared.image_codec import as_png

SIDE = 12
QUICK_CLASSIFIER = 150
"""Steps of a classifier of such pictures."""

SHAPES, COLOURS = ("bar", "cross", "post"), ("green", "red")
QUICK_IMAGES: TeacherSettings = replace(
    IMAGE_TEACHER, steps=400, batch=64, learning_rate=1e-2, encoder_hidden=(32,), maps=(8,), head=(16,), latent=4
)


def shape(which: int, colour: int, draw: np.random.Generator) -> np.ndarray:
    """A bar, cross or post somewhere near the middle, (SIDE, SIDE, 3), with some noise."""
    grey = np.zeros((SIDE, SIDE))
    row, column = draw.integers(4, 8, 2)
    if which in (0, 1):
        grey[row, 1:-1] = 1.0
    if which in (1, 2):
        grey[1:-1, column] = 1.0
    found = np.zeros((SIDE, SIDE, 3))
    found[:, :, 1 - colour] = grey * draw.uniform(0.7, 1.0)
    return (255 * np.clip(found + draw.uniform(0, 0.05, found.shape), 0, 1)).astype(np.uint8)


def pictures(rows: int = 400, seed: int = 0, bias: float = 0.8) -> pd.DataFrame:
    """PNG pictures, colours that lean on the shape, and shapes."""
    draw = np.random.default_rng(seed)
    which = draw.integers(0, 3, rows)
    colour = np.where(draw.random(rows) < bias, which % 2, 1 - which % 2)
    return pd.DataFrame(
        {
            "image": pd.Series(
                [as_png(shape(*pair, draw)) for pair in zip(which, colour, strict=True)], dtype="object"
            ),
            "colour": pd.Series(np.asarray(COLOURS)[colour], dtype="str"),
            "shape": pd.Series(np.asarray(SHAPES)[which], dtype="str"),
        }
    )


def picture_settings(table: pd.DataFrame, **policy: object) -> OwnerSettings:
    found = infer(table, name="small", source="frame", target="shape", sensitive=("colour",))
    return found.model_copy(update={"policy": found.policy.model_copy(update=policy)})


def write_folder(table: pd.DataFrame, place: Path) -> tuple[Path, Path]:
    """The pictures as files and the labels as CSV; returns both places."""
    images, labels = place / "images", place / "labels.csv"
    images.mkdir()
    names = [f"{row:04d}.png" for row in range(len(table))]
    for name, data in zip(names, table["image"], strict=True):
        (images / name).write_bytes(data)
    table.drop(columns="image").assign(file=names).to_csv(labels, index=False)
    return images, labels
