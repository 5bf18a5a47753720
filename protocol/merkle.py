"""The Merkle hash tree of RFC 6962 section 2.1: tree hashes, inclusion proofs and consistency proofs.

Verification follows the iterative algorithms of RFC 9162 sections 2.1.3.2 and 2.1.4.2. Hashes are 32 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

from protocol.refusals import NotLogged, Rewritten

EMPTY = hashlib.sha256(b"").digest()

_REMEDY = "keep what you have as evidence; ask the owner, by telephone, why the log does not prove it"


def leaf_hash(entry: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """An append-only tree. It keeps the hash of every complete subtree, so each answer costs O(log² n)."""

    def __init__(self, entries: Iterable[bytes] = ()) -> None:
        self._levels: list[list[bytes]] = [[]]
        for entry in entries:
            self.append(entry)

    def __len__(self) -> int:
        return len(self._levels[0])

    def append(self, entry: bytes) -> None:
        found = leaf_hash(entry)
        for level in self._levels:
            level.append(found)
            if len(level) % 2:
                return
            found = node_hash(level[-2], level[-1])
        self._levels.append([found])

    def root(self, size: int | None = None) -> bytes:
        """MTH(D[0:size]), of the whole tree if not given. Needs size <= len(self)."""
        size = len(self) if size is None else size
        return self._hash(0, size) if size else EMPTY

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """PATH(index, D[0:size]). Needs index < size <= len(self)."""
        return self._path(index, 0, size)

    def consistency(self, old: int, size: int) -> list[bytes]:
        """PROOF(old, D[0:size]); empty when old is 0 or size. Needs old <= size <= len(self)."""
        return self._subproof(old, 0, size, True) if 0 < old < size else []

    def _hash(self, start: int, stop: int) -> bytes:
        count = stop - start
        if count & (count - 1) == 0 and start % count == 0:
            return self._levels[count.bit_length() - 1][start // count]
        middle = start + _split(count)
        return node_hash(self._hash(start, middle), self._hash(middle, stop))

    def _path(self, index: int, start: int, stop: int) -> list[bytes]:
        if stop - start == 1:
            return []
        middle = start + _split(stop - start)
        if index < middle:
            return [*self._path(index, start, middle), self._hash(middle, stop)]
        return [*self._path(index, middle, stop), self._hash(start, middle)]

    def _subproof(self, old: int, start: int, stop: int, is_old_tree: bool) -> list[bytes]:
        if old == stop:
            return [] if is_old_tree else [self._hash(start, stop)]
        middle = start + _split(stop - start)
        if old <= middle:
            return [*self._subproof(old, start, middle, is_old_tree), self._hash(middle, stop)]
        return [*self._subproof(old, middle, stop, False), self._hash(start, middle)]


def verify_inclusion(entry: bytes, index: int, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Raises `NotLogged` unless `entry` is leaf `index` of the tree of `size` leaves with this root."""
    if not 0 <= index < size:
        raise _not_logged("the index is not inside the tree")
    _check_hashes(proof, NotLogged)
    node, last, found = index, size - 1, leaf_hash(entry)
    for sibling in proof:
        if last == 0:
            raise _not_logged("the inclusion proof is too long")
        if node & 1 or node == last:
            found = node_hash(sibling, found)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or found != root:
        raise _not_logged("the inclusion proof does not lead to the root of the log")


def verify_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Raises `Rewritten` unless the tree of `size` leaves begins with the whole tree of `old` leaves."""
    if not 0 <= old <= size:
        raise _rewritten("the log has become shorter")
    _check_hashes(proof, Rewritten)
    if old in (0, size):
        same = old_root == (EMPTY if old == 0 else root)
        if proof or not same:
            raise _rewritten("the log of this size has another root")
        return
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise _rewritten("the consistency proof is empty")
    node, last = old - 1, size - 1
    while node & 1:
        node, last = node >> 1, last >> 1
    before = after = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise _rewritten("the consistency proof is too long")
        if node & 1 or node == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while node and not node & 1:
                node, last = node >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        node, last = node >> 1, last >> 1
    if last != 0 or before != old_root or after != root:
        raise _rewritten("the log does not continue the one already seen")


def _split(count: int) -> int:
    """The largest power of two smaller than `count`."""
    return 1 << (count - 1).bit_length() - 1


def _check_hashes(proof: Sequence[bytes], error: type[NotLogged] | type[Rewritten]) -> None:
    if any(len(each) != 32 for each in proof):
        raise error("a hash of the proof is not 32 bytes", field="log", remedy=_REMEDY)


def _not_logged(problem: str) -> NotLogged:
    return NotLogged(problem, field="log", remedy=_REMEDY)


def _rewritten(problem: str) -> Rewritten:
    return Rewritten(problem, field="log", remedy=_REMEDY)
