"""What is in place at a node and what to do about what is not."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from data_owner import authority, release, roots
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.preconditions import check_bounded, policy_id
from data_owner.privacy.budget import Budget
from data_owner.records.undeclared import MOST, in_words, undeclared
from data_owner.steps import prepare
from protocol import identity
from protocol.calls import CLIENT_OPTIONS, RELEASE_SERVICE
from protocol.invitation import Invitation
from protocol.root import KeyRole
from shared import keyring
from shared.diagnosis import Diagnosis
from shared.errors import Fair4FreeError
from shared.limits import LIMITS
from shared.table import read_table

FREE_BYTES = 1024**3
SOON = timedelta(days=14)


def diagnose(node: Node) -> list[Diagnosis]:
    """Every check, in the order a person would fix them."""
    now = datetime.now(UTC)
    checks = (_records, _policy, _private, _budget, _keys, _root, _ledger, _releases, _enrolments, _listening, _disk)
    found = []
    for check in checks:
        try:
            found.append(check(node, now))
        except (Fair4FreeError, OSError) as error:
            found.append(Diagnosis(check.__name__.strip("_"), False, str(error)))
    return found


def _records(node: Node, now: datetime) -> Diagnosis:
    """All that `train` refuses before it charges or trains, and what becomes of the microdata that is there."""
    settings = read_settings(node)
    check_bounded(node, settings)
    privacy = settings.privacy
    if privacy is not None:
        from data_owner.privacy import microdata  # brings JAX, which nothing else needs

        if microdata.charge_of(node, settings) is None:
            rho = Budget(node.budget).next_rho(privacy)
            records, _, _ = microdata.planned(node, settings, privacy, rho)
            astray = undeclared(read_table(node.records), settings)
            sound = len(records.frame) > 0 and max(astray.values(), default=0.0) <= MOST
            text = f"{len(records.frame):,} rows, {len(records.columns)} columns"
            return Diagnosis("records", sound, f"{text}; {in_words(astray)}" if astray else text)
    prepared = prepare(node, settings)
    rows, of = len(prepared.training) + len(prepared.held_out), "" if privacy is None else " of microdata"
    return Diagnosis("records", True, f"{rows:,} rows{of}, {len(prepared.schema.columns)} columns")


def _policy(node: Node, now: datetime) -> Diagnosis:
    return Diagnosis("policy", True, f"{policy_id(read_settings(node))[:16]}…, as owner.toml says now")


def _private(node: Node, now: datetime) -> Diagnosis:
    places = (node.keys, node.budget, *node.withheld)
    files = [path for place in places for path in (place, *place.rglob("*")) if path.is_file()]
    loose = [str(path.relative_to(node.folder)) for path in files if path.stat().st_mode & 0o077]
    fix = f"others can read {', '.join(loose)}: run chmod 600" if loose else "readable by the owner only"
    return Diagnosis("private files", not loose, fix)


def _budget(node: Node, now: datetime) -> Diagnosis:
    privacy = read_settings(node).privacy
    charges = len(Budget(node.budget).charges())
    if privacy is None:
        return Diagnosis("privacy", True, f"no [privacy] in owner.toml: nothing bounds memorisation; {charges} charges")
    spent = Budget(node.budget).spent(privacy.delta).epsilon
    text = f"ε {spent:.3f} of {privacy.epsilon:g} is spent in {charges} charges"
    return Diagnosis("privacy", spent <= privacy.epsilon, text)


def _keys(node: Node, now: datetime) -> Diagnosis:
    for key in (authority.AUTHORITY_KEY, authority.SERVER_KEY):
        authority.key_file(node, key)
    ends = identity.certificate_expires(authority.key_file(node, authority.AUTHORITY))
    server = identity.certificate_expires(authority.key_file(node, authority.SERVER))
    if ends - now < timedelta(days=LIMITS.certificate_days):
        return Diagnosis("keys", False, f"the authority ends {ends:%Y-%m-%d}: make a new node and invite everyone anew")
    return Diagnosis(
        "keys", True, f"authority until {ends:%Y-%m-%d}, server until {server:%Y-%m-%d}; `serve` renews it"
    )


def _root(node: Node, now: datetime) -> Diagnosis:
    root = roots.newest(node)
    for role in roots.ONLINE:
        roots.signing_key(node, role)
    ends = datetime.fromtimestamp(root.expires, UTC)
    if ends - now < SOON:
        return Diagnosis("root", False, f"ends {ends:%Y-%m-%d}: propose, sign and install the next with `root`")
    held = root.roles[KeyRole.ROOT]
    text = f"version {root.version} until {ends:%Y-%m-%d}, {held.threshold} of {len(held.key_ids)} root keys must sign"
    if list(node.keys.glob(f"{KeyRole.ROOT}-*.key")):
        text += "; the root key is on this machine: for service, rotate to keys kept off line"
    if keyring.given() is None:
        text += f"; the passphrase lies beside the keys: for service, give it with {keyring.FILE_VARIABLE}"
    return Diagnosis("root", True, text)


def _ledger(node: Node, now: datetime) -> Diagnosis:
    Ledger.check_writable(node.ledger)
    with Ledger(node.ledger) as log:
        return Diagnosis("egress log", True, f"{len(log.entries()):,} entries, every one within its rules")


def _releases(node: Node, now: datetime) -> Diagnosis:
    found = {version: release.status(node, version) for version in release.versions(node)}
    states = ", ".join(f"{version} {each.state}" for version, each in found.items())
    servable = release.servable(node, int(now.timestamp()))
    if not servable:
        then = release.next_step(found[max(found)]) if found else "run train, gate, approve"
        return Diagnosis("releases", False, f"{states or 'none yet'}; nothing to serve: {then}")
    ends = datetime.fromtimestamp(servable[max(servable)].expires, UTC)
    if ends - now < SOON:
        return Diagnosis("releases", False, f"{states}; the last ends {ends:%Y-%m-%d}: run train, gate, approve")
    return Diagnosis("releases", True, f"{states}; until {ends:%Y-%m-%d}")


def _enrolments(node: Node, now: datetime) -> Diagnosis:
    entries = authority.enrolments(node)
    counts = {decision: sum(entry.decision is decision for entry in entries) for decision in authority.Decision}
    return Diagnosis("enrolments", True, ", ".join(f"{count} {decision}" for decision, count in counts.items()))


def _listening(node: Node, now: datetime) -> Diagnosis:
    """Ask the enrolment port, over the network, whether releases are ready.

    On this machine first: the name by which analysts come may lead nowhere from here.
    """
    fix = "start it with `fair4free-owner serve`"
    if not node.invitation.is_file():
        return Diagnosis("listening", False, f"never served: {fix}")
    invitation = Invitation.from_bytes(node.invitation.read_bytes())
    credentials = grpc.ssl_channel_credentials(invitation.certificate_authority.encode())
    places = f"127.0.0.1:{invitation.enrolment_address.rpartition(':')[2]}", invitation.enrolment_address
    for address in places:
        with grpc.secure_channel(address, credentials, CLIENT_OPTIONS) as channel:
            try:
                request = health_pb2.HealthCheckRequest(service=RELEASE_SERVICE)
                status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=LIMITS.connect_seconds).status
            except grpc.RpcError:
                continue
        ready = status == health_pb2.HealthCheckResponse.SERVING
        text = "ready" if ready else "not ready: it is stopping, or another line says what is wrong"
        return Diagnosis("listening", ready, f"{address} {text}; invitation {invitation.fingerprint}")
    return Diagnosis("listening", False, f"nobody answers at {' or '.join(places)}: {fix}")


def _disk(node: Node, now: datetime) -> Diagnosis:
    free = shutil.disk_usage(node.folder).free
    text = f"{free / FREE_BYTES:.1f} GiB free"
    return Diagnosis("disk", free >= FREE_BYTES, text if free >= FREE_BYTES else f"{text}: free at least 1 GiB")
