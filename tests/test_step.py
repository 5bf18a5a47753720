"""The steps as a program calls them: what is given is what they name, or it is our error that says so."""

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest
import torch

import consumer
import data_owner
from data_owner import release
from data_owner.node import Node
from shared.errors import BadInput, Unreachable
from shared.torch_defaults import torch_defaults

WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "no path": (lambda path: consumer.fetch(5), "path"),  # type: ignore[arg-type]
    "a version in words": (lambda path: consumer.fetch(path, version="newest"), "version"),  # type: ignore[arg-type]
    "part of a row": (lambda path: consumer.generate(path, rows=1.5), "rows"),  # type: ignore[arg-type]
    "no rows said": (lambda path: consumer.generate(path), "rows"),  # type: ignore[call-arg]
    "own records of no type": (lambda path: consumer.audit(path, real=5), "real"),  # type: ignore[arg-type]
    "records of no type": (lambda path: data_owner.init(path, data=5), "data"),  # type: ignore[arg-type]
    "no sensitive column": (lambda path: data_owner.init(path, sensitive=None), "sensitive"),  # type: ignore[arg-type]
    "targets": (lambda path: data_owner.init(path, target=["died"]), "target"),  # type: ignore[arg-type]
    "part of a class": (lambda path: data_owner.init(path, positive=0.5), "positive"),  # type: ignore[arg-type]
    "nobody": (lambda path: data_owner.approve(path, by=None), "by"),  # type: ignore[arg-type]
    "a flag for a version": (lambda path: consumer.fetch(path, version=True), "version"),
    "rows in letters": (lambda path: consumer.generate(path, rows="1_000"), "rows"),  # type: ignore[arg-type]
    "a flag in letters": (lambda path: consumer.generate(path, rows=9, balanced="no"), "balanced"),  # type: ignore[arg-type]
    "a flag for a budget": (lambda path: data_owner.init(path, epsilon=True), "epsilon"),
    "a budget in letters": (lambda path: data_owner.init(path, epsilon="nan"), "epsilon"),  # type: ignore[arg-type]
    "letters in bytes": (lambda path: data_owner.approve(path, by=b"Ada"), "by"),  # type: ignore[arg-type]
    "shadows in words": (lambda path: data_owner.attack(path, shadows="all"), "shadows"),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("wrong", WRONG)
def test_an_argument_of_another_type_is_refused_by_its_name(wrong: str, tmp_path: Path) -> None:
    call, name = WRONG[wrong]
    with pytest.raises(BadInput) as caught:
        call(tmp_path / "place")
    assert caught.value.field == name
    assert caught.value.remedy.startswith("see help(")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [None, True, 1.5, "x", -1, 2**64 - 2, 2**70, np.int64(-1), np.float64(3.0)])
@pytest.mark.parametrize("step", [consumer.distill, lambda path, **named: consumer.generate(path, rows=9, **named)])
def test_what_is_no_seed_is_refused_before_a_study_is_opened(
    step: Callable[..., object], seed: object, tmp_path: Path
) -> None:
    with pytest.raises(BadInput) as caught:
        step(tmp_path, seed=seed)
    assert caught.value.field in ("seed", "--seed")


@pytest.mark.parametrize("number", [np.int64(3), np.uint64(2**63 + 1)])
def test_a_number_of_numpy_is_as_good_a_seed(number: int, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not a study"):
        consumer.generate(tmp_path, rows=np.int64(9), seed=number)  # type: ignore[arg-type]


def test_a_step_and_its_documentation_are_those_of_the_module() -> None:
    from consumer import steps

    assert consumer.generate is consumer.generate
    assert consumer.generate.__doc__ == steps.generate.__doc__


def test_releases_that_may_not_be_listed_are_not_none_at_all(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(place: Path) -> NoReturn:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))

    monkeypatch.setattr(os, "listdir", refused)
    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(Unreachable, match="permission denied") as caught:
        release.latest(node)
    assert caught.value.field == str(node.releases)


@pytest.mark.parametrize("reason", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("step", [data_owner.train, consumer.distill])
def test_what_the_file_system_refuses_is_out_of_reach(
    step: Callable[[Path], object], reason: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path) -> bool:
        raise OSError(reason, os.strerror(reason), str(path))

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(Unreachable, match=os.strerror(reason).lower()) as caught:
        step(tmp_path)
    assert caught.value.field.startswith(str(tmp_path))
    assert caught.value.remedy


def test_steps_that_overlap_give_back_the_type_that_the_first_of_them_found() -> None:
    torch.set_default_dtype(torch.float64)
    try:
        first, second = torch_defaults(), torch_defaults()
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert torch.get_default_dtype() is torch.float32, "the second runs on"
        second.__exit__(None, None, None)
        assert torch.get_default_dtype() is torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
