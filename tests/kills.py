"""A process that forks one child for each kill: owner's and consumer's writes, stopped by SIGKILL wherever it lands.

It imports neither torch nor a channel of gRPC, so that a fork costs milliseconds. Run as
`python -m tests.kills FOLDER KILLS`; prints one JSON object and exits 1 at the first broken promise.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from consumer import fetching
from consumer.study import Study
from data_owner import authority, release, roots, servable
from data_owner.ledger import Ledger, new_entry
from data_owner.node import Node
from data_owner.settings import AttackLimits
from protocol import identity
from protocol.artefacts import PAYLOAD, Artefact
from protocol.checkpoint import Checkpoint, origin
from protocol.entry import Approval, Denial, Enrolment, Revocation, Served, parse_entry
from protocol.merkle import Tree
from protocol.root import KeyRole
from protocol.signing import Kind
from protocol.trust import LastSeen, LogProof, TrustedRelease, verify_release
from shared import folder
from tests.owner_in_memory import NOW, Owner, honest_log, study_at, trusting

POLICY = "ab" * 32
ARTEFACTS = {kind: kind.encode() * 4000 for kind in PAYLOAD}
ATTACKS = b"attacks" * 400
Acknowledge = Callable[[str], None]
Keys = Mapping[KeyRole, Ed25519PrivateKey]


def make_node(path: Path) -> Node:
    node = Node(path)
    path.mkdir()
    authority.create_keys(node, "hospital", datetime.now(UTC))
    roots.create(node, "hospital", NOW)
    Ledger.create(node.ledger)
    node.settings.write_text("")
    return node


def owner_writes(node: Node, keys: Keys, acknowledge: Acknowledge) -> None:
    """A release from draft to served and denied, and a party let in and sent away, each step acknowledged when done."""
    draft = {kind: data for kind, data in ARTEFACTS.items() if kind is not Artefact.CARD}
    draft[Artefact.DECODER] += bytes(len(release.versions(node)))  # what was denied is never approved again
    version = release.write_draft(node, draft, "cd" * 32, NOW, teacher_sha256="ef" * 32, rows=b"rows", charges=0)
    acknowledge(f"draft {version}")
    folder.write(node.attacks(version), ATTACKS, folder.PRIVATE)
    found = release.findings_digest(ATTACKS, POLICY)
    card = ARTEFACTS[Artefact.CARD]
    release.record_measured(
        node, version, card, 600, (), POLICY, NOW, exceeded=(), findings=found, limits=AttackLimits()
    )
    release.approve(
        node,
        version,
        name="hospital",
        by="Ada",
        key=lambda: keys[KeyRole.RELEASE],
        compared=lambda: "",
        policy_id=POLICY,
        privacy="none",
        days=9,
        now=NOW,
    )
    acknowledge(f"approval {version}")
    request = identity.new_request(identity.new_key(), "analyst")
    party = identity.request_fingerprint(request)
    authority.receive(node, request, datetime.now(UTC))
    authority.decide(node, party, authority.Decision.APPROVED, by="Ada", now=datetime.now(UTC))
    acknowledge(f"enrolment {party}")
    trusted = servable.load(node, version, NOW, roots.newest(node))[2]
    release.mark_served(node, version, NOW)
    with Ledger(node.ledger) as log:
        for kind in PAYLOAD:
            digest = trusted.manifest.artefacts[kind]
            log.append(
                new_entry(
                    Served,
                    at=NOW,
                    party=party,
                    version=version,
                    artefact=kind,
                    sha256=digest.sha256,
                    offset=0,
                    length=digest.length,
                )
            )
            acknowledge(f"served {version} {kind}")
        log.checkpoint(origin("hospital"), keys[KeyRole.LOG])
    authority.decide(node, party, authority.Decision.DENIED, by="Ada", now=datetime.now(UTC))
    acknowledge(f"revocation {party}")
    release.deny(node, version, by="Ada", reason="recalled", now=NOW)
    acknowledge(f"denial {version}")


def check_owner(node: Node, keys: Keys, acknowledged: list[str], before: Checkpoint) -> None:
    """The log continues what it was, holds all that was acknowledged, and what may be served is whole and logged."""
    with Ledger(node.ledger) as log:  # opening replays the rules over every entry
        entries = log.entries()
        log.checkpoint(origin("hospital"), keys[KeyRole.LOG])
    tree = Tree(entries)
    assert tree.root(before.size) == before.root_hash, "the log was rewritten"
    logged, approved, denied = set(), set(), set()
    let_in: dict[str, bool] = {}
    for entry in map(parse_entry, entries):
        match entry:
            case Approval():
                logged.add(f"approval {entry.version}")
                approved.add((entry.version, entry.manifest.sha256))
            case Denial():
                logged.add(f"denial {entry.version}")
                denied.add(entry.version)
            case Enrolment():
                logged.add(f"enrolment {entry.party}")
                let_in[entry.party] = True
            case Revocation():
                logged.add(f"revocation {entry.party}")
                let_in[entry.party] = False
            case Served():
                logged.add(f"served {entry.version} {entry.artefact}")
    versions = release.versions(node)
    logged |= {f"draft {version}" for version in versions}
    missing = set(acknowledged) - logged
    assert not missing, f"acknowledged and lost: {missing}"
    for version, manifest in servable.manifests(node, NOW).items():
        assert (version, manifest.digest) in approved, "a release is served that the log does not know"
        servable.load(node, version, NOW, roots.newest(node))
    for version in versions:
        release.status(node, version)
    # what is granted is logged first, what is withdrawn is withdrawn first
    assert not denied & set(servable.manifests(node, NOW)), "a denied release is served"
    for each in authority.enrolments(node):
        assert each.decision is not authority.Decision.APPROVED or let_in.get(each.fingerprint), (
            "a party is let in that the log does not know, or knows as revoked"
        )


def consumer_release() -> tuple[TrustedRelease, LogProof]:
    owner = Owner(artefacts=ARTEFACTS)
    manifest = owner.manifest()
    log = [entry.to_bytes() for entry in honest_log(manifest)]
    tree = Tree(log)
    proof = LogProof.of(owner.checkpoint(), log[2], 2, tree.inclusion(2, len(log)))
    return verify_release(manifest, ARTEFACTS), proof


TRUSTED, PROOF = consumer_release()
SIGNATURES = Owner(artefacts=ARTEFACTS).signed(KeyRole.RELEASE, Kind.MANIFEST, TRUSTED.manifest.to_bytes())[1]


def make_study(path: Path) -> Study:
    return study_at(path, trusting())


def consumer_writes(study: Study, acknowledge: Acknowledge) -> None:
    """What a fetch keeps: first what is fresh, then the release, then that it was seen."""
    seen = study.last_seen().model_copy(update={"freshness": NOW})
    study.remember(seen)
    acknowledge(f"freshness {NOW}")
    seen = seen.model_copy(update={"checkpoint": PROOF.checkpoint})
    fetching.keep(study, TRUSTED, SIGNATURES, PROOF, seen)
    acknowledge("release 3")


def check_consumer(study: Study, acknowledged: list[str]) -> None:
    """What was seen never falls back, and a release is there whole or not at all."""
    seen = study.last_seen()
    assert "release 3" not in acknowledged or seen.release == 3, "an accepted release was forgotten"
    assert not acknowledged or seen.freshness == NOW, "what was fresh was forgotten"
    place = study.release(3)
    if place.exists():
        for kind in PAYLOAD:
            assert (place / kind.filename).read_bytes() == ARTEFACTS[kind], "half a release"
    if seen.release:
        fetching.verify(study, NOW)
    fetching.keep(study, TRUSTED, SIGNATURES, PROOF, replace_checkpoint(seen))  # the next fetch completes it
    fetching.verify(study, NOW)


def replace_checkpoint(seen: LastSeen) -> LastSeen:
    return seen.model_copy(update={"checkpoint": PROOF.checkpoint})


def killed(work: Callable[[Acknowledge], None], at_point: int, after: float) -> tuple[list[str], bool, int]:
    """Run `work` in a child, killed at its n-th write point (0: never) or after some seconds (0: never).

    Returns what it acknowledged, whether it was killed and how many write points it passed.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        points = 0

        def point(event: str, arguments: object) -> None:
            nonlocal points
            if event in WRITES:
                points += 1
                if points == at_point:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(point)
        connect = sqlite3.connect

        def traced(*arguments: object, **options: object) -> sqlite3.Connection:
            found: sqlite3.Connection = connect(*arguments, **options)  # type: ignore[call-overload]
            found.set_trace_callback(lambda statement: point("sqlite", statement))
            return found

        sqlite3.connect = traced  # type: ignore[assignment]
        fsync = os.fsync

        def synced(handle: int) -> None:
            point("fsync", handle)
            fsync(handle)

        os.fsync = synced
        code = 1
        try:
            work(lambda text: os.write(writer, text.encode() + b"\n") and None)
            os.write(writer, f"points {points}\n".encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writer)
    if after:
        time.sleep(after)
        os.kill(child, signal.SIGKILL)
    with os.fdopen(reader) as stream:
        lines = stream.read().splitlines()
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0, "the work failed by itself"
    points = next((int(line.split()[1]) for line in lines if line.startswith("points")), 0)
    return [line for line in lines if not line.startswith("points")], os.WIFSIGNALED(status), points


