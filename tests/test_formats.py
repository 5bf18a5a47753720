"""What is deployed stays readable: bytes that nodes and studies hold, or have signed, kept in `formats.json`.

Written once, they are never written anew to make a test pass: one that fails says that after an upgrade every such
node, study or shard is refused or other than it was. If that is meant, the format gets its next number or label, what
reads it takes the old one too, and the new bytes join those that are here.
"""

import json
from pathlib import Path
from typing import get_args

import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from data_owner import release
from data_owner.node import Node
from data_owner.release import STATE
from data_owner.release_status import State
from protocol.checkpoint import verify_checkpoint
from protocol.entry import Entry, parse_entry
from protocol.freshness import verify_freshness
from protocol.invitation import Invitation
from protocol.manifest import Manifest
from protocol.merkle import Tree, leaf_hash
from protocol.note import Note
from protocol.root import KeyRole
from protocol.signing import Kind
from shared.architecture import Architecture
from shared.card import Card
from shared.decoder import Decoder
from shared.generation import Synthesiser, block_seed
from shared.schema import CategoricalColumn, ColumnRole, Group, NumericColumn, Quantiles, Schema
from shared.sealed_key import unseal
from shared.statistics import FREQUENCIES, LatentStatistics
from shared.strata import Strata
from shared.student import Student

KEPT = json.loads((Path(__file__).parent / "formats.json").read_text(encoding="utf-8"))
INVITATION = Invitation.from_bytes(KEPT["invitation"].encode())
ROOT = INVITATION.trusted_root()


def test_an_invitation_is_trusted_and_has_the_fingerprint_that_was_compared() -> None:
    assert INVITATION.fingerprint == KEPT["fingerprint"]
    assert INVITATION.to_bytes() == KEPT["invitation"].encode()
    assert ROOT.to_bytes() == INVITATION.root.encode()


def test_a_signed_manifest_verifies() -> None:
    document = KEPT["manifest"].encode()
    ROOT.check(KeyRole.RELEASE, Kind.MANIFEST, document, KEPT["manifest_signatures"].encode())
    assert Manifest.from_bytes(document).to_bytes() == document


def test_a_signed_freshness_statement_verifies_and_lists_the_manifest() -> None:
    document, signatures = KEPT["freshness"].encode(), KEPT["freshness_signatures"].encode()
    found = verify_freshness(ROOT, document, signatures, last_version=0, now=KEPT["now"])
    found.check_listed(3, KEPT["manifest"].encode())


def test_a_checkpoint_verifies_with_the_cosignature_of_a_study() -> None:
    note = KEPT["note"].encode()
    tree = Tree(entry.encode() for entry in KEPT["entries"].values())
    assert verify_checkpoint(ROOT, note).root_hash == tree.root()
    witness = Ed25519PublicKey.from_public_bytes(bytes.fromhex(KEPT["witness"]))
    assert Note.from_bytes(note).cosignature_time("consumer", witness) == KEPT["now"]


def test_entries_of_every_kind_are_read_and_hash_to_the_leaves_they_were() -> None:
    found = {leaf: parse_entry(entry.encode()) for leaf, entry in KEPT["entries"].items()}
    assert {type(entry) for entry in found.values()} == set(get_args(Entry))
    assert [leaf_hash(entry.to_bytes()).hex() for entry in found.values()] == list(found)


def test_a_sealed_key_opens_with_its_passphrase() -> None:
    found = unseal(KEPT["sealed_key"].encode(), b"correct horse battery staple", "root.key")
    assert found.public_key().public_bytes_raw().hex() in ROOT.keys.values()


def test_the_state_of_a_release_is_read_whole(tmp_path: Path) -> None:
    node = Node(tmp_path)
    node.release(3).mkdir(parents=True)
    (node.release(3) / STATE).write_text(KEPT["state"], encoding="utf-8")
    found = release.status(node, 3)
    assert found.state is State.SERVED
    assert found.model_dump(mode="json") == json.loads(KEPT["state"]) | {
        "limits": None,
        "rows_sha256": "",
        "earlier": "",
    }


@pytest.mark.parametrize(("name", "rows"), [("card", "records"), ("card_of_microdata", "rows of microdata")])
def test_a_card_is_written_as_it_was_and_says_what_its_rows_are(name: str, rows: str) -> None:
    kept = KEPT[name].encode()
    assert Card.from_bytes(kept).to_bytes() == kept
    assert Card.from_bytes(kept).rows == rows


@pytest.mark.parametrize(("seed", "index", "drawn"), [(0, 0, 2118916044707905276), (7, 12, 7774470413139617123)])
def test_a_block_of_a_run_has_the_seed_it_had(seed: int, index: int, drawn: int) -> None:
    assert block_seed(seed, index) == drawn


def test_a_seed_makes_the_rows_it_made() -> None:
    """Small and rounded, so that processors that sum in another order make the same."""
    halves = ("a", "b")
    column = NumericColumn(
        name="x", kind="integer", dtype="int64", optional=False, quantiles=Quantiles(ranks=(0, 1), values=(0, 1000))
    )
    sensitive, target = (
        CategoricalColumn(name=role, kind="category", dtype="str", role=role, optional=False, categories=halves)
        for role in (ColumnRole.SENSITIVE, ColumnRole.TARGET)
    )
    groups = tuple(Group(values=(name,), share=0.5) for name in halves)
    schema = Schema(columns=(column, sensitive, target), positive="a", groups=groups)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = Decoder(Architecture.for_schema(schema, 4, (8,), (8,))).eval()
        student = Student(4).eval()
    strata = Strata(torch.tensor([0.5, 0.5]), torch.tensor([[1.0], [-1.0]]).expand(2, 4), torch.eye(4).repeat(2, 1, 1))
    statistics = LatentStatistics(strata, torch.zeros(FREQUENCIES, 4), *torch.zeros(2, 2, FREQUENCIES))
    found = Synthesiser(schema, decoder, statistics, student).table(seed=7, rows=8)
    assert found["x"].tolist() == [11, 70, 989, 2, 28, 344, 989, 297]
    assert found["sensitive"].tolist() == list("baaaaaab")
    assert found["target"].tolist() == list("baaaaaba")
