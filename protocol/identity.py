"""Who is who on the wire: a node's certificate authority, its server certificate and its consumers' certificates.

Pure: PEM bytes and the time in, PEM bytes out. Keys are P-256 (RFC 5480), certificates X.509 v3 (RFC 5280) and
requests PKCS #10 (RFC 2986). Releases are signed by another key, see `protocol.signing`.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from protocol.access import PartyRole
from shared.errors import VerificationFailure
from shared.limits import LIMITS
from shared.printable import is_one_line

SERVER_NAME = "owner.fair4free.internal"
"""The name in every server certificate: the authority is the node's own, so the address need not be."""

NAME_BYTES = 64
"""UTF-8 bytes of a common name; RFC 5280 appendix A.1 (ub-common-name) allows as many characters. Ours are cut to it,
a request with a longer one is refused."""

_MALFORMED = (
    ValueError,
    TypeError,
    InvalidSignature,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)
"""What the parser raises for foreign bytes."""


def new_key() -> bytes:
    """A P-256 private key, PEM (PKCS #8, not encrypted)."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def new_authority(key: bytes, node: str, now: datetime) -> bytes:
    """A self-signed authority certificate, PEM, that may sign end certificates and revocation lists, no authority."""
    private = _private(key)
    name = _name(f"{node} certificate authority")
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    return (
        _builder(name, name, private.public_key(), now, now + timedelta(days=LIMITS.authority_days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(private, hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def issue_server_certificate(key: bytes, authority_key: bytes, authority: bytes, now: datetime) -> bytes:
    """A certificate for the node's own server key."""
    ends = now + timedelta(days=LIMITS.certificate_days)
    builder = _end_certificate(_private(key).public_key(), _name(SERVER_NAME), authority, now, ends)
    return (
        builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .sign(_private(authority_key), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def new_request(key: bytes, name: str) -> bytes:
    """A certificate request for `name`, PEM. It holds the public key and the name, nothing else."""
    request = x509.CertificateSigningRequestBuilder().subject_name(_name(name))
    return request.sign(_private(key), hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def issue_client_certificate(
    request: bytes, name: str, authority_key: bytes, authority: bytes, now: datetime, role: PartyRole
) -> bytes:
    """A short-lived client certificate for the key of a request, under the name and in the role that a person approved.

    It ends with the authority, at the latest: its holder is told that date. Raises `VerificationFailure` for a bad
    request.
    """
    ends = min(now + timedelta(days=LIMITS.certificate_days), certificate_expires(authority))
    builder = _end_certificate(_public(read_request(request)), _name(name, role), authority, now, ends)
    return (
        builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), critical=True)
        .sign(_private(authority_key), hashes.SHA256())
        .public_bytes(serialization.Encoding.PEM)
    )


def read_request(request: bytes) -> x509.CertificateSigningRequest:
    """Parse a foreign request. Raises `VerificationFailure` unless it is small, P-256, signed by its key
    and has one printable name."""
    if len(request) > LIMITS.request_bytes:
        raise _refused("the request is larger than the limit")
    try:
        parsed = x509.load_pem_x509_csr(request)
        if not parsed.is_signature_valid or not requested_common_name(parsed):
            raise _refused("the request is not signed by its own key, or has no name")
        _public(parsed)
    except _MALFORMED:
        raise _refused("not a certificate request") from None
    return parsed


def requested_name(request: bytes) -> str:
    return requested_common_name(read_request(request))


def requested_common_name(request: x509.CertificateSigningRequest) -> str:
    names = request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    found = str(names[0].value) if len(names) == 1 else ""
    return found if is_one_line(found) and len(found.encode()) <= NAME_BYTES else ""


def request_fingerprint(request: bytes) -> str:
    """Fingerprint of the public key in a request: see `fingerprint`."""
    return fingerprint(_public(read_request(request)))


def certificate_fingerprint(certificate: bytes) -> str:
    """Fingerprint of the public key in a certificate: see `fingerprint`."""
    return fingerprint(_public(_read_certificate(certificate)))


def key_fingerprint(key: bytes) -> str:
    """Fingerprint of the public half of a private key: see `fingerprint`."""
    return fingerprint(_public(_private(key)))


def certificate_expires(certificate: bytes) -> datetime:
    return _read_certificate(certificate).not_valid_after_utc


def certificate_begins(certificate: bytes) -> datetime:
    return _read_certificate(certificate).not_valid_before_utc


def needs_renewal(certificate: bytes, now: datetime) -> bool:
    """Whether its last days have begun, or its first has not: it was made while a clock was ahead."""
    begins, expires = certificate_begins(certificate), certificate_expires(certificate)
    return begins > now or expires - now < timedelta(days=LIMITS.renewal_days)


def certificate_role(certificate: bytes) -> PartyRole:
    """The role its holder was let in as. What counts at a call is what the owner says then, not this."""
    subject = _read_certificate(certificate).subject
    units = subject.get_attributes_for_oid(NameOID.ORGANIZATIONAL_UNIT_NAME)
    try:
        (unit,) = units
        return PartyRole(str(unit.value))
    except ValueError:
        raise _refused("the certificate is for no known role") from None


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the subject public key info, hex: what two people compare by telephone."""
    info = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(info).hexdigest()


def _read_certificate(certificate: bytes) -> x509.Certificate:
    """Parse a certificate that may be foreign. Raises `VerificationFailure`."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
        _public(parsed)
        _ = parsed.subject, parsed.not_valid_after_utc  # both are decoded only when asked for
    except _MALFORMED:
        raise _refused("not a certificate") from None
    return parsed


def _end_certificate(
    key: ec.EllipticCurvePublicKey, name: x509.Name, authority: bytes, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    issuer = x509.load_pem_x509_certificate(authority).subject
    return _builder(name, issuer, key, now, ends).add_extension(
        x509.BasicConstraints(ca=False, path_length=None), critical=True
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, ends: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(seconds=LIMITS.clock_skew_seconds))
        .not_valid_after(ends)
    )


def _name(common_name: str, role: PartyRole | None = None) -> x509.Name:
    unit = [x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, role)] if role else []
    whole = common_name.encode()[:NAME_BYTES].decode(errors="ignore")
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, whole), *unit])


def _private(key: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        private = serialization.load_pem_private_key(key, password=None)
    except _MALFORMED:
        raise _refused("not a key") from None
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise _refused("not a P-256 key")
    return private


def _public(
    holder: x509.CertificateSigningRequest | x509.Certificate | ec.EllipticCurvePrivateKey,
) -> ec.EllipticCurvePublicKey:
    key = holder.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise _refused("not a P-256 key")
    return key


def _refused(problem: str) -> VerificationFailure:
    return VerificationFailure(problem, field="identity", remedy="make a new request with `fair4free enrol`")
