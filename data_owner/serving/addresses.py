"""Where the owner listens, and what the invitation calls that."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

from protocol.address import host_and_port
from shared.errors import BadInput


def check(address: str, option: str, host_name: str) -> None:
    """Raises `BadInput` for what is no address to listen on, or would be none to call.

    gRPC itself would take a port modulo 65536, a service's name or none at all.
    """
    try:
        host, _ = host_and_port(address)
    except ValueError:
        remedy = "write it as 127.0.0.1:50443 or [::1]:50443, with a port up to 65535"
        raise BadInput("not host:port", field=option, remedy=remedy) from None
    if _is_every_address(host_name or host):
        raise BadInput(
            "every address of this machine is none that an analyst can call",
            field="--host-name" if host_name else option,
            remedy="give --host-name the name or the address by which analysts reach this machine",
        )


def called(address: str, host_name: str) -> str:
    """The address that is listened on, under `host_name` where there is one: an IPv6 address stands in brackets."""
    host, _, port = address.rpartition(":")
    with suppress(ValueError):
        host_name = f"[{ipaddress.IPv6Address(host_name)}]"
    return f"{host_name or host}:{port}"


def _is_every_address(host: str) -> bool:
    try:
        found = ipaddress.ip_address(host.strip("[]"))
    except ValueError:  # a name
        return False
    return (getattr(found, "ipv4_mapped", None) or found).is_unspecified
