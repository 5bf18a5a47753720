"""Every size, rate and time limit, in one frozen object."""

from __future__ import annotations

from dataclasses import dataclass

KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Limits:
    """Each in the unit that its name says (bytes, seconds, days, characters); else a count, or what is said beside
    it."""

    # tables
    table_bytes: int = 4096 * MIB
    table_cells: int = 256 * 1024**2  # 16 bytes each, as read, are `table_bytes`
    columns: int = 512
    categories: int = 1000
    classes: int = 100
    name_characters: int = 200
    groups: int = 64
    quantile_points: int = 4096
    decimals: int = 17

    # training: how far a score may be moved, 1 being to the barycentre
    repair: float = 1.5

    # images
    least_image_side: int = 8
    image_side: int = 256
    source_pixels: int = 64_000_000
    source_bytes: int = 64 * MIB
    beside_pixels_bytes: int = 64 * KIB
    activations: int = 262_144

    # what crosses
    manifest_bytes: int = 64 * KIB
    artefact_bytes: int = 4 * MIB
    chunk_bytes: int = 64 * KIB
    message_bytes: int = 80 * KIB
    metadata_bytes: int = 8 * KIB
    releases_listed: int = 500
    policy_privacy_characters: int = 2000
    statement_characters: int = 4000

    # trust: lifetimes, and how far a version may jump
    signatures: int = 16
    root_days: int = 730
    root_rotations: int = 32
    roots_followed: int = 500
    freshness_seconds: int = 86_400
    clock_skew_seconds: int = 300
    last_second: int = 253_402_300_799  # since 1970-01-01 UTC: the last of year 9999, beyond which no date is shown
    version_step: int = 1000

    # the egress log
    note_bytes: int = 16 * KIB
    entry_bytes: int = 8 * KIB
    reason_characters: int = 1000
    proof_hashes: int = 64
    ledger_bytes: int = 256 * MIB
    ledger_free_bytes: int = 16 * MIB
    ledger_wait_seconds: float = 10.0

    # tensors
    latent_dimensions: int = 256
    table_outputs: int = 8192
    frequency: float = 100.0
    layer_width: int = 4096
    layers: int = 8
    parameters: int = 1_000_000

    # enrolment and identity
    invitation_bytes: int = MIB
    public_key_bytes: int = KIB
    request_bytes: int = 16 * KIB
    pending_enrolments: int = 100
    pending_enrolments_an_address: int = 5
    pending_days: int = 14
    enrolment_poll_seconds: float = 10.0
    enrolments_at_once: int = 10
    enrolments_a_minute: int = 30
    certificate_days: int = 30
    renewal_days: int = 10
    authority_days: int = 3650
    authority_warning_days: int = 365
    release_days: int = 365

    # calls
    call_seconds: float = 20.0
    stream_seconds: float = 120.0
    connect_seconds: float = 10.0
    transfer_seconds: float = 480.0
    attempts: int = 7
    first_wait_seconds: float = 0.25  # doubled six times, so that all waits, 15.75 in all, outlast a restart
    reconnect_seconds: float = 1.0
    retry_seconds: float = 60.0
    calls_a_minute: int = 60
    calls_at_once: int = 120
    refusal_seconds: float = 0.2
    identities_counted: int = 10_000
    concurrent_calls: int = 64
    concurrent_calls_an_identity: int = 8
    refusals_at_once: int = 16
    connections: int = 8192
    handshake_seconds: float = 10.0
    keepalive_seconds: float = 30.0
    client_keepalive_seconds: float = 10.0
    unanswered_seconds: float = 20.0
    connection_idle_seconds: float = 300.0
    connection_age_seconds: float = 3600.0
    watch_seconds: float = 0.5
    drain_seconds: float = 10.0
    drain_poll_seconds: float = 0.05
    metrics_seconds: float = 5.0

    # generation
    block_rows: int = 65_536
    image_block_rows: int = 1024
    lineage_bytes: int = 16 * KIB
    rows: int = 10_000_000_000


LIMITS = Limits()
