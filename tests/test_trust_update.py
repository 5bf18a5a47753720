"""What a fetch keeps and when, and how much it takes in: the consumer's own client against the in-memory owner."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from consumer import fetching
from consumer.study import Study
from protocol.artefacts import Artefact
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.refusals import EndlessData, Freeze
from protocol.root import KeyRole
from shared.errors import Unreachable, VerificationFailure
from shared.limits import LIMITS
from tests.owner_in_memory import KEYS, NOW, Owner, Stub, fetch, root_of, study_at, trusting


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return study_at(tmp_path / "study", trusting())


def rotated(times: int) -> Owner:
    return Owner(roots=[(root_of(KEYS, version=number), KEYS[KeyRole.ROOT]) for number in range(2, times + 2)])


def test_a_newer_root_is_kept_though_what_follows_is_refused(study: Study) -> None:
    owner = rotated(2)
    with pytest.raises(Freeze):
        fetch(replace(owner, fresh_until=NOW), study)
    assert study.last_seen().trusted_root() == owner.roots[-1][0]
    assert study.last_seen().freshness == 0


def test_more_roots_than_are_followed_at_once_are_followed_by_the_next_fetch(study: Study) -> None:
    owner = rotated(LIMITS.root_rotations + 1)
    with pytest.raises(Freeze, match="goes on where this stopped"):
        fetch(owner, study)
    fetch(owner, study)
    assert study.last_seen().trusted_root() == owner.roots[-1][0]


def test_a_release_is_kept_only_when_its_approval_is_proved(study: Study) -> None:
    owner = Owner(edits={"approval": lambda data: data.replace(b'"by":"Ada"', b'"by":"Eve"')})
    with pytest.raises(VerificationFailure):
        fetch(owner, study)
    assert (study.last_seen().freshness, study.last_seen().release) == (owner.fresh_at, 0)
    assert not study.release(3).exists()


def test_a_study_is_fetched_into_by_one_command_at_a_time(study: Study) -> None:
    with study.locked(), pytest.raises(Unreachable, match="another run holds it"):
        fetch(rotated(1), study)
    assert study.last_seen() == trusting()
    fetch(rotated(1), study)


def test_a_study_that_cannot_be_locked_says_so(study: Study) -> None:
    (study.folder / "last_seen.lock").mkdir()
    with pytest.raises(Unreachable, match="cannot be written"):
        fetch(Owner(), study)


def test_an_artefact_without_an_end_is_cut_off_within_a_chunk_of_its_announced_length() -> None:
    sent = 0

    class Endless(Stub):
        def StreamArtefact(self, request: wire.StreamArtefactRequest, timeout: float) -> Iterator[wire.Chunk]:  # noqa: N802
            nonlocal sent
            while sent < 100 * len(chunk):
                sent += len(chunk)
                yield wire.Chunk(data=chunk)

    chunk, manifest = b"x" * 7, Owner().manifest()
    with pytest.raises(EndlessData):
        fetching._receive(Endless(Owner()), manifest, Artefact.DECODER)
    assert sent <= manifest.artefacts[Artefact.DECODER].length + len(chunk)
