"""Pictures read with their labels: what is taken, and every way in which a folder can be bad."""

import io
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from data_owner import steps
from data_owner.node import Node
from data_owner.records.images import LARGEST_SIDE, read_labelled
from shared.errors import BadInput, Fair4FreeError, Unreachable
from shared.image_codec import as_png, read_image
from shared.limits import LIMITS
from tests.pictures import SIDE, pictures, write_folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A sound folder of 30 pictures with labels.csv beside it."""
    write_folder(pictures(30), tmp_path)
    return tmp_path


def test_a_folder_a_zip_and_an_array_give_the_same_table(place: Path) -> None:
    original = pictures(30)
    with zipfile.ZipFile(place / "images.zip", "w") as archive:
        for file in (place / "images").iterdir():
            archive.write(file, f"images/{file.name}")
    array = np.stack([read_image(data, "picture") for data in original["image"]])
    np.save(place / "images.npy", array)
    for source in ("images", "images.zip", "images.npy"):
        labels = place / "labels.csv"
        if source == "images.npy":
            pd.read_csv(labels).drop(columns="file").to_csv(labels, index=False)
        found = read_labelled(place / source, labels)
        assert found.skipped == ()
        pd.testing.assert_frame_equal(found.table, original)


def test_pictures_are_cropped_at_the_centre_and_resized() -> None:
    wide = np.zeros((40, 100, 3), np.uint8)
    wide[:, 30:70] = 255
    found = read_image(as_png(wide), "wide", 20)
    assert found.shape == (20, 20, 3)
    assert (found == 255).all()


@pytest.mark.parametrize("size", [LIMITS.least_image_side - 1, LARGEST_SIDE + 1])
def test_a_size_that_no_model_takes_is_refused(size: int, place: Path) -> None:
    with pytest.raises(BadInput) as caught:
        read_labelled(place / "images", place / "labels.csv", size=size)
    assert caught.value.field == "--size"


def test_a_picture_is_turned_as_its_orientation_says() -> None:
    original = np.zeros((12, 20, 3), np.uint8)
    original[:, :10] = 255
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = 6  # to be turned a quarter clockwise
    Image.fromarray(original).save(file, "PNG", exif=exif)
    np.testing.assert_array_equal(read_image(file.getvalue(), "phone"), np.rot90(original, -1))


def test_a_file_of_postscript_starts_no_program() -> None:
    file = io.BytesIO()
    Image.new("RGB", (SIDE, SIDE)).save(file, "EPS")
    with patch("PIL.EpsImagePlugin.Ghostscript") as started, pytest.raises(BadInput, match="not a whole picture"):
        read_image(file.getvalue(), "picture.png")
    started.assert_not_called()


def test_a_sound_picture_with_damaged_exif_is_taken_as_it_stands() -> None:
    original = np.arange(12 * 20 * 3, dtype=np.uint8).reshape(12, 20, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    for damaged in (exif.tobytes()[:-9], b"Exif\0\0and no more"):
        file = io.BytesIO()
        Image.fromarray(original).save(file, "PNG", exif=damaged)
        np.testing.assert_array_equal(read_image(file.getvalue(), "phone"), original)


def truncated(place: Path) -> None:
    path = place / "images" / "0003.png"
    path.write_bytes(path.read_bytes()[:60])


def wrong_mode(place: Path) -> None:
    Image.new("CMYK", (SIDE, SIDE)).save(place / "images" / "0003.tif")
    rename(place, "0003.png", "0003.tif")


def sixteen_bits(place: Path) -> None:
    """A dark picture, of which the higher halves are all nought."""
    row = b"\0" + bytes((0, 200)) * 3 * SIDE
    header = SIDE.to_bytes(4) * 2 + bytes((16, 2, 0, 0, 0))
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(row * SIDE)), (b"IEND", b"")]
    chunks = [len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4) for kind, data in parts]
    (place / "images" / "0003.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


def several_pages(place: Path) -> None:
    page = Image.new("RGB", (SIDE, SIDE))
    page.save(place / "images" / "0003.tif", save_all=True, append_images=[page])
    rename(place, "0003.png", "0003.tif")


def other_size(place: Path) -> None:
    (place / "images" / "0003.png").write_bytes(as_png(np.zeros((SIDE, SIDE + 1, 3), np.uint8)))


def grey(place: Path) -> None:
    (place / "images" / "0003.png").write_bytes(as_png(np.zeros((SIDE, SIDE, 1), np.uint8)))


def no_picture(place: Path) -> None:
    (place / "images" / "0003.png").write_text("patient Zq81")


def no_label(place: Path) -> None:
    labels = pd.read_csv(place / "labels.csv")
    labels[labels["file"] != "0003.png"].to_csv(place / "labels.csv", index=False)


def no_file(place: Path) -> None:
    (place / "images" / "0003.png").unlink()


def label_outside(place: Path) -> None:
    rename(place, "0003.png", "../labels.csv")
    (place / "images" / "0003.png").unlink()


def labelled_twice(place: Path) -> None:
    labels = pd.read_csv(place / "labels.csv")
    pd.concat([labels, labels[3:4]]).to_csv(place / "labels.csv", index=False)


def rename(place: Path, old: str, new: str) -> None:
    labels = pd.read_csv(place / "labels.csv")
    labels.replace({"file": {old: new}}).to_csv(place / "labels.csv", index=False)
    if not new.startswith(".."):
        (place / "images" / old).unlink(missing_ok=True)


ONE_BAD = {
    "truncated": (truncated, "not a whole picture"),
    "wrong mode": (wrong_mode, "mode CMYK"),
    "16 bits a channel": (sixteen_bits, "16 bits"),
    "several pages": (several_pages, "several pictures"),
    "other size": (other_size, "most pictures are 12 x 12 in colour"),
    "grey among coloured": (grey, "in grey"),
    "no picture": (no_picture, "not a whole picture"),
    "no label": (no_label, "no label for this file"),
    "no file": (no_file, "no such file"),
    "outside of the folder": (label_outside, "no such file"),
    "labelled twice": (labelled_twice, "more than one row"),
}


@pytest.mark.parametrize("name", ONE_BAD)
def test_a_bad_file_is_named_and_refused_or_skipped_as_the_policy_says(name: str, place: Path) -> None:
    damage, said = ONE_BAD[name]
    damage(place)
    with pytest.raises(BadInput, match=said) as caught:
        read_labelled(place / "images", place / "labels.csv")
    assert "0003" in caught.value.field or caught.value.field == "../labels.csv"
    assert "--skip-bad-files" in caught.value.remedy
    assert "Zq81" not in str(caught.value)
    found = read_labelled(place / "images", place / "labels.csv", skip_bad_files=True)
    assert len(found.table) == 29
    assert {entry.name for entry in found.skipped} >= {caught.value.field}


def test_a_file_that_may_not_be_read_is_named_or_skipped(place: Path) -> None:
    read = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "0003.png":
            raise PermissionError
        return read(path)

    with patch.object(Path, "read_bytes", refused):
        with pytest.raises(BadInput, match="cannot be read") as caught:
            read_labelled(place / "images", place / "labels.csv")
        found = read_labelled(place / "images", place / "labels.csv", skip_bad_files=True)
    assert caught.value.field == "0003.png"
    assert [entry.name for entry in found.skipped] == ["0003.png"]


@pytest.mark.parametrize("inside", ["", "train/", "images/train/"])
@pytest.mark.parametrize("named", ["", "train/", "images/train/"])
def test_labels_name_files_from_any_folder_that_all_lie_in(inside: str, named: str, place: Path) -> None:
    if not inside.endswith(named):
        named = ""
    labels = pd.read_csv(place / "labels.csv")
    labels.assign(file=named + labels["file"]).to_csv(place / "labels.csv", index=False)
    (place / "top" / inside).parent.mkdir(parents=True, exist_ok=True)
    (place / "images").rename(place / "top" / inside)
    with zipfile.ZipFile(place / "top.zip", "w") as archive:
        for file in (place / "top").rglob("*.png"):
            archive.write(file, file.relative_to(place / "top"))
    for source in ("top", "top.zip"):
        found = read_labelled(place / source, place / "labels.csv")
        assert found.skipped == ()
        pd.testing.assert_frame_equal(found.table, pictures(30))


def test_what_is_in_a_hidden_folder_is_no_picture_of_ours(place: Path) -> None:
    (place / "images" / ".thumbnails").mkdir()
    (place / "images" / ".thumbnails" / "0003.png").write_bytes((place / "images" / "0003.png").read_bytes())
    with zipfile.ZipFile(place / "images.zip", "w") as archive:
        for file in (place / "images").rglob("*.png"):
            archive.write(file, file.relative_to(place))
    for source in ("images", "images.zip"):
        assert read_labelled(place / source, place / "labels.csv").skipped == ()


def test_an_error_of_ours_is_not_taken_for_a_damaged_file(place: Path) -> None:
    with (
        patch("data_owner.records.images.read_image", side_effect=ValueError("of ours")),
        pytest.raises(ValueError, match="of ours"),
    ):
        read_labelled(place / "images", place / "labels.csv")


def zipped(place: Path, compression: int = zipfile.ZIP_DEFLATED) -> Path:
    """The folder as an archive; picture 0003 alone is packed by `compression`."""
    with zipfile.ZipFile(place / "images.zip", "w") as archive:
        for file in sorted((place / "images").iterdir()):
            archive.write(file, file.name, compression if file.name == "0003.png" else zipfile.ZIP_STORED)
    return place / "images.zip"


def bzip2(place: Path) -> Path:
    return zipped(place, zipfile.ZIP_BZIP2)


def corrupt_member(place: Path) -> Path:
    path = zipped(place)
    start, _, end = path.read_bytes().partition(b"0003.png")
    path.write_bytes(start + b"0003.png" + b"\xff" * 8 + end[8:])
    return path


def twice(place: Path) -> Path:
    path = zipped(place)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("0003.png", as_png(np.zeros((SIDE, SIDE, 3), np.uint8)))
    return path


def understated(place: Path) -> Path:
    """A member of 200 MB that is said to have 100 bytes."""
    (place / "images" / "0003.png").unlink()
    path = zipped(place)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("0003.png", bytes(200_000_000))
        archive.getinfo("0003.png").file_size = 100
    return path


BAD_MEMBERS = {
    "bzip2": (bzip2, "otherwise than by deflate"),
    "corrupt": (corrupt_member, "cannot be read out of the archive"),
    "twice": (twice, "more than once"),
    "understated": (understated, "cannot be read out of the archive"),
}


@pytest.mark.parametrize("name", BAD_MEMBERS)
def test_a_bad_member_of_an_archive_is_named_or_skipped_and_costs_little(name: str, place: Path) -> None:
    damage, said = BAD_MEMBERS[name]
    archive = damage(place)
    tracemalloc.start()
    with pytest.raises(BadInput, match=said) as caught:
        read_labelled(archive, place / "labels.csv")
    found = read_labelled(archive, place / "labels.csv", skip_bad_files=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000
    assert caught.value.field == "0003.png"
    assert [entry.name for entry in found.skipped] == ["0003.png"]


def empty_folder(place: Path) -> None:
    for file in (place / "images").iterdir():
        file.unlink()


def moving_pictures(place: Path) -> None:
    empty_folder(place)
    Image.new("RGB", (SIDE, SIDE)).save(place / "images" / "0003.gif")


def no_folder(place: Path) -> None:
    empty_folder(place)
    (place / "images").rmdir()


def no_file_column(place: Path) -> None:
    pd.read_csv(place / "labels.csv").drop(columns="file").to_csv(place / "labels.csv", index=False)


def a_text_file(place: Path) -> None:
    no_folder(place)
    (place / "images").write_text("nothing")


def labels_of_other_files(place: Path) -> None:
    labels = pd.read_csv(place / "labels.csv")
    labels.assign(file="x" + labels["file"]).to_csv(place / "labels.csv", index=False)


def a_column_of_pictures(place: Path) -> None:
    pd.read_csv(place / "labels.csv").assign(image=1).to_csv(place / "labels.csv", index=False)


ALL_BAD: dict[str, tuple[Callable[[Path], None], type[Fair4FreeError], str]] = {
    "empty folder": (empty_folder, BadInput, "holds no picture"),
    "GIF alone": (moving_pictures, BadInput, "holds no picture"),
    "no folder": (no_folder, Unreachable, "cannot be read"),
    "no file column": (no_file_column, BadInput, "no column says which file"),
    "a text file": (a_text_file, BadInput, "neither a folder"),
    "labels of other files": (
        labels_of_other_files,
        BadInput,
        "commonest problem: there is a label but no such",
    ),
    "a column of pictures": (a_column_of_pictures, BadInput, "named as the pictures"),
}


@pytest.mark.parametrize("name", ALL_BAD)
def test_what_no_policy_can_skip_is_refused(name: str, place: Path) -> None:
    damage, error, said = ALL_BAD[name]
    damage(place)
    with pytest.raises(error, match=said) as caught:
        read_labelled(place / "images", place / "labels.csv", skip_bad_files=True)
    assert caught.value.field
    assert caught.value.remedy


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((30, 12, 12), np.float32),
        np.zeros((30, 12), np.uint8),
        np.zeros((30, 12, 12, 4), np.uint8),
        np.zeros((3_000_000, 0, 0), np.uint8),
    ],
)
def test_an_array_that_is_none_of_pictures_is_refused(array: np.ndarray, place: Path) -> None:
    np.save(place / "images.npy", array)
    with pytest.raises(BadInput, match="not an array of pictures"):
        read_labelled(place / "images.npy", place / "labels.csv")


def test_arrays_and_archives_from_outside_are_data_alone(place: Path) -> None:
    np.save(place / "objects.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    np.savez(place / "several.npz", np.zeros((30, 12, 12), np.uint8))
    (place / "several.npz").rename(place / "several.npy")
    (place / "empty.npy").touch()
    (place / "header.npy").write_bytes(b"\x93NUMPY\x01\x00\x02\x00{\n")
    (place / "broken.zip").write_bytes(b"PK\x03\x04 and no more")
    later = bytearray(zipped(place).read_bytes())
    later[later.index(b"PK\x01\x02") + 6] = 99  # the version of the format that is needed
    (place / "later.zip").write_bytes(later)
    for name in ("objects.npy", "several.npy", "empty.npy", "header.npy", "broken.zip", "later.zip"):
        with pytest.raises(BadInput, match="damaged"):
            read_labelled(place / name, place / "labels.csv")


@pytest.mark.parametrize("side", [9_000, 9_500, 60_000])  # beyond our limit, then those at which Pillow warns and stops
def test_a_small_file_that_claims_to_be_a_huge_picture_is_refused_before_it_is_decoded(side: int) -> None:
    honest = as_png(np.zeros((16, 16, 3), np.uint8))
    header = b"IHDR" + side.to_bytes(4) * 2 + honest[24:29]
    huge = honest[:12] + header + zlib.crc32(header).to_bytes(4) + honest[33:]
    with pytest.raises(BadInput, match="larger than the limit"):
        read_image(huge, "bomb")


def celeba(place: Path, faces: int = 120) -> tuple[Path, Path]:
    """A folder in CelebA's exact layout: 178 x 218 JPEG files and the list of attributes; one file is cut short."""
    folder, draw = place / "img_align_celeba", np.random.default_rng(0)
    folder.mkdir()
    lines = [str(faces), "Male Smiling Young"]
    for index in range(1, faces + 1):
        name = f"{index:06d}.jpg"
        Image.fromarray(draw.integers(0, 255, (218, 178, 3), np.uint8)).save(folder / name)
        lines.append(f"{name} {' '.join(f'{sign:2d}' for sign in draw.choice([-1, 1], 3))}")
    (folder / "000007.jpg").write_bytes((folder / "000007.jpg").read_bytes()[:5000])
    (place / "list_attr_celeba.txt").write_text("\n".join(lines) + "\n")
    return folder, place / "list_attr_celeba.txt"


