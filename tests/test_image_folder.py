"""The analyst's folder of pictures: read as it was written, and refused by name where it cannot be."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest

from consumer.image_folder import LINEAGE, image_folder_writer, read_image_folder, read_lineage
from data_owner.learning import fitting
from shared.errors import BadInput, Unreachable
from shared.limits import LIMITS
from tests.pictures import pictures, write_folder

BAD_LABELS = {
    "another column of pictures": ({"image": 1}, "image"),
    "a blank cell": ({"file": ["", *["0001.png"] * 3]}, "file"),
    "a NUL in a name": ({"file": "00\x0001.png"}, "labels.csv"),
    "outside of the folder": ({"file": "../labels.csv"}, "labels.csv"),
    "a file beyond the limit": ({}, "0000.png"),
}


@pytest.mark.parametrize("name", BAD_LABELS)
def test_a_bad_folder_of_the_analyst_s_is_refused_by_name(
    name: str, image_records: fitting.Prepared, tmp_path: Path
) -> None:
    change, field = BAD_LABELS[name]
    folder, labels = write_folder(pictures(4), tmp_path)
    pd.read_csv(labels).assign(**change).to_csv(folder / "labels.csv", index=False)
    assert image_records.schema.image is not None
    with (
        patch("consumer.image_folder.LIMITS", LIMITS.__class__(source_bytes=LIMITS.source_bytes if change else 10)),
        pytest.raises(BadInput) as caught,
    ):
        read_image_folder(folder, image_records.schema.image, 4, seed=0)
    assert caught.value.field.endswith(field)
    assert caught.value.remedy


def test_files_that_are_larger_together_than_pictures_of_their_size_are_refused_before_they_are_kept(
    image_records: fitting.Prepared, tmp_path: Path
) -> None:
    column = image_records.schema.image
    assert column is not None
    folder, labels = write_folder(pictures(60), tmp_path)
    pd.read_csv(labels).assign(file="0000.png").to_csv(folder / "labels.csv", index=False)
    assert len(read_image_folder(folder, column, 60, seed=0)[0]) == 60
    os.truncate(folder / "0000.png", 20 * 2**20)
    with patch.object(Path, "read_bytes", side_effect=AssertionError), pytest.raises(BadInput, match="larger together"):
        read_image_folder(folder, column, 60, seed=0)


@pytest.mark.parametrize("said", ["[" * 200_000, "not JSON", "[]"], ids=["deep", "text", "list"])
def test_a_lineage_that_says_nothing_is_none(said: str, tmp_path: Path) -> None:
    (tmp_path / LINEAGE).write_text(said)
    assert read_lineage(tmp_path) == {}


def test_labels_of_pictures_keep_the_spaces_they_begin_with(image_records: fitting.Prepared, tmp_path: Path) -> None:
    column = image_records.schema.image
    assert column is not None
    table = pictures(4).assign(shape=[" bar", "bar", "cross ", '"']).astype({"shape": "str"})
    with image_folder_writer(tmp_path / "made", column, 0, {}) as writer:
        writer.write(table)
    found, _ = read_image_folder(tmp_path / "made", column, 4, seed=0)
    assert found["shape"].tolist() == table["shape"].tolist()


def test_names_of_files_keep_their_zeros(image_records: fitting.Prepared, tmp_path: Path) -> None:
    folder, labels = write_folder(pictures(4), tmp_path)
    for file in folder.iterdir():
        file.rename(file.with_suffix(""))
    bare = pd.read_csv(labels)
    bare.assign(file=bare["file"].str.removesuffix(".png")).to_csv(folder / "labels.csv", index=False)
    assert image_records.schema.image is not None
    found, _ = read_image_folder(folder, image_records.schema.image, 4, seed=0)
    pd.testing.assert_frame_equal(found, pictures(4))


def test_of_a_large_folder_sorted_by_class_every_class_is_read(image_records: fitting.Prepared, tmp_path: Path) -> None:
    table = pictures(120).sort_values("shape", ignore_index=True)
    folder, labels = write_folder(table, tmp_path)
    labels.rename(folder / "labels.csv")
    assert image_records.schema.image is not None
    found, held = read_image_folder(folder, image_records.schema.image, 60, seed=0)
    assert (len(found), held) == (60, 120)
    assert set(found["shape"]) == set(table["shape"])
    whole, _ = read_image_folder(folder, image_records.schema.image, 120, seed=0)
    pd.testing.assert_frame_equal(whole, table)


def test_a_folder_that_cannot_be_written_says_why(image_records: fitting.Prepared, tmp_path: Path) -> None:
    assert image_records.schema.image is not None
    with (
        patch.object(Path, "write_bytes", side_effect=OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))),
        pytest.raises(Unreachable, match="no space left"),
        image_folder_writer(tmp_path / "made", image_records.schema.image, 0, {}) as writer,
    ):
        writer.write(image_records.training.iloc[:4])
    assert not list(tmp_path.iterdir())


def a_pipe(place: Path) -> None:
    os.mkfifo(place)


def links_in_a_circle(place: Path) -> None:
    place.symlink_to(place)


def a_folder(place: Path) -> None:
    place.mkdir()


def nothing(place: Path) -> None:
    assert not place.exists()


def a_link_to_an_endless_file(place: Path) -> None:
    place.symlink_to("/dev/zero")


def too_long_a_file(place: Path) -> None:
    place.touch()
    os.truncate(place, 8 * 2**20)


NO_FILES = [a_pipe, links_in_a_circle, a_folder, nothing, a_link_to_an_endless_file]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", NO_FILES)
def test_a_label_of_what_is_no_file_in_the_folder_is_refused_as_the_owner_s_is(
    damage: Callable[[Path], None], image_records: fitting.Prepared, tmp_path: Path
) -> None:
    column = image_records.schema.image
    assert column is not None
    folder, labels = write_folder(pictures(4), tmp_path)
    labels.rename(folder / "labels.csv")
    (folder / "0002.png").unlink()
    damage(folder / "0002.png")
    with pytest.raises(BadInput, match="there is a label but no such file") as caught:
        read_image_folder(folder, column, 4, seed=0)
    assert caught.value.field == "0002.png"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("damage", [*NO_FILES, too_long_a_file])
def test_a_lineage_that_is_no_short_file_in_the_folder_is_none(damage: Callable[[Path], None], tmp_path: Path) -> None:
    damage(tmp_path / LINEAGE)
    with patch.object(json, "loads", side_effect=AssertionError):
        assert read_lineage(tmp_path) == {}
