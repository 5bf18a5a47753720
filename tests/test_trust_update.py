"""What a fetch keeps and when, and how much it takes in: the consumer's own client against the in-memory owner."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import grpc
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consumer import channel, enrolment, fetching, trust_update
from consumer.study import Study
from protocol.artefacts import Artefact
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.invitation import Invitation
from protocol.refusals import EndlessData, Expired, FastForward, Freeze, UnderThreshold
from protocol.root import KeyRole, Root, SignedRoot
from protocol.signing import Kind, sign
from protocol.trust import LastSeen
from shared import folder, keyring
from shared.errors import BadInput, PolicyRefusal, Unreachable, VerificationFailure
from shared.limits import LIMITS
from tests.owner_in_memory import KEYS, NOW, Owner, Stub, fetch, invitation, key, root_of, study_at, trusting


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


def test_a_clock_that_is_behind_what_was_seen_makes_no_expired_release_valid(study: Study) -> None:
    fetch(Owner(), study)
    expired = NOW + 1000
    with pytest.raises(Expired):
        fetch(Owner(fresh_at=expired + 900, fresh_until=expired + 2000), study, now=expired + 1000)
    with pytest.raises(FastForward, match="last seen was signed in the future"):
        fetching.verify(study, expired - 1)


def test_who_holds_a_release_that_was_recalled_is_told_so(study: Study) -> None:
    fetch(replace(Owner(), version=4), study, version=4)
    with pytest.raises(PolicyRefusal, match="no longer serves release 4, which this study holds") as refused:
        fetch(Owner(), study, version=None)
    assert "by telephone" in refused.value.remedy
    assert study.last_seen().release == 4


@pytest.mark.parametrize(("beside", "remedy"), [(False, "give the one it was sealed with"), (True, "unset FAIR4FREE")])
def test_a_witness_key_that_cannot_be_opened_is_told_before_anything_changes(
    study: Study, beside: bool, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetch(Owner(), study)
    if beside:
        folder.write(study.witness_key.with_name(keyring.BESIDE), b"the study's")
    keyring.create(study.witness_key, key("witness"), b"the study's")
    monkeypatch.setenv(keyring.VARIABLE, "the node's")
    before = study.last_seen()
    with (
        patch("consumer.channel.mutual", nullcontext),
        patch("consumer.fetching.service.ReleaseServiceStub", lambda opened: Stub(replace(Owner(), version=4))),
        pytest.raises(BadInput, match="passphrase is not this key's") as caught,
    ):
        fetching.fetch(study, 4, NOW)
    assert caught.value.remedy.startswith(remedy)
    assert study.last_seen() == before


def test_no_passphrase_is_blamed_for_a_damaged_witness_key(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write(study.witness_key.with_name(keyring.BESIDE), b"the study's")
    folder.write(study.witness_key, b"")
    monkeypatch.setenv(keyring.VARIABLE, "the node's")
    with pytest.raises(BadInput, match="not a sealed key") as caught:
        trust_update.witness_key(study)
    assert caught.value.remedy == "restore it from its backup, or start a new study"


def invitation_to(root: SignedRoot) -> bytes:
    return invitation(trusting().model_copy(update={"roots": (root,)})).to_bytes()


def signed(owner: Owner, by: str = KeyRole.ROOT) -> SignedRoot:
    document = owner.roots[-1][0].to_bytes()
    return SignedRoot(document=document.decode(), signatures=sign(Kind.ROOT, document, [key(by)]).to_bytes().decode())


def test_an_impostors_release_is_not_verified_under_the_hospitals_own_invitation(tmp_path: Path) -> None:
    keys = {role: [key(f"impostor {role}")] for role in KeyRole}
    impostor = Owner(keys=keys, signers=keys)
    study = study_at(tmp_path / "study", trusting(impostor))
    fetch(impostor, study)
    fetching.verify(study, NOW)
    study.invitation_file.write_bytes(invitation_to(trusting().roots[0]))
    for use in (lambda: fetching.verify(study, NOW), lambda: fetch(impostor, study)):
        with pytest.raises(UnderThreshold, match="do not lead from the one in the study's invitation"):
            use()


def test_a_root_that_the_one_before_did_not_sign_is_not_trusted_for_standing_in_a_study(study: Study) -> None:
    fetch(Owner(), study)
    seen = study.last_seen()
    study.remember(seen.model_copy(update={"roots": (*seen.roots, signed(rotated(1)))}))
    fetching.verify(study, NOW)
    study.remember(seen.model_copy(update={"roots": (*seen.roots, signed(rotated(1), by="mallory"))}))
    with pytest.raises(UnderThreshold, match="do not lead"):
        fetching.verify(study, NOW)


def test_a_study_is_verified_from_whichever_of_the_followed_roots_its_invitation_names(tmp_path: Path) -> None:
    first = Owner(root_expires=NOW)  # only the last root of a chain has to be in date
    owner, study = replace(rotated(2), root_expires=NOW), study_at(tmp_path / "study", trusting(first))
    fetch(owner, study)
    followed = study.last_seen().roots
    assert [Root.from_bytes(each.document.encode()).version for each in followed] == [1, 2, 3]
    for each in followed:
        study.invitation_file.write_bytes(invitation_to(each))
        assert fetching.verify(study, NOW).release.manifest.version == 3
        fetch(owner, study)


def test_an_invitation_to_a_root_that_the_study_followed_or_may_yet_follow_brings_its_addresses_alone(
    study: Study, tmp_path: Path
) -> None:
    kept, offered = study.invitation(), tmp_path / "invitation.json"
    moved = {"address": "localhost:3", "enrolment_address": "localhost:4"}

    def accepted(root: SignedRoot, **change: str) -> Invitation:
        offered.write_bytes(Invitation.from_bytes(invitation_to(root)).model_copy(update=moved | change).to_bytes())
        return enrolment._accepted(study, offered)

    fetch(rotated(2), study)
    *followed, unseen = *study.last_seen().roots, signed(rotated(3))
    for root in (*followed, unseen):
        assert accepted(root) == kept.model_copy(update=moved), "what was verified leads back to the first root"
    another = signed(Owner(roots=[(root_of(NEW_LOG, version=3), KEYS[KeyRole.ROOT])]))
    for root, change in ((another, {}), (unseen, {"certificate_authority": "another"})):
        with pytest.raises(VerificationFailure, match="names other keys") as refused:
            accepted(root, **change)
        assert refused.value.remedy.startswith("run `fair4free enrol` without it")


def test_a_study_follows_no_more_roots_than_it_can_read_again() -> None:
    root, another = *trusting().roots, rotated(1).roots[0][0].to_bytes()
    full = trusting().model_copy(update={"roots": (root,) * LIMITS.roots_followed})
    with pytest.raises(EndlessData, match="more roots than a study follows"):
        full.after_rotation(another, root.signatures.encode())


NEW_LOG = {**KEYS, KeyRole.LOG: [key("new log")]}
NEW_RELEASE = {**KEYS, KeyRole.RELEASE: [key("new release")]}


def rotated_to(keys: dict[KeyRole, list[Ed25519PrivateKey]], fresh_until: int = NOW + 500) -> Owner:
    return Owner(roots=[(root_of(keys, version=2), KEYS[KeyRole.ROOT])], signers=keys, fresh_until=fresh_until)


def test_a_release_stays_verified_when_the_logs_key_is_replaced_and_the_next_fetch_fails(study: Study) -> None:
    fetch(Owner(), study)
    with pytest.raises(Freeze):
        fetch(rotated_to(NEW_LOG, fresh_until=NOW), study)
    assert study.last_seen().trusted_root().version == 2
    assert fetching.verify(study, NOW).approval.by == "Ada"
    fetch(rotated_to(NEW_LOG), study)
    assert fetching.verify(study, NOW).approval.by == "Ada"


class RotatesBeforeItsProof(Owner):
    """Installs a root with a new key of the log after the freshness statement and before the proof, once.

    `installs` is what it installs.
    """

    installs: Owner
    proofs: int = 0

    def checkpoint(self) -> bytes:
        self.proofs += 1
        self.roots, self.signers = self.installs.roots, self.installs.signers
        return super().checkpoint()


def test_a_root_installed_during_a_fetch_is_followed_and_raises_no_alarm(study: Study) -> None:
    fetch(Owner(), study)
    owner = RotatesBeforeItsProof()
    owner.installs = rotated_to(NEW_LOG)
    fetch(owner, study)
    assert study.last_seen().trusted_root().version == owner.proofs == 2
    assert fetching.verify(study, NOW).approval.by == "Ada"


@pytest.mark.parametrize(
    ("installs", "proofs"),
    [
        pytest.param(Owner(signers=NEW_LOG), 1, id="no newer root"),
        pytest.param(
            Owner(roots=[(root_of(NEW_LOG, version=2), [key("mallory")])], signers=NEW_LOG), 1, id="another's root"
        ),
        pytest.param(replace(rotated(1), signers=NEW_LOG), 2, id="a newer root of the same keys"),
    ],
)
def test_a_forged_checkpoint_is_refused_whatever_comes_with_it(study: Study, installs: Owner, proofs: int) -> None:
    fetch(Owner(), study)
    before = study.last_seen().checkpoint
    owner = RotatesBeforeItsProof()
    owner.installs = installs
    with pytest.raises(UnderThreshold, match="checkpoint") as refused:
        fetch(owner, study)
    assert refused.value.remedy.endswith("keep the checkpoint as evidence")
    assert owner.proofs == proofs
    assert study.last_seen().checkpoint == before


def test_an_owner_that_cannot_be_asked_for_a_newer_root_does_not_hide_its_forgery(study: Study) -> None:
    class Vanishes(Stub):
        def GetRoot(self, request: wire.GetRootRequest, timeout: float) -> wire.GetRootResponse:  # noqa: N802
            if study.last_seen().freshness:
                raise Cut
            return super().GetRoot(request, timeout)

    with patch("tests.owner_in_memory.Stub", Vanishes), pytest.raises(UnderThreshold):
        fetch(Owner(signers=NEW_LOG), study)


def test_a_proof_of_the_log_counts_only_under_a_root_that_leads_from_the_invitation(study: Study) -> None:
    fetch(Owner(), study)
    with pytest.raises(Freeze):
        fetch(rotated_to(NEW_LOG, fresh_until=NOW), study)
    study.invitation_file.write_bytes(invitation_to(study.last_seen().roots[-1]))
    with pytest.raises(UnderThreshold, match="any root since the invitation") as refused:
        fetching.verify(study, NOW)
    assert refused.value.remedy.startswith("fetch again")
    fetch(rotated_to(NEW_LOG), study)
    fetching.verify(study, NOW)


def test_what_a_replaced_release_key_signed_is_no_longer_used(study: Study) -> None:
    fetch(Owner(), study)
    with pytest.raises(Freeze):
        fetch(rotated_to(NEW_RELEASE, fresh_until=NOW), study)
    with pytest.raises(BadInput, match="nothing was fetched yet"):
        fetching.verify(study, NOW)
    study.remember(study.last_seen().model_copy(update={"release": 3, "manifest_sha256": Owner().manifest().digest}))
    with pytest.raises(UnderThreshold):
        fetching.verify(study, NOW)


@pytest.mark.parametrize(
    "damage",
    [
        lambda seen: seen.to_bytes() + b"\n",
        lambda seen: b"",
        lambda seen: b'{"root":"{}","root_signatures":"{}"}',  # as it was before the roots in between were kept
        lambda seen: seen.model_copy(update={"checkpoint": "rubbish"}).to_bytes(),
        lambda seen: seen.model_copy(update={"roots": (SignedRoot(document="{}", signatures="{}"),)}).to_bytes(),
    ],
    ids=["a newline at the end", "empty", "an older version's", "the checkpoint", "the root"],
)
def test_a_damaged_last_seen_is_said_to_be_damaged_with_advice_that_helps(
    damage: Callable[[LastSeen], bytes], study: Study
) -> None:
    study.last_seen_file.write_bytes(damage(study.last_seen()))
    for use in (lambda: fetching.verify(study, NOW), lambda: fetch(Owner(), study)):
        with pytest.raises(BadInput, match="is damaged") as refused:
            use()
        assert refused.value.field == "last_seen.json"
        assert refused.value.remedy == "restore it from a backup, or start a new study"


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


class Cut(grpc.RpcError):
    """What a broken connection looks like."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE


