"""Attacks on a release, by the in-memory owner: each edit of one line is refused for its own reason."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
import rfc8785

from protocol.artefacts import PAYLOAD, Artefact
from protocol.manifest import Digest, Manifest
from protocol.refusals import (
    BadSignature,
    DuplicateKey,
    EndlessData,
    Equivocation,
    Expired,
    FastForward,
    Freeze,
    MixAndMatch,
    NotCanonical,
    NotLogged,
    Rewritten,
    Rollback,
    UnderThreshold,
    UnknownField,
    WrongDigest,
    WrongLength,
    WrongNode,
)
from protocol.root import KeyRole, RoleKeys, rotate
from protocol.signing import Kind, Signatures, pre_authentication_encoding, sign
from protocol.trust import LastSeen, verify_manifest, verify_release
from shared.errors import BadInput, PolicyRefusal, VerificationFailure
from shared.limits import LIMITS
from tests.owner_in_memory import KEYS, NOW, Owner, consume, honest_log, key, root_of, trusting


def test_an_honest_release_is_accepted_and_accepted_again() -> None:
    release, seen = consume(Owner())
    assert release.artefacts[Artefact.CARD] == b"card" * 9
    assert consume(Owner(), seen)[1] == seen


def test_what_was_seen_survives_writing_and_reading() -> None:
    _, seen = consume(Owner())
    assert LastSeen.from_bytes(seen.to_bytes()) == seen


# the keys


def test_a_release_signed_by_another_key_is_under_the_threshold() -> None:
    for role in (KeyRole.RELEASE, KeyRole.FRESHNESS, KeyRole.LOG):
        with pytest.raises(UnderThreshold):
            consume(Owner(signers={**KEYS, role: [key("mallory")]}))


@pytest.mark.parametrize("role", [KeyRole.ROOT, KeyRole.FRESHNESS, KeyRole.LOG])
def test_no_other_role_may_sign_a_release(role: KeyRole) -> None:
    with pytest.raises(UnderThreshold):
        consume(Owner(signers={**KEYS, KeyRole.RELEASE: KEYS[role]}))


def test_a_signature_of_one_kind_of_document_is_none_of_another() -> None:
    document = Owner().manifest().to_bytes()
    as_root = sign(Kind.ROOT, document, KEYS[KeyRole.RELEASE]).to_bytes()
    with pytest.raises(BadSignature):
        consume(Owner(edits={"manifest signatures": lambda _: as_root}))


def test_a_key_that_signs_twice_does_not_count_twice() -> None:
    def twice(data: bytes) -> bytes:
        found = Signatures.from_bytes(data).signatures
        return Signatures(signatures=found * 2).to_bytes()

    for name in ("manifest signatures", "freshness signatures"):
        with pytest.raises(DuplicateKey):
            consume(Owner(edits={name: twice}))


def test_a_key_named_twice_in_a_role_is_refused() -> None:
    identifier = next(iter(root_of(KEYS).roles[KeyRole.ROOT].key_ids))
    with pytest.raises(DuplicateKey):
        RoleKeys(key_ids=(identifier, identifier), threshold=2)


@pytest.mark.parametrize("name", ["manifest", "freshness", "root"])
def test_a_document_changed_after_signing_is_refused(name: str) -> None:
    owner = Owner(roots=[(root_of(KEYS, version=2), KEYS[KeyRole.ROOT])])
    owner.edits[name] = lambda data: data.replace(b"hospital", b"hospitaL")
    with pytest.raises(BadSignature):
        consume(owner)


# rotation of the root

TWO = {**KEYS, KeyRole.ROOT: [key("second"), key("third")]}


def test_a_root_signed_by_old_and_new_thresholds_is_followed_and_what_the_new_keys_sign_is_accepted() -> None:
    fresh = {**TWO, KeyRole.RELEASE: [key("new release")]}
    rotated = root_of(fresh, version=2, threshold=2)
    owner = Owner(roots=[(rotated, [*KEYS[KeyRole.ROOT], *TWO[KeyRole.ROOT]])], signers=fresh)
    _, seen = consume(owner)
    assert seen.trusted_root() == rotated
    with pytest.raises(UnderThreshold):
        consume(replace(owner, signers=KEYS))


@pytest.mark.parametrize(
    "signers",
    [KEYS[KeyRole.ROOT], TWO[KeyRole.ROOT], [*KEYS[KeyRole.ROOT], TWO[KeyRole.ROOT][0]], [key("mallory")]],
    ids=["old only", "new only", "one of two new", "neither"],
)
def test_a_rotation_under_either_threshold_is_refused(signers: list[object]) -> None:
    with pytest.raises(UnderThreshold):
        consume(Owner(roots=[(root_of(TWO, version=2, threshold=2), signers)]))  # type: ignore[list-item]


def test_nine_of_sixteen_keys_are_replaced_by_nine_of_sixteen_others() -> None:
    sixteen = [[key(f"{holder} {number}") for number in range(16)] for holder in ("old", "new")]
    first, second = (
        root_of({**KEYS, KeyRole.ROOT: keys}, version=version, threshold=9) for version, keys in enumerate(sixteen, 1)
    )
    signatures = sign(Kind.ROOT, second.to_bytes(), [*sixteen[0][:9], *sixteen[1][:9]]).to_bytes()
    assert rotate(first, second.to_bytes(), signatures) == second


def test_a_root_that_skips_a_version_is_a_fast_forward() -> None:
    with pytest.raises(FastForward):
        consume(Owner(roots=[(root_of(KEYS, version=3), KEYS[KeyRole.ROOT])]))


def test_a_root_of_the_same_version_is_a_rollback() -> None:
    with pytest.raises(Rollback):
        consume(Owner(roots=[(root_of(KEYS, version=1), KEYS[KeyRole.ROOT])]))


def test_a_root_of_another_node_is_refused() -> None:
    with pytest.raises(WrongNode):
        consume(Owner(roots=[(root_of(KEYS, version=2, node="clinic"), KEYS[KeyRole.ROOT])]))


def test_an_expired_root_is_refused_unless_a_newer_one_follows() -> None:
    stale = Owner(root_expires=NOW)
    with pytest.raises(Expired):
        consume(stale, trusting(stale))
    followed = replace(stale, roots=[(root_of(KEYS, version=2), KEYS[KeyRole.ROOT])])
    consume(followed, trusting(stale))


def test_versions_signed_absurdly_high_by_stolen_keys_are_forgotten_when_those_keys_are_replaced() -> None:
    _, seen = consume(Owner())
    burnt = seen.model_copy(update={"freshness": NOW + 200, "release": 900, "manifest_sha256": "ab" * 32})
    with pytest.raises(Rollback):
        consume(Owner(), burnt)
    fresh = {**KEYS, KeyRole.RELEASE: [key("new release")], KeyRole.FRESHNESS: [key("new freshness")]}
    consume(Owner(roots=[(root_of(fresh, version=2), KEYS[KeyRole.ROOT])], signers=fresh), burnt)


# freshness


def test_an_old_state_shown_as_the_present_one_is_a_freeze() -> None:
    with pytest.raises(Freeze):
        consume(Owner(fresh_until=NOW))
    consume(Owner(fresh_until=NOW + 1))


def test_a_statement_older_than_one_seen_is_a_rollback() -> None:
    _, seen = consume(Owner())
    with pytest.raises(Rollback):
        consume(Owner(fresh_at=NOW - 11), seen)


def test_a_statement_from_the_future_is_a_fast_forward() -> None:
    with pytest.raises(FastForward, match="if it is right, tell the owner that theirs is or was ahead"):
        consume(Owner(fresh_at=NOW + 1000, fresh_until=NOW + 2000))


def test_who_has_seen_a_statement_from_the_future_is_told_of_clocks_and_not_to_suspect_the_owner() -> None:
    _, seen = consume(Owner())
    skew = LIMITS.clock_skew_seconds
    with pytest.raises(Rollback, match="ask the owner, by telephone"):
        consume(Owner(), seen.model_copy(update={"freshness": NOW + skew}))
    with pytest.raises(FastForward, match="clock") as refused:
        consume(Owner(), seen.model_copy(update={"freshness": NOW + skew + 1}))
    assert "do not use it" not in refused.value.remedy


def test_a_statement_that_would_hold_for_longer_than_a_day_is_refused() -> None:
    with pytest.raises(ValueError, match="a day at most"):
        Owner(fresh_until=NOW + 2 * LIMITS.freshness_seconds).freshness()


def test_a_statement_under_another_root_than_the_one_shown_is_mix_and_match() -> None:
    """Under a newer one the owner may have rotated its root between two calls."""
    with pytest.raises(MixAndMatch, match="fetch again"):
        consume(Owner(fresh_root=2))
    with pytest.raises(MixAndMatch, match="do not use it"):
        consume(Owner(roots=[(root_of(KEYS, version=2), KEYS[KeyRole.ROOT])], fresh_root=1))


# the manifest


def test_rollback_to_an_older_release_is_refused() -> None:
    manifest, signatures = Owner().signed(KeyRole.RELEASE, Kind.MANIFEST, Owner().manifest().to_bytes())
    seen = trusting().model_copy(update={"release": 4})
    with pytest.raises(Rollback):
        verify_manifest(Owner().first_root(), manifest, signatures, version=3, last_seen=seen, now=NOW)


def test_an_owner_is_not_suspected_where_an_analyst_asks_for_what_it_does_not_list_or_the_study_is_past() -> None:
    _, seen = consume(Owner(version=4), version=4)
    with pytest.raises(BadInput, match="holds release 4"):
        consume(Owner(version=4), seen, version=3)
    with pytest.raises(BadInput, match=r"serves no release 99. Remedy: give one that it serves: 4$"):
        consume(Owner(version=4), seen, version=99)
    with pytest.raises(PolicyRefusal, match="no longer serves release 4"):
        consume(Owner(version=3), seen, version=3)


def test_a_version_that_cannot_have_been_reached_is_a_fast_forward() -> None:
    _, seen = consume(Owner())
    with pytest.raises(FastForward):
        consume(Owner(version=2**31 - 1), seen, version=2**31 - 1)


def test_two_releases_under_one_version_are_refused() -> None:
    _, seen = consume(Owner(created=NOW - 5))
    with pytest.raises(Equivocation):
        consume(Owner(), seen.model_copy(update={"checkpoint": ""}))


def test_a_genuine_release_that_is_not_the_one_listed_now_is_mix_and_match() -> None:
    with pytest.raises(MixAndMatch):
        consume(Owner(listed=Owner(created=NOW - 5).manifest()))


def test_an_expired_release_is_refused_at_the_very_second() -> None:
    with pytest.raises(Expired):
        consume(Owner(expires=NOW))
    consume(Owner(expires=NOW + 1))


def test_a_release_from_the_future_is_refused() -> None:
    with pytest.raises(
        Expired, match=r"from the future. Remedy: check this machine's clock; if it is right, tell the owner"
    ):
        consume(Owner(created=NOW + 10_000, expires=NOW + 20_000))


def test_a_release_of_another_node_is_refused() -> None:
    clinic = Owner(node="clinic").manifest().to_bytes()
    signatures = sign(Kind.MANIFEST, clinic, KEYS[KeyRole.RELEASE]).to_bytes()
    with pytest.raises(WrongNode):
        consume(Owner(edits={"manifest": lambda _: clinic, "manifest signatures": lambda _: signatures}))


def test_another_version_than_asked_for_is_refused() -> None:
    with pytest.raises(WrongNode):
        consume(Owner(version=5, listed=Owner().manifest()))


@pytest.mark.parametrize("kind", Kind)
def test_an_endless_document_of_any_kind_is_refused_before_its_signature_is_looked_at(kind: Kind) -> None:
    owner = Owner(roots=[(root_of(KEYS, version=2), KEYS[KeyRole.ROOT])])
    for name in (kind, f"{kind} signatures"):
        with pytest.raises(EndlessData):
            consume(replace(owner, edits={name: lambda data: data + b" " * LIMITS.manifest_bytes}))


# the artefacts


@pytest.mark.parametrize("kind", PAYLOAD)
def test_one_byte_more_less_or_other_is_refused(kind: Artefact) -> None:
    edits: list[tuple[Callable[[bytes], bytes], type[VerificationFailure]]] = [
        (lambda data: data + b"x", EndlessData),
        (lambda data: data[:-1], WrongLength),
        (lambda data: data[:-1] + b"!", WrongDigest),
    ]
    for edit, error in edits:
        with pytest.raises(error):
            consume(Owner(edits={kind: edit}))


def test_artefacts_of_two_releases_cannot_be_mixed() -> None:
    with pytest.raises(WrongDigest):
        consume(Owner(edits={Artefact.DECODER: bytes.upper}))


def test_an_incomplete_release_is_refused() -> None:
    artefacts = Owner().artefacts
    del artefacts[Artefact.CARD]
    with pytest.raises(WrongLength, match="not complete"):
        verify_release(Owner().manifest(), artefacts)


# the egress log


def test_a_release_whose_approval_is_not_logged_is_refused() -> None:
    with pytest.raises(NotLogged):
        consume(Owner(edits={"approval": lambda data: data.replace(b'"by":"Ada"', b'"by":"Eve"')}))


def test_an_approval_of_another_release_is_mix_and_match() -> None:
    with pytest.raises(MixAndMatch):
        consume(Owner(log=honest_log(Owner(created=NOW - 5).manifest())))


@pytest.mark.parametrize("kind", PAYLOAD)
def test_an_approval_that_names_other_artefacts_than_the_manifest_or_fewer_is_mix_and_match(kind: Artefact) -> None:
    for named in ({kind: Digest.of(b"something harmless")}, None):
        log = honest_log(manifest := Owner().manifest())
        others = {each: digest for each, digest in manifest.artefacts.items() if each is not kind}
        log[2] = log[2].model_copy(update={"artefacts": {**others, **(named or {})}})
        with pytest.raises(MixAndMatch, match="approval in the log"):
            consume(Owner(log=log))


def test_a_log_that_grew_is_accepted_and_one_that_was_rewritten_or_cut_is_not() -> None:
    _, seen = consume(Owner(log=honest_log(Owner().manifest(), served=2)))
    consume(Owner(log=honest_log(Owner().manifest(), served=5)), seen)
    shorter, rewritten = honest_log(Owner().manifest()), honest_log(Owner().manifest(), served=5)
    rewritten[1] = rewritten[1].model_copy(update={"at": NOW - 81})
    for log in (shorter, rewritten):
        with pytest.raises(Rewritten):
            consume(Owner(log=log), seen)


def test_a_checkpoint_of_another_log_is_refused() -> None:
    other = Owner(node="clinic").checkpoint()
    with pytest.raises(WrongNode):
        consume(Owner(edits={"checkpoint": lambda _: other}))


# one encoding


def signed_as_is(data: bytes) -> Manifest:
    """A manifest in other bytes, signed by the true key all the same."""
    signatures = sign(Kind.MANIFEST, data, KEYS[KeyRole.RELEASE]).to_bytes()
    return verify_manifest(Owner().first_root(), data, signatures, version=3, last_seen=trusting(), now=NOW)


def test_only_the_canonical_bytes_are_a_manifest() -> None:
    content = json.loads(Owner().manifest().to_bytes())
    signed_as_is(rfc8785.dumps(content))
    for data in (
        json.dumps(content).encode(),
        json.dumps(dict(reversed(content.items())), separators=(",", ":")).encode(),
        rfc8785.dumps(content) + b"\n",
        rfc8785.dumps(content).replace(b'"format":1,', b'"format":1,"format":1,'),
        b"\xff",
        b"",
        b"[" * 60_000,
    ):
        with pytest.raises(NotCanonical):
            signed_as_is(data)
    with pytest.raises(UnknownField):
        signed_as_is(rfc8785.dumps({**content, "surplus": 1}))
    for data in (rfc8785.dumps({**content, "version": "3"}), b"[]"):
        with pytest.raises(VerificationFailure):
            signed_as_is(data)


def test_a_release_that_would_hold_for_longer_than_the_limit_is_refused() -> None:
    content = json.loads(Owner().manifest().to_bytes())
    last = content["created"] + LIMITS.release_days * 86_400
    assert signed_as_is(rfc8785.dumps({**content, "expires": last})).expires == last
    for expires in (last + 1, LIMITS.last_second, content["created"]):
        with pytest.raises(VerificationFailure, match="365 days at most"):
            signed_as_is(rfc8785.dumps({**content, "expires": expires}))


@pytest.mark.parametrize("name", list(json.loads(Owner().manifest().to_bytes())))
def test_every_field_of_a_manifest_is_needed(name: str) -> None:
    content = json.loads(Owner().manifest().to_bytes())
    del content[name]
    with pytest.raises(VerificationFailure):
        signed_as_is(rfc8785.dumps(content))


def test_equal_manifests_have_equal_bytes_and_the_known_ones() -> None:
    first, second = Owner().manifest(), Manifest.from_bytes(Owner().manifest().to_bytes())
    assert first == second
    assert first.to_bytes() == second.to_bytes()
    assert first.to_bytes().startswith(b'{"artefacts":{"card":{"length":36,"sha256":"')


def test_signing_is_rfc_8032_over_the_dsse_encoding() -> None:
    assert pre_authentication_encoding(Kind.ROOT, b"hello").endswith(b" 5 hello")
    found = sign(Kind.ROOT, b"hello", [key("any")]).signatures[0]
    assert bytes.fromhex(found.signature) == key("any").sign(pre_authentication_encoding(Kind.ROOT, b"hello"))
