"""TLS 1.3 only, for both sides of the wire.

gRPC's Python API sets no lowest version of TLS, and its core would also speak 1.2. But every certificate here holds
a P-256 key (`protocol.identity`) and in TLS 1.2, unlike 1.3, a cipher suite names the kind of key that signs. With a
1.2 suite for RSA as the only one allowed, a handshake of 1.2 finds no shared cipher; those of 1.3 (RFC 8446
section 9.1) are always there. The core reads its variables once, when grpc is first imported.
"""

from __future__ import annotations

import os
import sys

from shared.errors import PolicyRefusal

SUITES, NO_P256_SUITE_BELOW_1_3 = "GRPC_SSL_CIPHER_SUITES", "ECDHE-RSA-AES256-GCM-SHA384"
_was_loaded_before = False


def require_tls_1_3() -> None:
    """Must run before grpc is imported: see `check_tls_1_3`."""
    global _was_loaded_before
    _was_loaded_before |= "grpc" in sys.modules and os.environ.get(SUITES) != NO_P256_SUITE_BELOW_1_3
    os.environ[SUITES] = NO_P256_SUITE_BELOW_1_3
    # the core would write a line of its own to stderr for each failed handshake
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")


def check_tls_1_3() -> None:
    """Raises `PolicyRefusal` where grpc was imported before it could be told, and would also speak TLS 1.2."""
    if _was_loaded_before:
        raise PolicyRefusal(
            "grpc was imported first and also speaks TLS below 1.3",
            field="grpc",
            remedy="import consumer before grpc, in a new process",
        )