WRITES = {
    "open",
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.link",
    "tempfile.mkstemp",
    "tempfile.mkdtemp",
    "sqlite",
    "fsync",
}


def main(folder: Path, wanted: int) -> None:
    draw = random.Random(0)
    template, study = make_node(folder / "template"), make_study(folder / "study")
    keys = {role: roots.signing_key(template, role) for role in (KeyRole.RELEASE, KeyRole.LOG)}
    counts = {"owner": 0, "consumer": 0}
    start = time.monotonic()
    _, _, owner_points = killed(lambda acknowledge: owner_writes(template, keys, acknowledge), 0, 0)
    seconds = time.monotonic() - start
    with Ledger(template.ledger) as log:
        before = Checkpoint.from_note(log.checkpoint(origin("hospital"), keys[KeyRole.LOG]))

    def owner(at_point: int, after: float) -> None:
        node = Node(folder / "node")
        shutil.rmtree(node.folder, ignore_errors=True)
        shutil.copytree(template.folder, node.folder)
        acknowledged, was_killed, _ = killed(lambda acknowledge: owner_writes(node, keys, acknowledge), at_point, after)
        check_owner(node, keys, acknowledged, before)
        counts["owner"] += was_killed

    def forget() -> None:
        shutil.rmtree(study.folder / "releases", ignore_errors=True)
        study.last_seen_file.unlink(missing_ok=True)

    def consumer(at_point: int, after: float) -> None:
        forget()
        acknowledged, was_killed, _ = killed(lambda acknowledge: consumer_writes(study, acknowledge), at_point, after)
        check_consumer(study, acknowledged)
        counts["consumer"] += was_killed

    forget()
    _, _, consumer_points = killed(lambda acknowledge: consumer_writes(study, acknowledge), 0, 0)
    for at_point in range(1, consumer_points + 1):
        consumer(at_point, 0)
    for at_point in range(1, owner_points + 1):
        owner(at_point, 0)
    while sum(counts.values()) < wanted:
        owner(0, draw.uniform(0.002, seconds))
        consumer(0, draw.uniform(0.0005, 0.01))
    print(json.dumps({**counts, "owner_points": owner_points, "consumer_points": consumer_points}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
