"""Between PNG files, pixels and tensors. A picture in a canonical table is its pixels: height · width · channels bytes.

Every picture is decoded by Pillow under limits: its header is read before its pixels, so a small file that claims to be
a huge picture costs nothing.
"""

from __future__ import annotations

import io
import warnings
from contextlib import suppress

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from shared.errors import BadInput
from shared.limits import LIMITS
from shared.schema import ImageColumn

MODES = {"L": 1, "RGB": 3}
"""Pillow's modes that are taken, with their channels."""
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
"""Pillow's formats that are taken, whatever a file is called: some of the others start programs."""

Pixels = NDArray[np.uint8]


def read_image(data: bytes, name: str, side: int | None = None) -> Pixels:
    """The pixels of a picture file, (height, width, channels) uint8; with `side`, its centre resized to a square.

    It is turned as its EXIF orientation says, if that can be read.

    Raises `BadInput` naming `name` if it is no picture, is cut short, too large, one of several in the file, or of
    another mode than L and RGB of 8 bits.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # such as of damaged EXIF, which sound pictures may have
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
            if image.width * image.height > LIMITS.source_pixels:
                raise Image.DecompressionBombError
            if image.mode not in MODES:
                raise BadInput(
                    f"the picture is of mode {image.mode}", field=name, remedy="convert it to 8-bit grey (L) or RGB"
                )
            if any("RGB;16" in str(tile.args) for tile in getattr(image, "tile", ())):  # Pillow would keep half of it
                raise BadInput("the picture is of 16 bits a channel", field=name, remedy="convert it to 8-bit RGB")
            # beside a photo, MPO files hold smaller views of it
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise BadInput("the file holds several pictures", field=name, remedy="save each as a file of its own")
            image.load()
            with suppress(Exception):  # damaged EXIF says nothing of how a picture is turned
                image = ImageOps.exif_transpose(image)
    except BadInput:
        raise
    except (Image.DecompressionBombWarning, Image.DecompressionBombError):
        raise BadInput("the picture is larger than the limit", field=name, remedy="give a smaller one") from None
    except Exception:  # Pillow's decoders raise errors of many kinds on damaged files
        raise BadInput("not a whole picture", field=name, remedy="give the file again, or leave it out") from None
    if side is not None:
        image = centre(image, side)
    return np.asarray(image, np.uint8).reshape(image.height, image.width, MODES[image.mode])


def centre(image: Image.Image, side: int) -> Image.Image:
    """The largest square in the middle, resized to `side` x `side`."""
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    return image.crop((left, top, left + edge, top + edge)).resize((side, side), Image.Resampling.BILINEAR)


def centre_of(pixels: Pixels, side: int) -> Pixels:
    """The same of pixels, (height, width, channels)."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return np.asarray(centre(image, side), np.uint8).reshape(side, side, -1)


def as_png(pixels: Pixels) -> bytes:
    """(height, width, channels) uint8 as a PNG file; the same pixels give the same bytes."""
    buffer = io.BytesIO()
    Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).save(buffer, "PNG", compress_level=4)
    return buffer.getvalue()


def canonical_images(values: pd.Series, column: ImageColumn) -> pd.Series:
    """The bytes of a picture file (`FORMATS`) of every record as pixels. Raises `BadInput` naming the column and the
    row."""
    found = []
    for row, data in enumerate(values):
        name = f"{column.name}, row {row}"
        if not isinstance(data, bytes):
            raise BadInput("holds no picture", field=name, remedy="give the bytes of a PNG file, or remove the row")
        pixels = read_image(data, name)
        if pixels.shape != column.shape:
            raise BadInput("a picture of another size or mode than the rest", field=name, remedy="remove the row")
        found.append(pixels.tobytes())
    return pd.Series(found, index=values.index, dtype="object")


def restore_images(values: pd.Series, column: ImageColumn) -> pd.Series:
    """Pixels as PNG bytes."""
    shaped = (np.frombuffer(data, np.uint8).reshape(column.shape) for data in values)
    return pd.Series([as_png(pixels) for pixels in shaped], index=values.index, dtype="object")


def pixel_array(values: pd.Series, column: ImageColumn) -> Pixels:
    """Canonical pictures as one array, (n, height, width, channels)."""
    return np.frombuffer(b"".join(values), np.uint8).reshape(len(values), *column.shape)


def as_tensor(values: pd.Series, column: ImageColumn) -> Tensor:
    """Canonical pictures as a tensor, (n, channels, height, width) uint8."""
    return torch.from_numpy(pixel_array(values, column).transpose(0, 3, 1, 2).copy())


def as_column(pixels: Tensor) -> pd.Series:
    """(n, channels, height, width) uint8 as canonical pictures."""
    rows = pixels.permute(0, 2, 3, 1).contiguous().numpy()
    return pd.Series([row.tobytes() for row in rows], dtype="object")
