"""What is in place at a node and what to do about what is not."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime, timedelta
from functools import partial

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from data_owner import authority, release, roots, servable
from data_owner.digests import policy_id
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.preconditions import check_apart, check_bounded
from data_owner.privacy.budget import Budget
from data_owner.records.records_file import RecordsFile
from data_owner.records.undeclared import in_words, undeclared
from data_owner.release_status import next_step
from data_owner.steps import prepare
from protocol.access import RELEASE_SERVICE
from protocol.calls import CLIENT_OPTIONS
from protocol.invitation import Invitation
from protocol.root import KeyRole
from shared import keyring
from shared.clock import moment
from shared.diagnosis import Diagnosis, examine
from shared.errors import PolicyRefusal, Unreachable
from shared.limits import LIMITS

FREE_BYTES = 1024**3
SOON = timedelta(days=14)


def diagnose(node: Node) -> list[Diagnosis]:
    """Every check, in the order a person would fix them."""
    now = moment()
    checks = {
        "records": _records,
        "policy": _policy,
        "private files": _private,
        "privacy": _privacy,
        "keys": _keys,
        "root": _root,
        "egress log": _ledger,
        "releases": _releases,
        "enrolments": _enrolments,
        "listening": _listening,
        "disk": _disk,
    }
    return examine({name: partial(check, node, now) for name, check in checks.items()})


def _records(node: Node, now: datetime) -> str:
    """All that `train` refuses before it charges or trains, what a gate would then of records as they are, and what
    becomes of the microdata that is there."""
    settings = read_settings(node)
    check_bounded(node, settings)
    privacy, on_disk = settings.privacy, RecordsFile(node.records)
    if privacy is not None:
        from data_owner.privacy import microdata  # brings JAX, which nothing else needs

        if microdata.charge_of(node, settings) is None:
            rho = Budget(node.budget).next_rho(privacy)
            records, _, _ = microdata.planned(on_disk, settings, privacy, rho)
            astray = undeclared(on_disk.table, settings)
            text = f"{len(records.frame):,} rows, {len(records.columns)} columns"
            text += f"; {in_words(astray)}" if astray else ""
            if len(records.frame) == 0 or "most" in astray.values():
                raise PolicyRefusal(text)
            return text
    prepared = prepare(node, settings, on_disk)
    rows, of = len(prepared.training) + len(prepared.held_out), "" if privacy is None else " of microdata"
    earlier = check_apart(node, settings, on_disk)
    text = f"{rows:,} rows{of}, {len(prepared.schema.columns)} columns"
    return f"{text}; {earlier}" if earlier else text


def _policy(node: Node, now: datetime) -> str:
    return f"{policy_id(read_settings(node))[:16]}…, as owner.toml says now"


def _private(node: Node, now: datetime) -> str:
    places = (node.keys, node.budget, *node.withheld)
    files = [path for place in places for path in (place, *place.rglob("*")) if path.is_file()]
    loose = [str(path.relative_to(node.folder)) for path in files if path.stat().st_mode & 0o077]
    if loose:
        raise Unreachable("others can read it", field=", ".join(loose), remedy="run chmod 600 on it")
    keyring.check_named_file()
    if node.folder.stat().st_mode & 0o011:  # else nobody gets in
        within = [path for path in (node.folder, *node.folder.rglob("*")) if path.exists()]
        if open_to_all := [str(path) for path in within if path.stat().st_mode & 0o022]:
            raise Unreachable(
                "others can write there", field=", ".join(open_to_all), remedy=f"run chmod 700 on {node.folder}"
            )
    return "readable by the owner only"


def _privacy(node: Node, now: datetime) -> str:
    privacy = read_settings(node).privacy
    charges = len(Budget(node.budget).charges())
    if privacy is None:
        return f"no [privacy] in owner.toml: nothing bounds memorisation; {charges} charges"
    spent = Budget(node.budget).spent(privacy.delta).epsilon
    text = f"ε {spent:.3f} of {privacy.epsilon:g} is spent in {charges} charges"
    if spent > privacy.epsilon:
        raise PolicyRefusal(text, remedy="put back the budget that owner.toml had")
    return text


def _keys(node: Node, now: datetime) -> str:
    authority.issuer(node)
    authority.key_file(node, authority.SERVER_KEY)
    ends = authority.check_in_date(node, now)
    if ends - now < timedelta(days=LIMITS.authority_warning_days):
        raise PolicyRefusal(f"ends {ends:%Y-%m-%d}", field="authority", remedy=authority.NEW_NODE)
    return f"authority until {ends:%Y-%m-%d}; `serve` makes and renews the server's certificate"


def _root(node: Node, now: datetime) -> str:
    root = roots.newest(node)
    for role in roots.ONLINE:
        roots.signing_key(node, role)
    ends = datetime.fromtimestamp(root.expires, UTC)
    if ends - now < SOON:
        raise PolicyRefusal(f"ends {ends:%Y-%m-%d}", remedy="propose, sign and install the next with `root`")
    held = root.roles[KeyRole.ROOT]
    text = f"version {root.version}, sha256 {root.digest}, until {ends:%Y-%m-%d}"
    text += f", {held.threshold} of {len(held.key_ids)} root keys must sign"
    if list(node.keys.glob(f"{KeyRole.ROOT}-*.key")):
        text += "; the root key is on this machine: for service, rotate to keys kept offline"
    if keyring.given() is None:
        text += f"; the passphrase lies beside the keys: for service, give it with {keyring.FILE_VARIABLE}"
    return text


def _ledger(node: Node, now: datetime) -> str:
    Ledger.check_writable(node.ledger)
    with Ledger(node.ledger) as log:
        return f"{len(log.entries()):,} entries, every one within its rules"


def _releases(node: Node, now: datetime) -> str:
    """Verifies again, from disk, what is out: every byte of it."""
    at = int(now.timestamp())
    found = {version: release.standing(node, version) for version in release.versions(node)}
    states = ", ".join(f"{version} {each.state}" for version, each in found.items())
    if not found:
        raise PolicyRefusal("none yet; nothing to serve", remedy="run train, gate, approve")
    if faults := servable.faults(node, at, roots.newest(node)):
        raise Unreachable(f"{states}; {'; '.join(map(str, faults.values()))}")
    offered = servable.manifests(node, at)
    if not offered:
        newest = max(found)
        with Ledger(node.ledger) as log:
            people = log.overrides(newest, found[newest].findings)
        raise PolicyRefusal(f"{states}; nothing to serve", remedy=next_step(found[newest], people))
    ends = datetime.fromtimestamp(offered[max(offered)].expires, UTC)
    if ends - now < SOON:
        raise PolicyRefusal(f"{states}; the last ends {ends:%Y-%m-%d}", remedy="run train, gate, approve")
    return f"{states}; until {ends:%Y-%m-%d}"


def _enrolments(node: Node, now: datetime) -> str:
    if faults := authority.faults(node):
        raise Unreachable("; ".join(map(str, faults)))
    entries = authority.enrolments(node)
    counts = {decision: sum(entry.decision is decision for entry in entries) for decision in authority.Decision}
    return ", ".join(f"{count} {decision}" for decision, count in counts.items())


def _listening(node: Node, now: datetime) -> str:
    """Ask the enrolment port, over the network, whether releases are ready.

    On this machine first: the name by which analysts come may lead nowhere from here.
    """
    start = "start it with `fair4free-owner serve`"
    if not node.invitation.is_file():
        raise Unreachable("never served", remedy=start)
    invitation = Invitation.from_bytes(node.invitation.read_bytes())
    credentials = grpc.ssl_channel_credentials(invitation.certificate_authority.encode())
    here = f"127.0.0.1:{invitation.enrolment_address.rpartition(':')[2]}"
    places = dict.fromkeys((here, invitation.enrolment_address))
    for address in places:
        with grpc.secure_channel(address, credentials, CLIENT_OPTIONS) as channel:
            try:
                request = health_pb2.HealthCheckRequest(service=RELEASE_SERVICE)
                status = health_pb2_grpc.HealthStub(channel).Check(request, timeout=LIMITS.connect_seconds).status
            except grpc.RpcError:
                continue
        if status != health_pb2.HealthCheckResponse.SERVING:
            raise Unreachable("not ready: it is stopping, or another line says what is wrong", field=address)
        return f"fingerprint {invitation.fingerprint}, of the invitation; {address} is ready"
    authority.check_in_date(node, now)  # else whoever is there cannot be heard
    raise Unreachable("nobody answers", field=" or ".join(places), remedy=start)


def _disk(node: Node, now: datetime) -> str:
    free = shutil.disk_usage(node.folder).free
    text = f"{free / FREE_BYTES:.1f} GiB free"
    if free < FREE_BYTES:
        raise Unreachable(text, remedy="free at least 1 GiB")
    return text
