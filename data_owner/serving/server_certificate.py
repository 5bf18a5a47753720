"""The server's certificate on the wire: short-lived, and renewed while the server runs."""

from __future__ import annotations

import grpc

from data_owner import authority
from data_owner.node import Node
from shared.clock import moment


class ServerCertificate:
    """Each handshake asks whether the certificate has changed, or is due."""

    def __init__(self, node: Node, *, mutual: bool) -> None:
        self._node, self._mutual = node, mutual
        self._loaded = b""

    def credentials(self) -> grpc.ServerCredentials:
        """`mutual` asks callers for a certificate of the node's authority."""
        return grpc.dynamic_ssl_server_credentials(
            self._load(self._current()), self._if_changed, require_client_authentication=self._mutual
        )

    def _if_changed(self) -> grpc.ServerCertificateConfiguration:
        current = self._current()
        # None keeps what is loaded; the stubs do not know of it
        return self._load(current) if current != self._loaded else None  # type: ignore[return-value]

    def _current(self) -> bytes:
        return authority.server_certificate(self._node, moment())

    def _load(self, certificate: bytes) -> grpc.ServerCertificateConfiguration:
        self._loaded = certificate
        pair = (authority.key_file(self._node, authority.SERVER_KEY), certificate)
        roots = authority.key_file(self._node, authority.AUTHORITY) if self._mutual else None
        return grpc.ssl_server_certificate_configuration([pair], roots)
