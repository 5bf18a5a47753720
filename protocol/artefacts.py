"""The five things that cross from the data owner to a consumer. Nothing else has a message to travel in.

Around them travels trust metadata, which is made of public keys, digests, times and decisions and never of records:
root documents, freshness statements, checkpoints and proofs of the egress log, certificates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from enum import StrEnum


class Artefact(StrEnum):
    """One of the five. The manifest is signed and names the exact bytes of the other four."""

    MANIFEST = "manifest"
    DECODER = "decoder"
    STATISTICS = "statistics"
    SCHEMA = "schema"
    CARD = "card"

    @property
    def filename(self) -> str:
        tensors = self in (Artefact.DECODER, Artefact.STATISTICS)
        return f"{self.value}.safetensors" if tensors else f"{self.value}.json"


TRAINED = (Artefact.SCHEMA, Artefact.DECODER, Artefact.STATISTICS)
"""The three that training makes."""

PAYLOAD = (Artefact.DECODER, Artefact.STATISTICS, Artefact.SCHEMA, Artefact.CARD)
"""The four that the manifest names."""


SIGNATURES = "manifest.sig"
"""The file of the manifest's signatures, beside the manifest's own."""


def release_digest(artefacts: Mapping[Artefact, bytes]) -> str:
    """SHA-256, hex, of the SHA-256 digests of decoder, statistics and schema, one after the other."""
    parts = (Artefact.DECODER, Artefact.STATISTICS, Artefact.SCHEMA)
    digests = (hashlib.sha256(artefacts[kind]).digest() for kind in parts)
    return hashlib.sha256(b"".join(digests)).hexdigest()