def test_the_celeba_layout_is_read_cropped_to_64_and_its_bad_file_is_named_and_skipped(tmp_path: Path) -> None:
    images, labels = celeba(tmp_path)
    node = Node(tmp_path / "hospital")
    settings = steps.init(node.folder, images=images, labels=labels, sensitive=("Smiling",), target="Male")
    assert settings.columns["image"].shape == (64, 64, 3)
    assert settings.columns["Young"].kind == "exclude"
    assert (settings.training.criterion, settings.training.repair) == ("odds", 0.0)
    assert steps.skipped(node.folder) == ["000007.jpg"]
    prepared = steps.prepare(node, settings)
    assert len(prepared.training) + len(prepared.held_out) == 119
    assert prepared.schema.names == ["image", "Male", "Smiling"]
    with pytest.raises(BadInput, match="not a whole picture"):
        read_labelled(images, labels, skip_bad_files=False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2\nMale Young\n000001.jpg 1\n",
        "1\nMale\n000001.jpg yes\n",
        "1\nfile\n000001.jpg 1\n",
        "1\nimage\n000001.jpg 1\n",
    ],
)
def test_a_bad_list_of_attributes_is_refused_with_its_line(text: str, tmp_path: Path) -> None:
    images, labels = celeba(tmp_path, faces=8)
    labels.write_text(text)
    with pytest.raises(BadInput, match=r"as CelebA has it|name repeats|named as the pictures"):
        read_labelled(images, labels)


def test_a_record_without_a_picture_is_refused_with_its_row(tmp_path: Path) -> None:
    table = pictures(200)
    for bad, said in ((None, "holds no picture"), (table["image"][3][:50], "not a whole picture")):
        damaged = table.assign(image=[*table["image"][:7], bad, *table["image"][8:]])
        with pytest.raises(BadInput, match=said) as caught:
            steps.init(tmp_path / "hospital", data=damaged, target="shape", sensitive=("colour",))
        assert caught.value.field == "image, row 7"
        assert not (tmp_path / "hospital").exists()


def test_one_source_of_records_is_asked_for(place: Path) -> None:
    roles = {"target": "shape", "sensitive": ("colour",)}
    with pytest.raises(BadInput, match="one source"):
        steps.init(place / "hospital", images=place / "images", dataset_name="adult", **roles)
    with pytest.raises(BadInput, match="go together"):
        steps.init(place / "hospital", images=place / "images", **roles)
