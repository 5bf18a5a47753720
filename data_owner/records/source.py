"""Where records come from: a file, a frame, pictures with their labels, or a data set that ships."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pyarrow as pa

from data_owner.datasets import colored_mnist, dataset, load
from data_owner.records.images import Skipped, read_labelled
from shared.errors import BadInput, together
from shared.table import read_table

NOT_OF_PARQUET = (pa.ArrowException, TypeError, ValueError)
"""What pandas raises of a column that Parquet has no type for."""


@dataclass(frozen=True)
class Source:
    """Records, what they are called, and the parts that columns play; `skipped`: pictures that were left out."""

    table: pd.DataFrame
    name: str
    sensitive: tuple[str, ...]
    target: str
    positive: str | None
    skipped: tuple[Skipped, ...] = ()


def source(
    data: Path | str | pd.DataFrame | None,
    images: Path | str | None,
    labels: Path | str | None,
    size: int | None,
    skip_bad_files: bool | None,
    dataset_name: str | None,
    sensitive: tuple[str, ...],
    target: str | None,
    positive: str | None,
) -> Source:
    """The records of the one source that is given. A data set that ships says itself what is not said of its columns.

    Raises `BadInput`, and `Unreachable` for a file that cannot be read.
    """
    if sum(given is not None for given in (data, images, dataset_name)) != 1:
        raise BadInput(
            "give one source of records",
            field="--data",
            remedy="use --data FILE, --images DIR --labels FILE or --dataset NAME",
        )
    if (images is None) != (labels is None):
        raise BadInput("pictures and labels go together", field="--labels", remedy="use --images DIR --labels FILE")
    if images is None and (size is not None or skip_bad_files is not None):
        raise BadInput(
            "are of pictures alone", field="--size and --skip-bad-files", remedy="use them with --images and --labels"
        )
    skipped: tuple[Skipped, ...] = ()
    if images is not None and labels is not None:
        found = read_labelled(Path(images), Path(labels), size=size, skip_bad_files=skip_bad_files)
        table, skipped, name = found.table, found.skipped, Path(images).resolve().name
    elif dataset_name is not None and dataset_name in colored_mnist.BIAS:
        sensitive, target = sensitive or (colored_mnist.SENSITIVE,), target or colored_mnist.TARGET
        table, name = colored_mnist.load(dataset_name), f"dataset:{dataset_name}"
    elif dataset_name is not None:
        known = dataset(dataset_name)
        sensitive = sensitive or known.sensitive[:1]
        target, positive = target or known.target, positive or known.positive
        table, name = load(dataset_name, sensitive), f"dataset:{dataset_name}"
    elif isinstance(data, (str, Path)):
        table, name = read_table(Path(data)), Path(data).name
    else:
        table, name = pd.DataFrame(data), "frame"
        if len(table) == 0:
            raise BadInput("the table has no rows", field="table", remedy="give a frame with rows")
    if target is None or not sensitive:
        raise BadInput(
            "the target and at least one sensitive column must be named",
            field="--target" if target is None else "--sensitive",
            remedy="give --target COL and --sensitive COL",
        )
    return Source(table, name, sensitive, target, positive, skipped)


def as_parquet(table: pd.DataFrame) -> bytes:
    """Records as a node keeps them. Raises `BadInput` naming every column of a type that Parquet does not have."""
    try:
        return table.to_parquet(index=False, compression="zstd")
    except NOT_OF_PARQUET:
        what, remedy = "is of a type that no file keeps, such as intervals", "make numbers or text of it"
        foreign = [name for name in table.columns if not _fits_parquet(table[[name]])]
        raise together([BadInput(what, field=name, remedy=remedy) for name in foreign]) from None


def _fits_parquet(column: pd.DataFrame) -> bool:
    try:
        column.to_parquet(index=False)
    except NOT_OF_PARQUET:
        return False
    return True