@dataclass
class Clock:
    """Stands in for the time of `consumer.channel`; `waits` are those between attempts, in seconds."""

    now: float = 0.0
    waits: list[float] = field(default_factory=list)

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(channel, "time", found)
    monkeypatch.setattr(channel, "LIMITS", LIMITS)
    return found


@dataclass(frozen=True)
class CutStub(Stub):
    """An owner on a line that is cut `after` so many bytes of every stream, each of which takes `seconds`."""

    clock: Clock
    after: int
    seconds: float = 0.0

    def StreamArtefact(self, request: wire.StreamArtefactRequest, timeout: float) -> Iterator[wire.Chunk]:  # noqa: N802
        whole = b"".join(chunk.data for chunk in super().StreamArtefact(request, timeout))
        self.clock.now += self.seconds
        yield wire.Chunk(data=whole[: self.after])
        if len(whole) > self.after:
            raise Cut


def test_a_line_that_is_cut_often_is_good_enough_as_long_as_more_arrives_each_time(clock: Clock) -> None:
    owner = Owner()
    whole = owner.artefacts[Artefact.DECODER]
    assert len(whole) > 3 * LIMITS.attempts
    stub = CutStub(owner, clock, after=3)
    assert fetching._receive(stub, owner.manifest(), Artefact.DECODER) == whole
    assert set(clock.waits) == {LIMITS.first_wait_seconds}


