"""`init` of pictures: what is refused before anything is written, and what is told."""

import os
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from data_owner import steps
from data_owner.datasets import codebook
from shared.errors import BadInput
from shared.limits import LIMITS
from tests.pictures import pictures, write_folder


def test_a_name_that_is_no_utf8_is_told_in_what_was_skipped(tmp_path: Path) -> None:
    images, labels = write_folder(pictures(200), tmp_path)
    (images / os.fsdecode(b"M\xfcller.png")).write_bytes(b"")
    roles = {"target": "shape", "sensitive": ("colour",)}
    with pytest.raises(BadInput, match="no label") as caught:
        steps.init(tmp_path / "hospital", images=images, labels=labels, **roles)
    str(caught.value).encode()
    steps.init(tmp_path / "hospital", images=images, labels=labels, skip_bad_files=True, **roles)
    assert steps.skipped(tmp_path / "hospital") == ["M\\udcfcller.png"]


def test_records_that_train_would_not_read_are_refused_before_a_node_is_made(tmp_path: Path) -> None:
    images, labels = write_folder(pictures(200), tmp_path)
    with (
        patch("data_owner.steps.LIMITS", LIMITS.__class__(table_bytes=1000)),
        pytest.raises(BadInput, match="larger than the limit") as caught,
    ):
        steps.init(tmp_path / "node", images=images, labels=labels, target="shape", sensitive=("colour",))
    assert "--size" in caught.value.remedy
    assert not (tmp_path / "node").exists()


def test_pictures_in_the_folder_at_hand_are_called_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = write_folder(pictures(200), tmp_path)
    monkeypatch.chdir(images)
    found = steps.init(tmp_path / "node", images=".", labels=labels, target="shape", sensitive=("colour",))
    assert found.source == "images"


@pytest.mark.parametrize("option", [{"size": 16}, {"skip_bad_files": True}])
def test_options_of_pictures_are_refused_without_any(option: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="of pictures alone"):
        steps.init(tmp_path / "node", dataset_name="compas", **option)


def test_a_budget_for_pictures_is_refused_before_a_node_is_made(tmp_path: Path) -> None:
    images, labels = write_folder(pictures(), tmp_path)
    with pytest.raises(BadInput, match="privacy is for tables"):
        steps.init(
            tmp_path / "node",
            images=images,
            labels=labels,
            target="shape",
            positive=str(pictures()["shape"].iloc[0]),
            sensitive=("colour",),
            epsilon=1.0,
        )
    assert not (tmp_path / "node").exists()
    assert codebook("colored-mnist") == {}
