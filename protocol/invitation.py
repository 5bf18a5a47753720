"""The invitation: the public keys and addresses an owner hands over out of band. A consumer's root of trust."""

from __future__ import annotations

import hashlib
from typing import Literal

import rfc8785
from pydantic import Field

from protocol.address import Address
from protocol.root import Root, anchor
from shared.errors import BadInput
from shared.frozen import JsonFile
from shared.limits import LIMITS
from shared.schema import PrintableName


class Invitation(JsonFile):
    """Holds nothing secret; what matters is that it arrives unchanged, which its fingerprint shows.

    `root` and `root_signatures` are the node's root document and its signatures, as text.
    """

    what = "invitation"
    remedy = "ask the owner to hand it over again"
    indent = 2

    format: Literal[1] = 1
    node: PrintableName
    address: Address
    enrolment_address: Address
    certificate_authority: str = Field(max_length=LIMITS.request_bytes)
    root: str = Field(max_length=LIMITS.manifest_bytes)
    root_signatures: str = Field(max_length=LIMITS.manifest_bytes)

    def trusted_root(self) -> Root:
        """Raises a `VerificationFailure` unless the root is whole and signed by its own threshold, `BadInput` unless it
        is this node's."""
        root = anchor(self.root.encode(), self.root_signatures.encode())
        if root.node != self.node:
            raise BadInput("names another node than its root", field=self.what, remedy=self.remedy)
        return root

    @property
    def fingerprint(self) -> str:
        """SHA-256, hex, of what must never change by itself: the node, its authority and its root."""
        lasting = {"node": self.node, "authority": self.certificate_authority, "root": self.root}
        return hashlib.sha256(rfc8785.dumps(lasting)).hexdigest()
