"""What a safetensors file says of itself, read without its tensors and without torch."""

from __future__ import annotations

import json

from shared.errors import VerificationFailure


def metadata(data: bytes) -> dict[str, str]:
    """The metadata of safetensors bytes: an 8-byte little-endian length, then a JSON header.

    Raises `VerificationFailure` unless there is such a header.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        if not 0 < length <= len(data) - 8:
            raise ValueError
        header = json.loads(data[8 : 8 + length])
        found = header.get("__metadata__", {})
    except (ValueError, AttributeError, RecursionError):
        raise VerificationFailure(
            "the header is not safetensors", field="tensors", remedy="ask the owner for a new release"
        ) from None
    return found if isinstance(found, dict) else {}
