"""Attacks on a release, by the in-memory owner: each edit of one line is refused for its own reason."""

import dataclasses
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import rfc8785
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.artefacts import PAYLOAD, Artefact
from protocol.manifest import Digest, Manifest, Signature, pre_authentication_encoding, sign
from protocol.trust import (
    Equivocation,
    Expired,
    LastSeen,
    Rollback,
    TrustedRelease,
    WrongDigest,
    WrongLength,
    WrongNode,
    verify_manifest,
    verify_release,
)
from shared.errors import VerificationFailure
from shared.limits import LIMITS

NOW = 1_800_000_000
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@dataclass
class Owner:
    """An owner in memory: edit it, and it signs what it was made to say."""

    key: Ed25519PrivateKey = KEY
    node: str = "hospital"
    version: int = 3
    created: int = NOW - 100
    expires: int = NOW + 1000
    artefacts: dict[Artefact, bytes] = field(default_factory=lambda: {kind: kind.encode() * 9 for kind in PAYLOAD})

    def manifest(self) -> Manifest:
        digests = {kind: Digest.of(data) for kind, data in self.artefacts.items()}
        return Manifest(
            node=self.node,
            version=self.version,
            created=self.created,
            expires=self.expires,
            schema_id=digests[Artefact.SCHEMA].sha256,
            policy_id=hashlib.sha256(b"policy").hexdigest(),
            privacy="no records leave",
            artefacts=digests,
        )

    def served(self) -> tuple[bytes, bytes]:
        data = self.manifest().to_bytes()
        return data, sign(data, self.key).to_bytes()


def consume(owner: Owner, last_seen: LastSeen | None = None, edit: Callable[[bytes], bytes] = bytes) -> TrustedRelease:
    """What an honest consumer does, which asked for version 3 of hospital."""
    manifest, signature = owner.served()
    found = verify_manifest(
        edit(manifest), signature, key=KEY.public_key(), node="hospital", version=3, last_seen=last_seen, now=NOW
    )
    return verify_release(found, owner.artefacts)


def seen(**change: object) -> LastSeen:
    return LastSeen.of(dataclasses.replace(Owner(), **change).manifest())  # type: ignore[arg-type]


def test_an_honest_release_is_accepted_and_accepted_again() -> None:
    release = consume(Owner(), last_seen=seen())
    assert release.artefacts[Artefact.CARD] == b"card" * 9


def test_a_release_signed_by_another_key_is_refused() -> None:
    with pytest.raises(VerificationFailure, match="not the owner's"):
        consume(Owner(key=Ed25519PrivateKey.generate()))


def test_a_manifest_changed_after_signing_is_refused() -> None:
    with pytest.raises(VerificationFailure, match="does not match"):
        consume(Owner(), edit=lambda data: data.replace(b"no records leave", b"all records are"))


def test_rollback_to_an_older_release_is_refused() -> None:
    with pytest.raises(Rollback):
        consume(Owner(), last_seen=seen(version=4))


def test_two_releases_under_one_version_are_refused() -> None:
    with pytest.raises(Equivocation):
        consume(Owner(), last_seen=seen(created=NOW - 5))


def test_an_expired_release_is_refused_at_the_very_second() -> None:
    with pytest.raises(Expired):
        consume(Owner(expires=NOW))
    consume(Owner(expires=NOW + 1))


def test_a_release_from_the_future_is_refused() -> None:
    with pytest.raises(Expired, match="future"):
        consume(Owner(created=NOW + 10_000, expires=NOW + 20_000))


def test_a_release_of_another_node_is_refused() -> None:
    with pytest.raises(WrongNode):
        consume(Owner(node="clinic"))


def test_another_version_than_asked_for_is_refused() -> None:
    with pytest.raises(WrongNode):
        consume(Owner(version=5))


@pytest.mark.parametrize("kind", PAYLOAD)
def test_one_byte_more_less_or_other_is_refused(kind: Artefact) -> None:
    manifest = Owner().manifest()
    honest = Owner().artefacts
    for data, error in (
        (honest[kind] + b"x", WrongLength),
        (honest[kind][:-1], WrongLength),
        (honest[kind][:-1] + b"!", WrongDigest),
    ):
        with pytest.raises(error):
            verify_release(manifest, {**honest, kind: data})


