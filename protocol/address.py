"""What an address is: host:port, as a server listens on it and an invitation names it."""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from typing import Annotated

from pydantic import AfterValidator


def host_and_port(address: str) -> tuple[str, int]:
    """The two parts of host:port; an IPv6 address stands in brackets. Raises `ValueError`."""
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})", address)
    with suppress(ipaddress.AddressValueError):  # its text would quote the address
        if found is not None and int(found[3]) <= 65_535:
            return str(ipaddress.IPv6Address(found[1])) if found[1] else found[2], int(found[3])
    raise ValueError("not host:port")


def _checked(address: str) -> str:
    host_and_port(address)
    return address


Address = Annotated[str, AfterValidator(_checked)]
