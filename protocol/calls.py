"""What both sides of a call must spell alike, beyond the messages of release.proto."""

from __future__ import annotations

from protocol.artefacts import Artefact
from protocol.fair4free.v1 import release_pb2 as wire
from protocol.identity import SERVER_NAME
from shared.limits import LIMITS

ARTEFACT_KINDS = {
    Artefact.DECODER: wire.ARTEFACT_KIND_DECODER,
    Artefact.STATISTICS: wire.ARTEFACT_KIND_STATISTICS,
    Artefact.SCHEMA: wire.ARTEFACT_KIND_SCHEMA,
    Artefact.CARD: wire.ARTEFACT_KIND_CARD,
}

RETRY_AFTER = "grpc-retry-pushback-ms"
"""Trailing metadata of a busy owner: when to come again, in milliseconds (gRFC A6)."""

CLIENT_OPTIONS = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_receive_message_length", LIMITS.message_bytes),
    ("grpc.max_metadata_size", LIMITS.metadata_bytes),
    ("grpc.absolute_max_metadata_size", LIMITS.metadata_bytes),
    ("grpc.max_reconnect_backoff_ms", int(LIMITS.reconnect_seconds * 1000)),
    ("grpc.keepalive_time_ms", int(LIMITS.client_keepalive_seconds * 1000)),
    ("grpc.keepalive_timeout_ms", int(LIMITS.unanswered_seconds * 1000)),
    ("grpc.http2.ping_timeout_ms", int(LIMITS.unanswered_seconds * 1000)),
    # without it no more is under way than a slow line brings before a ping's answer is due
    ("grpc.http2.bdp_probe", 0),
    ("grpc.compression_enabled_algorithms_bitset", 1),
    ("grpc.enable_channelz", 0),
    ("grpc.enable_http_proxy", 0),
)
"""Whoever calls an owner does so directly, takes in no more than the limits allow and leaves a connection that died."""