def test_artefacts_of_two_releases_cannot_be_mixed() -> None:
    other = {kind: data.upper() for kind, data in Owner().artefacts.items()}
    with pytest.raises(WrongDigest):
        verify_release(Owner().manifest(), {**Owner().artefacts, Artefact.DECODER: other[Artefact.DECODER]})


def test_an_incomplete_release_is_refused() -> None:
    artefacts = Owner().artefacts
    del artefacts[Artefact.CARD]
    with pytest.raises(VerificationFailure, match="not complete"):
        verify_release(Owner().manifest(), artefacts)


def test_an_endless_manifest_is_refused_before_its_signature_is_looked_at() -> None:
    with pytest.raises(WrongLength):
        consume(Owner(), edit=lambda data: data + b" " * LIMITS.manifest_bytes)


def signed_as_is(data: bytes) -> None:
    """A manifest in other bytes, signed by the true key all the same."""
    verify_manifest(
        data,
        sign(data, KEY).to_bytes(),
        key=KEY.public_key(),
        node="hospital",
        version=3,
        last_seen=None,
        now=NOW,
    )


def test_only_the_canonical_bytes_are_a_manifest() -> None:
    content = json.loads(Owner().manifest().to_bytes())
    signed_as_is(rfc8785.dumps(content))
    for data in (
        json.dumps(content).encode(),
        json.dumps(dict(reversed(content.items())), separators=(",", ":")).encode(),
        rfc8785.dumps(content) + b"\n",
        rfc8785.dumps({**content, "surplus": 1}),
        rfc8785.dumps(content).replace(b'"format":1,', b'"format":1,"format":1,'),
        rfc8785.dumps({**content, "version": "3"}),
        b"[]",
        b"\xff",
        b"",
        b"[" * 60_000,
    ):
        with pytest.raises(VerificationFailure):
            signed_as_is(data)


@pytest.mark.parametrize("name", list(json.loads(Owner().manifest().to_bytes())))
def test_every_field_of_a_manifest_is_needed_but_its_format(name: str) -> None:
    content = json.loads(Owner().manifest().to_bytes())
    del content[name]
    with pytest.raises(VerificationFailure):
        signed_as_is(rfc8785.dumps(content)) if name != "format" else signed_as_is(b"{}")


def test_equal_manifests_have_equal_bytes_and_the_known_ones() -> None:
    first, second = Owner().manifest(), Manifest.from_bytes(Owner().manifest().to_bytes())
    assert first == second
    assert first.to_bytes() == second.to_bytes()
    assert first.to_bytes().startswith(b'{"artefacts":{"card":{"length":36,"sha256":"')


def test_signing_is_rfc_8032_over_the_dsse_encoding() -> None:
    assert pre_authentication_encoding(b"hello").endswith(b" 5 hello")
    signature = sign(b"hello", KEY)
    assert bytes.fromhex(signature.signature) == KEY.sign(pre_authentication_encoding(b"hello"))


def test_ed25519_gives_the_published_signature() -> None:
    """RFC 8032 section 7.1, test 2."""
    key = Ed25519PrivateKey.from_private_bytes(
        bytes.fromhex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb")
    )
    assert key.sign(b"\x72").hex() == (
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
    )


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_foreign_bytes_as_manifest_or_signature_only_fail_verification(data: bytes) -> None:
    for parse in (Manifest.from_bytes, Signature.from_bytes):
        with pytest.raises(VerificationFailure):
            parse(data)


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_no_single_changed_byte_of_a_signed_manifest_is_accepted(data: st.DataObject) -> None:
    manifest, signature = Owner().served()
    place = data.draw(st.integers(0, len(manifest) - 1))
    other = bytes([data.draw(st.integers(0, 255).filter(lambda value: value != manifest[place]))])
    changed = manifest[:place] + other + manifest[place + 1 :]
    with pytest.raises(VerificationFailure):
        verify_manifest(changed, signature, key=KEY.public_key(), node="hospital", version=3, last_seen=None, now=NOW)
