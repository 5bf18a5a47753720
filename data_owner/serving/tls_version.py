"""The lowest version of TLS that a listener speaks: asked over a real connection, since gRPC's API does not say."""

from __future__ import annotations

import socket
import ssl

from protocol.address import host_and_port
from shared.errors import PolicyRefusal, Unreachable
from shared.limits import LIMITS


def check(address: str) -> None:
    """Fail closed where this build of gRPC would also speak TLS 1.2 (see `protocol.transport`).

    Raises `PolicyRefusal`, and `Unreachable` where nobody answers at `address`.
    """
    try:
        is_weak = speaks_below_1_3(*host_and_port(address), LIMITS.connect_seconds)
    except OSError as error:
        raise Unreachable("does not answer this machine", field=address, remedy="listen on its address") from error
    if is_weak:
        raise PolicyRefusal("accepts TLS below 1.3", field=address, remedy="import data_owner before grpc")


def speaks_below_1_3(host: str, port: int, seconds: float) -> bool:
    """Whether a listener lets a client in that knows TLS 1.2 and no more. Raises `OSError` if there is no connection
    to ask over.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection((host, port), seconds) as plain:
        try:
            context.wrap_socket(plain).close()
        except OSError:
            return False
        return True
