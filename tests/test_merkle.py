"""The egress log's proofs: published values, and vectors of our own of which nearly all are mutated and must fail."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from protocol.checkpoint import Checkpoint, origin, verify_checkpoint
from protocol.merkle import EMPTY, Tree, leaf_hash, node_hash, verify_consistency, verify_inclusion
from protocol.note import Algorithm, Note, key_id
from protocol.refusals import BadSignature, DuplicateKey, NotCanonical, NotLogged, Rewritten, UnderThreshold
from protocol.root import KeyRole
from protocol.signing import Kind, sign
from protocol.trust import verify_manifest
from shared.errors import VerificationFailure
from tests.owner_in_memory import KEYS, NOW, Owner, key, trusting

# The entries and tree hashes that the Certificate Transparency reference implementation publishes for RFC 6962.
ENTRIES = [
    bytes.fromhex(text)
    for text in ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
]
TREE_HASHES = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


def test_tree_hashes_and_proofs_are_the_published_ones() -> None:
    tree = Tree(ENTRIES)
    assert [tree.root(size).hex() for size in range(9)] == TREE_HASHES
    assert [each.hex()[:8] for each in tree.inclusion(0, 8)] == ["96a296d2", "5f083f0a", "6b47aaf2"]
    assert [each.hex()[:8] for each in tree.consistency(6, 8)] == ["0ebc5d34", "ca854ea1", "d37ee418"]
    assert [each.hex()[:8] for each in tree.consistency(2, 5)] == ["5f083f0a", "bc1a0643"]


def test_the_seven_leaves_of_rfc_6962_have_the_proofs_it_prints() -> None:
    """RFC 6962 section 2.1.3, by the names it gives to the nodes."""
    data = [f"d{place}".encode() for place in range(7)]
    a, b, c, d, e, f, j = map(leaf_hash, data)
    g, h, i = node_hash(a, b), node_hash(c, d), node_hash(e, f)
    k, left = node_hash(g, h), node_hash(i, j)
    tree = Tree(data)
    assert tree.root() == node_hash(k, left)
    assert tree.inclusion(0, 7) == [b, h, left]
    assert tree.inclusion(3, 7) == [c, g, left]
    assert tree.inclusion(4, 7) == [f, j, k]
    assert tree.inclusion(6, 7) == [i, k]
    assert tree.consistency(3, 7) == [c, d, g, left]
    assert tree.consistency(4, 7) == [left]
    assert tree.consistency(6, 7) == [i, j, k]


# vectors of our own


@dataclass(frozen=True)
class Inclusion:
    entry: bytes
    index: int
    size: int
    root: bytes
    proof: tuple[bytes, ...]

    def verify(self) -> None:
        verify_inclusion(self.entry, self.index, self.size, self.root, self.proof)


@dataclass(frozen=True)
class Consistency:
    old: int
    old_root: bytes
    size: int
    root: bytes
    proof: tuple[bytes, ...]

    def verify(self) -> None:
        verify_consistency(self.old, self.old_root, self.size, self.root, self.proof)


@dataclass(frozen=True)
class Signed:
    """A manifest with its signatures, verified as release 3 of the in-memory owner."""

    document: bytes
    signatures: bytes

    def verify(self) -> None:
        root = Owner().first_root()
        verify_manifest(root, self.document, self.signatures, version=3, last_seen=trusting(), now=NOW)


Vector = Inclusion | Consistency | Signed


def flipped(data: bytes, place: int = 0) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


def proof_mutations(proof: tuple[bytes, ...]) -> dict[str, tuple[bytes, ...]]:
    """Each a different proof than `proof`."""
    found = {
        "a hash more": (*proof, EMPTY),
        "a hash before": (EMPTY, *proof),
        "repeated": (*proof, *proof[-1:]) if proof else (EMPTY, EMPTY),
        "short hash": (*proof, b"\x00" * 31),
    }
    if proof:
        found |= {"a hash less": proof[:-1], "first left out": proof[1:], "emptied": ()}
        found |= {f"hash {n} changed": (*proof[:n], flipped(each), *proof[n + 1 :]) for n, each in enumerate(proof)}
    if len(set(proof)) > 1:
        found["reversed"] = proof[::-1]
    return {name: mutated for name, mutated in found.items() if mutated != proof}


def happy() -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    for size in (1, 2, 3, 5, 7, 8, 13):
        tree = Tree(str(place).encode() for place in range(size))
        for index in {0, size // 2, size - 1}:
            found[f"inclusion {index} of {size}"] = Inclusion(
                str(index).encode(), index, size, tree.root(), tuple(tree.inclusion(index, size))
            )
        for old in {1, size // 2, size - 1} - {0}:
            found[f"consistency {old} to {size}"] = Consistency(
                old, tree.root(old), size, tree.root(), tuple(tree.consistency(old, size))
            )
    document = Owner().manifest().to_bytes()
    found["manifest"] = Signed(document, sign(Kind.MANIFEST, document, KEYS[KeyRole.RELEASE]).to_bytes())
    return found


def mutated() -> dict[str, Vector]:
    found: dict[str, Vector] = {}
    for name, vector in happy().items():
        match vector:
            case Inclusion():
                changes = {
                    "other entry": replace(vector, entry=vector.entry + b"!"),
                    "entry as node": replace(vector, entry=b"\x01" + vector.entry),
                    "other root": replace(vector, root=flipped(vector.root)),
                    "empty root": replace(vector, root=EMPTY),
                    "index after": replace(vector, index=vector.index + 1),
                    "index outside": replace(vector, index=vector.size),
                    "negative index": replace(vector, index=-1),
                    "no leaves": replace(vector, size=0),
                    "huge tree": replace(vector, size=2**40),
                }
            case Consistency():
                changes = {
                    "other old root": replace(vector, old_root=flipped(vector.old_root)),
                    "other root": replace(vector, root=flipped(vector.root)),
                    "shrunk": replace(vector, old=vector.size + 1),
                    "negative": replace(vector, old=-1),
                    "huge tree": replace(vector, size=2**40),
                }
                if vector.old_root != vector.root:
                    changes["roots exchanged"] = replace(vector, old_root=vector.root, root=vector.old_root)
                    changes["said to be the whole"] = replace(vector, old=vector.size)
            case Signed():
                step = len(vector.document) // 40
                changes = {
                    f"byte {place}": replace(vector, document=flipped(vector.document, place))
                    for place in range(0, len(vector.document), step)
                }
                changes |= {
                    f"signature byte {place}": replace(vector, signatures=flipped(vector.signatures, place))
                    for place in range(0, len(vector.signatures), 8)
                }
                changes["cut"] = replace(vector, document=vector.document[:-1])
                changes["unsigned"] = replace(vector, signatures=b'{"signatures":[]}')
        if not isinstance(vector, Signed):
            changes |= {why: replace(vector, proof=proof) for why, proof in proof_mutations(vector.proof).items()}
        found |= {f"{name}, {why}": change for why, change in changes.items()}
    return found


HAPPY, MUTATED = happy(), mutated()


@pytest.mark.parametrize("name", HAPPY)
def test_a_happy_vector_passes(name: str) -> None:
    HAPPY[name].verify()


@pytest.mark.parametrize("name", MUTATED)
def test_a_mutated_vector_fails(name: str) -> None:
    with pytest.raises(VerificationFailure):
        MUTATED[name].verify()


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.data())
def test_every_proof_of_every_tree_leads_to_its_root_and_to_no_other(size: int, data: st.DataObject) -> None:
    tree = Tree(bytes([place]) for place in range(size))
    index, old = data.draw(st.integers(0, size - 1)), data.draw(st.integers(0, size))
    inclusion, consistency = tree.inclusion(index, size), tree.consistency(old, size)
    verify_inclusion(bytes([index]), index, size, tree.root(), inclusion)
    verify_consistency(old, tree.root(old), size, tree.root(), consistency)
    with pytest.raises(NotLogged):
        verify_inclusion(bytes([index + 1]), index, size, tree.root(), inclusion)
    with pytest.raises(Rewritten):
        verify_consistency(old, flipped(tree.root(old)), size, tree.root(), consistency)


# notes and checkpoints


def test_a_published_note_is_verified() -> None:
    """The example of the Go module that signed notes come from."""
    name, _, encoded = ["PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(encoded)[1:])
    note = (
        "If you think cryptography is the answer to your problem,\n"
        "then you don't know what your problem is.\n\n"
        "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
    ).encode()
    assert key_id(name, Algorithm.ED25519, public).hex() == "c74f20a3"
    assert Note.from_bytes(note).has_signature(name, public)
    with pytest.raises(BadSignature):
        Note.from_bytes(note.replace(b"answer", b"ANSWER")).has_signature(name, public)


def checkpoint(**change: object) -> Checkpoint:
    tree = Tree(ENTRIES)
    return replace(Checkpoint(origin("hospital"), len(tree), tree.root()), **change)  # type: ignore[arg-type]


def test_a_checkpoint_is_read_back_and_countersigned_under_the_time_it_was_seen() -> None:
    note = Note.from_bytes(checkpoint().signed(KEYS[KeyRole.LOG][0]))
    cosigned = Note.from_bytes(note.cosigned("consumer", key("witness"), NOW).to_bytes())
    assert verify_checkpoint(Owner().first_root(), cosigned.to_bytes()) == checkpoint()
    public = key("witness").public_key()
    assert cosigned.cosignature_time("consumer", public) == NOW
    assert cosigned.cosignature_time("another", public) is None
    later = cosigned.lines[1].signature[:7] + b"\xff" + cosigned.lines[1].signature[8:]
    forged = Note(cosigned.text, (cosigned.lines[0], replace(cosigned.lines[1], signature=later)))
    with pytest.raises(BadSignature):
        forged.cosignature_time("consumer", public)


def test_a_checkpoint_by_another_key_or_signed_twice_is_refused() -> None:
    root = Owner().first_root()
    with pytest.raises(UnderThreshold):
        verify_checkpoint(root, checkpoint().signed(key("mallory")))
    note = Note.from_bytes(checkpoint().signed(KEYS[KeyRole.LOG][0]))
    with pytest.raises(DuplicateKey):
        verify_checkpoint(root, Note(note.text, note.lines * 2).to_bytes())


BAD_LINES: dict[str, Callable[[str], str]] = {
    "no signature": lambda text: text.partition("\n\n")[0] + "\n\n",
    "no empty line": lambda text: text.replace("\n\n", "\n"),
    "hyphen for dash": lambda text: text.replace("— ", "- "),
    "unfinished": lambda text: text[:-1],
    "an empty line after": lambda text: text + "\n",
    "a line that is none": lambda text: text + "hello\n",
    "not base64": lambda text: text[:-4] + "*==\n",
    "loose base64": lambda text: text[:-2] + "\n",
    "plus in the name": lambda text: text.replace("— fair", "— f+ir"),
    "control character": lambda text: text.replace("8\n", "8\r\n", 1),
    "leading zero": lambda text: text.replace("\n8\n", "\n08\n"),
    "other digits": lambda text: text.replace("\n8\n", "\n٨\n"),
    "negative": lambda text: text.replace("\n8\n", "\n-8\n"),
    "extension": lambda text: text.replace("\n\n", "\nmore\n\n"),
}


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_checkpoint_of_another_form_is_refused(name: str) -> None:
    text = checkpoint().signed(KEYS[KeyRole.LOG][0]).decode()
    changed = BAD_LINES[name](text)
    assert changed != text
    with pytest.raises(NotCanonical):
        verify_checkpoint(Owner().first_root(), changed.encode())