def test_an_owner_that_comes_back_within_a_quarter_of_a_minute_is_waited_for_and_no_longer(clock: Clock) -> None:
    owner = Owner()
    with pytest.raises(Cut):
        fetching._receive(CutStub(owner, clock, after=0), owner.manifest(), Artefact.DECODER)
    assert 15 < clock.now == sum(clock.waits) < 16


def test_an_owner_that_sends_a_byte_at_a_time_keeps_nobody_for_ever(clock: Clock) -> None:
    owner = Owner()
    stub = CutStub(owner, clock, after=1, seconds=LIMITS.stream_seconds)
    with pytest.raises(Cut):
        fetching._receive(stub, owner.manifest(), Artefact.DECODER)
    assert clock.now <= LIMITS.transfer_seconds + LIMITS.stream_seconds + LIMITS.first_wait_seconds


def test_every_call_of_a_fetch_is_made_again_once_the_line_is_whole(study: Study, clock: Clock) -> None:
    cut = set[str]()

    class Flaky(Stub):
        def __getattribute__(self, name: str) -> Any:
            method = super().__getattribute__(name)

            def call(request: object, timeout: float) -> object:
                if name not in cut:
                    cut.add(name)
                    raise Cut
                return method(request, timeout)

            return call if name.startswith("Get") else method

    with patch("tests.owner_in_memory.Stub", Flaky):
        fetch(Owner(), study)
    assert cut == {"GetRoot", "GetFreshness", "GetManifest", "GetLogProof"}
    assert study.last_seen().release == 3


def test_a_call_that_nobody_answers_in_its_time_is_not_made_again(clock: Clock) -> None:
    def silence(request: object, timeout: float) -> None:
        clock.now += timeout
        raise Cut

    with pytest.raises(Cut):
        channel.when_admitted(silence, None)
    assert not clock.waits


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
