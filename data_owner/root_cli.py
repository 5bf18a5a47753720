"""fair4free-owner root: the key ceremony. `key` and `sign` need no node and no network, only the medium of the key."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from data_owner.arguments import NodePath, check_is_file_name
from shared.console import Json, shell

if TYPE_CHECKING:
    from protocol.root import Root

app = typer.Typer(
    help="The root of trust: make its keys, sign offline, rotate.", no_args_is_help=True, suggest_commands=False
)

Document = Annotated[Path, typer.Argument(metavar="DOCUMENT", help="The proposed root; its signatures lie beside it.")]


@app.command()
def key(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Sealed key to make, on a medium that can be removed.")],
    json: Json = False,
) -> None:
    """Make a root key, sealed with a passphrase, and its public half beside it as FILE.pub."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from shared import folder, keyring

    with shell("root key", json) as out:
        check_is_file_name(file, "FILE")
        public_half = file.with_suffix(file.suffix + ".pub")
        _refuse_to_replace(file, public_half, remedy="choose another path")
        made = Ed25519PrivateKey.generate()
        public = made.public_key().public_bytes_raw().hex()
        keyring.create(file, made, keyring.given() or _ask(confirm=True))
        folder.write(public_half, public.encode() + b"\n")
        out.result({"path": str(file), "public": public}, f"public key {public}")


@app.command()
def show(node: NodePath, json: Json = False) -> None:
    """The root in force: version, expiry, and which keys speak for the node."""
    from data_owner import roots
    from data_owner.node import Node

    with shell("root show", json) as out:
        root = roots.newest(Node.open(node))
        lines = [f"version {root.version}, expires {root.last_day}"]
        for role, keys in root.roles.items():
            lines.append(f"{role}: {keys.threshold} of {len(keys.key_ids)}")
            lines += [f"  {root.keys[identifier]}" for identifier in keys.key_ids]
        out.result(root.model_dump(mode="json"), "\n".join(lines))


@app.command()
def propose(
    node: NodePath,
    document: Annotated[Path, typer.Option("--out", help="Document to write, for the root keys to sign.")],
    key: Annotated[list[Path] | None, typer.Option(help="FILE.pub of a root key; repeat. Default: same keys.")] = None,
    threshold: Annotated[int | None, typer.Option(min=1, help="How many root keys must sign.")] = None,
    renew: Annotated[list[str] | None, typer.Option(help="Role to give a new key: release, freshness, log.")] = None,
    json: Json = False,
) -> None:
    """Write the next root, one version up, unsigned."""
    from data_owner import roots
    from data_owner.node import Node
    from shared import folder
    from shared.clock import now
    from shared.limits import LIMITS

    with shell("root propose", json) as out:
        check_is_file_name(document, "--out")
        # signatures of another proposal, left beside this one, would make its installation fail
        _refuse_to_replace(
            document,
            document.with_suffix(".sig"),
            remedy="choose another path, or remove it and its .sig first",
        )
        remedy = "give the .pub file of a root key"
        given = [folder.read(path, remedy, LIMITS.public_key_bytes) for path in key or ()]
        keys = [each.decode(errors="replace").strip() for each in given]
        root = roots.propose(Node.open(node), now(), keys, threshold, renew or ())
        folder.write(document, root.to_bytes())
        values, words = _described(root)
        out.result(values, f"root {root.version} proposed, {words}. Sign it with the old and the new root keys.")


@app.command()
def sign(
    document: Document,
    key: Annotated[Path, typer.Option(help="Sealed root key.")],
    json: Json = False,
) -> None:
    """Sign a proposed root. Compare the digest it prints with the one that `root propose` printed, and see when it
    ends."""
    from data_owner import roots
    from shared import folder, keyring
    from shared.sealed_key import unseal

    with shell("root sign", json) as out:
        (proposed, root), place = _proposed(document), document.with_suffix(".sig")
        signed = _signatures(place) if place.exists() else None
        sealed = keyring.sealed(key)  # before a person is asked for its passphrase
        beside = (key.parent / keyring.BESIDE).is_file()
        passphrase = keyring.passphrase_of(key.parent) if keyring.given() or beside else _ask(confirm=False)
        folder.write(place, roots.add_signature(proposed, signed, unseal(sealed, passphrase, str(key))))
        values, words = _described(root)
        out.result(
            values | {"signatures": str(place)}, f"root {root.version}, {words}: signed in {place}, of {root.node}."
        )


@app.command()
def install(node: NodePath, document: Document, json: Json = False) -> None:
    """Make a signed root the one in force: old and new thresholds must have signed it."""
    from data_owner import roots
    from data_owner.node import Node
    from shared.clock import now

    with shell("root install", json) as out:
        opened, (proposed, _) = Node.open(node), _proposed(document)
        root = roots.install(opened, proposed, _signatures(document.with_suffix(".sig")), now())
        out.result(
            {"version": root.version}, f"root {root.version} is in force. Consumers follow with their next fetch."
        )


def _proposed(document: Path) -> tuple[bytes, Root]:
    """A root to be signed or installed. Raises `Unreachable` for one that is not there or that a medium damaged,
    `BadInput` for no document at all."""
    from protocol.root import Root
    from shared import folder

    proposed = folder.read(document, "give the document that `root propose` wrote", Root.most_bytes)
    with folder.intact(document, f"copy {document.name} again; if it stays so, do not sign it: ask who proposed it"):
        return proposed, Root.from_bytes(proposed)


def _signatures(place: Path) -> bytes:
    """Those beside a root. Raises `Unreachable` where none are, or a medium damaged them."""
    from protocol.signing import Signatures
    from shared import folder

    again = f"copy {place.name} again"
    signatures = folder.read(place, f"sign the document with `root sign`, or {again}", Signatures.most_bytes)
    with folder.intact(place, f"{again}, or remove it and let every holder sign again"):
        Signatures.from_bytes(signatures)
    return signatures


def _described(root: Root) -> tuple[dict[str, int | str], str]:
    """What a holder compares before signing, for the JSON result and in words."""
    from protocol.root import KeyRole

    keys = root.roles[KeyRole.ROOT]
    needed, held = keys.threshold, len(keys.key_ids)
    values: dict[str, int | str] = {
        "version": root.version,
        "sha256": root.digest,
        "threshold": needed,
        "root_keys": held,
        "expires": root.expires,
    }
    return values, f"sha256 {root.digest}, {needed} of {held} root keys must sign, ends {root.last_day}"


def _refuse_to_replace(*paths: Path, remedy: str) -> None:
    """Raises `BadInput` if one of these is there."""
    from shared import folder

    for path in paths:
        if path.exists():
            raise folder.there_already(path, remedy)


def _ask(confirm: bool) -> bytes:
    """A passphrase from the person at the keyboard. Raises `BadInput` if nobody gives one."""
    import warnings
    from getpass import GetPassWarning

    import click

    from shared.errors import BadInput
    from shared.keyring import FILE_VARIABLE

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", GetPassWarning)  # no terminal to ask at
            found: str = typer.prompt(
                "Passphrase of the root key", hide_input=True, confirmation_prompt=confirm, err=True
            )
    except (click.Abort, GetPassWarning):
        raise BadInput("none was given", field="passphrase", remedy=f"type it, or set {FILE_VARIABLE}") from None
    return found.encode()
