"""Every parser of foreign bytes, fed with noise and with mutated truth: only the two declared families come out."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import rfc8785
import torch
from grpc_health.v1 import health_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from safetensors.torch import save
from torch import Tensor

import consumer.doctor
import data_owner.doctor
from consumer.enrolment import enrol
from consumer.study import Study
from data_owner.node import Node
from protocol import identity
from protocol.access import PartyRole
from protocol.artefacts import PAYLOAD, Artefact
from protocol.canonical_json import parse
from protocol.checkpoint import Checkpoint, verify_checkpoint
from protocol.entry import parse_entry
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.freshness import Freshness, verify_freshness
from protocol.invitation import Invitation
from protocol.ledger_file import LedgerFile, verify_ledger
from protocol.manifest import Manifest
from protocol.note import Note
from protocol.refusals import NotCanonical
from protocol.root import KeyRole, Root, anchor, rotate
from protocol.signing import Kind, Signatures, sign
from protocol.trust import LastSeen, LogProof, verify_logged
from shared import folder
from shared.card import Card
from shared.decoder import Decoder, checked
from shared.errors import BadContent, BadInput, VerificationFailure
from shared.schema import LARGEST, Quantiles, Schema
from shared.sealed_key import seal, unseal
from shared.statistics import LatentStatistics, measure
from shared.tensor_metadata import metadata
from tests.owner_in_memory import KEYS, NOW, Owner, consume, honest_log, invitation, key, study_at, trusting
from tests.test_ledger import exported

OWNER = Owner()
ROOT = OWNER.first_root()
MANIFEST = OWNER.manifest()
_, SEEN = consume(OWNER)
NOTE = Note.from_bytes(OWNER.checkpoint()).cosigned("consumer", key("witness"), NOW).to_bytes()
ENTRIES = honest_log(MANIFEST, served=1)
PROOF = LogProof.of(OWNER.checkpoint(), ENTRIES[2].to_bytes(), 2, [b"\x00" * 32, b"\x01" * 32])
INVITATION = invitation(SEEN)


def signed_root(data: bytes) -> object:
    """As if the true keys had signed whatever it is."""
    return rotate(ROOT, data, sign(Kind.ROOT, data, KEYS[KeyRole.ROOT]).to_bytes())


def signed_freshness(data: bytes) -> object:
    signatures = sign(Kind.FRESHNESS, data, KEYS[KeyRole.FRESHNESS]).to_bytes()
    return verify_freshness(ROOT, data, signatures, last_version=0, now=NOW)


def note(data: bytes) -> object:
    parsed = Note.from_bytes(data)
    parsed.cosignature_time("consumer", key("witness").public_key())
    Checkpoint.from_text(parsed.text)
    return verify_checkpoint(ROOT, data)


def certificate(data: bytes) -> object:
    return (
        identity.certificate_fingerprint(data),
        identity.certificate_role(data),
        identity.needs_renewal(data, datetime.now(UTC)),
    )


def client_certificate() -> bytes:
    key, moment = identity.new_key(), datetime.now(UTC)
    request, issuer = identity.new_request(identity.new_key(), "study"), identity.new_authority(key, "hospital", moment)
    return identity.issue_client_certificate(request, "study", key, issuer, moment, PartyRole.ANALYST)


PARSERS: dict[str, tuple[Callable[[bytes], object], bytes]] = {
    "manifest": (Manifest.from_bytes, MANIFEST.to_bytes()),
    "signatures": (Signatures.from_bytes, SEEN.roots[0].signatures.encode()),
    "root": (Root.from_bytes, ROOT.to_bytes()),
    "anchored root": (lambda data: anchor(data, SEEN.roots[0].signatures.encode()), ROOT.to_bytes()),
    "signed root": (signed_root, ROOT.to_bytes()),
    "freshness": (Freshness.from_bytes, OWNER.freshness().to_bytes()),
    "signed freshness": (signed_freshness, OWNER.freshness().to_bytes()),
    "note": (note, NOTE),
    "entry": (parse_entry, ENTRIES[2].to_bytes()),
    "proof": (lambda data: verify_logged(ROOT, MANIFEST, LogProof.from_bytes(data)), PROOF.to_bytes()),
    "ledger file": (lambda data: verify_ledger(LedgerFile.from_bytes(data), ROOT), exported(ENTRIES).to_bytes()),
    "last seen": (lambda data: LastSeen.from_bytes(data).trusted_root(), SEEN.to_bytes()),
    "invitation": (lambda data: Invitation.from_bytes(data).trusted_root(), INVITATION.to_bytes()),
    "certificate": (certificate, client_certificate()),
    "request": (identity.read_request, identity.new_request(identity.new_key(), "analyst")),
    "tensors": (lambda data: checked(data, {"a": (2,)}), save({"a": torch.zeros(2)})),
    "tensor header": (metadata, save({"a": torch.zeros(2)}, metadata={"architecture": "{}"})),
}


def only_declared(parse: Callable[[bytes], object], data: bytes) -> None:
    refused: BadContent | None = None
    try:
        parse(data)
    except (BadInput, VerificationFailure) as error:
        refused = error
    assert refused is None or (refused.field and refused.remedy)


ODD = [b"null", b"-1", b"1e999", b"9" * 400, b"\\ud800", b"[" * 2000, b'""', b"NaN", b"\x00", b"{}", "é".encode()]


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """A few bytes changed, cut out, repeated or put in; sometimes a number or a text replaced whole."""
    found = bytearray(data)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(found) - 1, 0)))
        match draw(st.integers(0, 4)):
            case 0:
                found[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case 1:
                del found[place : place + draw(st.integers(1, 40))]
            case 2:
                found[place:place] = draw(st.binary(max_size=20))
            case 3:
                found[place:place] = found[place : place + draw(st.integers(1, 200))]
            case 4:
                found[place : place + draw(st.integers(0, 12))] = draw(st.sampled_from(ODD))
    return bytes(found)


@pytest.mark.parametrize("name", PARSERS)
def test_the_seed_is_a_good_one(name: str) -> None:
    parse, seed = PARSERS[name]
    if name in ("signed root", "proof"):  # of the same version, and with an invented path
        with pytest.raises(VerificationFailure):
            parse(seed)
    else:
        parse(seed)


@pytest.mark.parametrize("name", PARSERS)
@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_noise_and_mutated_truth_end_in_a_declared_error_or_not_at_all(name: str, data: st.DataObject) -> None:
    parse, seed = PARSERS[name]
    only_declared(parse, data.draw(st.one_of(st.binary(max_size=300), mutations(seed))))


@pytest.fixture(scope="module", params=["approved_node", "image_node"])
def released(request: pytest.FixtureRequest) -> dict[Artefact, bytes]:
    """The real artefacts of a release of a table, and of pictures."""
    place: Path = request.getfixturevalue(request.param) / "releases" / "1"
    return {kind: (place / kind.filename).read_bytes() for kind in PAYLOAD}


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_mutated_artefacts_end_in_a_declared_error_or_not_at_all(
    released: dict[Artefact, bytes], data: st.DataObject
) -> None:
    schema = Schema.from_bytes(released[Artefact.SCHEMA])
    decoder = Decoder.from_bytes(released[Artefact.DECODER], schema)
    latent, groups, classes = decoder.architecture.latent, len(schema.groups), len(schema.target.categories)
    parsers: dict[Artefact, Callable[[bytes], object]] = {
        Artefact.SCHEMA: Schema.from_bytes,
        Artefact.CARD: Card.from_bytes,
        Artefact.DECODER: lambda changed: Decoder.from_bytes(changed, schema),
        Artefact.STATISTICS: lambda changed: LatentStatistics.from_bytes(changed, latent, groups, classes),
    }
    kind = data.draw(st.sampled_from(list(parsers)))
    whole = released[kind]
    head = len(whole) if kind in (Artefact.SCHEMA, Artefact.CARD) else 8 + int.from_bytes(whole[:8], "little")
    only_declared(parsers[kind], data.draw(mutations(whole[:head])) + whole[head:])


def moments(far: float, dimensions: int = 4) -> LatentStatistics:
    """Of posteriors as wide as they get, with means `far` out that are clipped."""
    mean = torch.full((200, dimensions), far) * torch.tensor([1.0, -1.0]).repeat(100)[:, None]
    groups, classes = (torch.nn.functional.one_hot(torch.arange(200) // each % 2, 2) for each in (1, 100))
    return measure(mean, torch.full_like(mean, math.exp(4.0)), groups, classes, seed=0)


def test_moments_of_latents_far_beyond_where_they_are_clipped_are_read_as_they_were_measured() -> None:
    for dimensions in (1, 4, 16):
        found = moments(1e6, dimensions)
        read = LatentStatistics.from_bytes(found.to_bytes(), dimensions, 2, 2)
        assert torch.equal(read.strata.mean, found.strata.mean)


def chained(dimensions: int) -> Tensor:
    """A covariance of variances of 19 at most whose whitening takes numbers beyond all that a float holds."""
    rows = torch.eye(dimensions)
    for below in (1, 2):
        rows += 3.0 * torch.diag(torch.ones(dimensions - below), -below)
    return (rows @ rows.T).repeat(2, 1, 1)


IMPOSSIBLE = {
    "a mean": (4, "mean", torch.full((2, 4), 1e20)),
    "a variance": (4, "covariance", 3e38 * torch.eye(4).repeat(2, 1, 1)),
    "fewer dimensions": (256, "covariance", chained(256)),
}


@pytest.mark.parametrize("problem", IMPOSSIBLE)
def test_moments_that_no_clipped_latents_have_are_refused(problem: str) -> None:
    dimensions, name, value = IMPOSSIBLE[problem]
    found = moments(0.0, dimensions)
    changed = replace(found, strata=replace(found.strata, **{name: value}))
    with pytest.raises(VerificationFailure, match=problem):
        LatentStatistics.from_bytes(changed.to_bytes(), dimensions, 2, 2)


def test_quantiles_reach_no_farther_than_numbers_of_a_table_may() -> None:
    assert Quantiles(ranks=(0.0, 1.0), values=(-LARGEST, LARGEST)).values == (-LARGEST, LARGEST)
    for values in ((-1.7e308, 0.0), (0.0, 1.7e308)):
        with pytest.raises(ValueError, match="largest number"):
            Quantiles(ranks=(0.0, 1.0), values=values)


HEADER_NAMES = st.sampled_from(["a", "dtype", "shape", "data_offsets", "__metadata__"])
HEADERS = st.recursive(
    st.none() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner) | st.dictionaries(HEADER_NAMES, inner),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(header=HEADERS)
def test_a_tensor_header_of_any_shape_ends_in_a_declared_error(header: object) -> None:
    text = json.dumps(header).encode()
    data = len(text).to_bytes(8, "little") + text + b"\x00" * 8
    only_declared(metadata, data)
    only_declared(lambda changed: checked(changed, {"a": (2,)}), data)


def test_a_sealed_key_opens_with_its_passphrase_alone_and_no_changed_byte_is_accepted() -> None:
    sealed = seal(key("root"), b"right")
    assert unseal(sealed, b"right", "key").private_bytes_raw() == key("root").private_bytes_raw()
    assert key("root").private_bytes_raw().hex().encode() not in sealed
    with pytest.raises(BadInput, match="passphrase"):
        unseal(sealed, b"wrong", "key")
    content = json.loads(sealed)
    for name in ("public", "salt", "nonce", "sealed"):
        changed = {**content, name: ("0" if content[name][0] != "0" else "1") + content[name][1:]}
        with pytest.raises(BadInput):
            unseal(json.dumps(changed).encode(), b"right", "key")
    with pytest.raises(BadInput, match="not a sealed key"):
        unseal(b"{}", b"right", "key")


def test_a_number_beyond_json_s_safe_integers_is_refused() -> None:
    with pytest.raises(VerificationFailure):
        parse_entry(ENTRIES[2].to_bytes().replace(b'"records":600', b'"records":2222222222222222600'))
    with pytest.raises(NotCanonical):
        parse(TypeAdapter(int), b"2222222222222222600", "number")


def test_what_is_trusted_by_a_new_study_is_the_invitation_alone(tmp_path: Path) -> None:
    study, offered = Study(tmp_path / "study"), tmp_path / "invitation.json"
    offered.write_bytes(INVITATION.to_bytes())
    pending = wire.EnrolResponse(state=wire.EnrolResponse.STATE_PENDING)
    with patch("consumer.enrolment._send", return_value=pending):
        enrolled = enrol(study, offered, "Bea")
    assert enrolled.invitation_fingerprint == INVITATION.fingerprint
    assert study.last_seen() == trusting()
    assert study.last_seen().trusted_root() == ROOT


@pytest.mark.parametrize("name", ["a\npassed  copy: b", "a\u202e", "a\x1b[2J", "a\0"])
@pytest.mark.parametrize("document", [ROOT, INVITATION, OWNER.freshness(), MANIFEST], ids=lambda each: each.what)
def test_a_name_of_a_node_neither_ends_the_line_it_stands_in_nor_steers_it(document: Any, name: str) -> None:
    content = json.loads(document.to_bytes())
    type(document).from_bytes(rfc8785.dumps(content))
    with pytest.raises(BadContent, match="node: must be one line"):
        type(document).from_bytes(rfc8785.dumps({**content, "node": name}))


def test_the_doctors_of_both_sides_tell_the_whole_fingerprint_of_the_invitation(tmp_path: Path) -> None:
    study, node = study_at(tmp_path / "study", SEEN), Node(tmp_path / "hospital")
    folder.write(node.invitation, INVITATION.to_bytes())
    with patch("grpc.secure_channel"), patch("grpc_health.v1.health_pb2_grpc.HealthStub") as stub:
        stub.return_value.Check.return_value.status = health_pb2.HealthCheckResponse.SERVING
        told = (consumer.doctor.diagnose(study), data_owner.doctor.diagnose(node))
    for name, found in zip(("invitation", "listening"), told, strict=True):
        said = next(each.text for each in found if each.name == name)
        assert said.startswith(f"fingerprint {INVITATION.fingerprint}, of "), "before what the file's author may choose"
