# SPDX-License-Identifier: Apache-2.0
"""The device's key and certificate in `id.pem`: made at enrolment, read by TLS and by the request signer.

In: a folder.  Out: key seed, CSR, PEM files. Refuses keys that are not Ed25519 and certificates outside their
dates. `cryptography` is imported for the CSR and the CA check only: it costs 10 MB that a running supervisor
saves.
Source: RFC 8410 (Ed25519 in PKCS#8), RFC 5280.
"""

from __future__ import annotations

import base64
import calendar
import time
from dataclasses import dataclass, field
from pathlib import Path

from edgefl.adapters.files import PRIVATE, write_durable
from edgefl.errors import DataError, MissingInput, Refused

# RFC 8410 section 7: PrivateKeyInfo { version 0, id-Ed25519, OCTET STRING of an OCTET STRING of 32 bytes }.
PKCS8 = bytes.fromhex("302e020100300506032b657004220420")
KEY_LABEL = "PRIVATE KEY"
CERTIFICATE_LABEL = "CERTIFICATE"


@dataclass(frozen=True)
class Identity:
    """An enrolled device's key and certificate."""

    seed: bytes = field(repr=False)
    certificate: bytes  # DER
    not_before: int  # unix seconds
    not_after: int

    def check_dates(self, now: float) -> None:
        """Refuse a certificate that the hub would refuse anyway.

        Raises
        ------
        Refused
        """
        if now > self.not_after:
            days = int(now - self.not_after) // 86400
            raise Refused(f"this device's certificate expired {days} days ago", hint="enrol again")
        if now < self.not_before - 300:
            raise Refused("this device's certificate is not valid yet", hint="set the clock")


def pem(label: str, der: bytes) -> bytes:
    """Return a PEM block."""
    text = base64.b64encode(der).decode()
    lines = [text[i : i + 64] for i in range(0, len(text), 64)]
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()


def unpem(data: bytes, label: str) -> list[bytes]:
    """Return the DER of every block with this label."""
    begin, end = f"-----BEGIN {label}-----".encode(), f"-----END {label}-----".encode()
    try:
        return [base64.b64decode(part.split(end)[0], validate=False) for part in data.split(begin)[1:]]
    except ValueError:
        raise DataError("damaged PEM file") from None


def key_pem(seed: bytes) -> bytes:
    """Return an Ed25519 key as PKCS#8."""
    return pem(KEY_LABEL, PKCS8 + seed)


def seed_of(data: bytes) -> bytes:
    """Return the 32-byte seed of an Ed25519 key file; raises DataError."""
    blocks = unpem(data, KEY_LABEL)
    if len(blocks) != 1 or len(blocks[0]) != len(PKCS8) + 32 or blocks[0][: len(PKCS8)] != PKCS8:
        raise DataError("the key file holds no Ed25519 key in PKCS#8")
    return blocks[0][len(PKCS8) :]


def load(path: Path) -> Identity:
    """Read `id.pem`.

    Raises
    ------
    MissingInput
        The device is not enrolled.
    DataError
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise MissingInput("this device is not enrolled", hint="run edgefl enroll") from None
    certificates = unpem(data, CERTIFICATE_LABEL)
    if not certificates:
        raise DataError(f"{path} holds no certificate", hint="enrol again")
    not_before, not_after = validity(certificates[0])
    return Identity(seed_of(data), certificates[0], not_before, not_after)


def save(path: Path, seed: bytes, certificate: bytes, ca: bytes) -> None:
    """Write `id.pem`: key, certificate, CA; readable by the owner alone."""
    data = key_pem(seed) + pem(CERTIFICATE_LABEL, certificate) + pem(CERTIFICATE_LABEL, ca)
    write_durable(path, data, PRIVATE)


def pending_key(path: Path, fresh: bytes) -> bytes:
    """Return the seed of an enrolment under way; the first call stores `fresh`: a kill spends no token."""
    try:
        return seed_of(path.read_bytes())
    except FileNotFoundError:
        write_durable(path, key_pem(fresh), PRIVATE)
        return fresh


def certificate_request(seed: bytes, name: str) -> bytes:
    """Return a CSR (DER) for the key, with the device id as its common name."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    key = Ed25519PrivateKey.from_private_bytes(seed)
    request = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, None)
    return request.public_bytes(Encoding.DER)


def check_issued(certificate: bytes, ca: bytes, public: bytes) -> bytes:
    """Check that the CA issued this certificate for our key; returns the CA's Ed25519 key.

    Raises
    ------
    Refused
        Another key, another issuer, or a CA that is not Ed25519.
    """
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        mine, root = x509.load_der_x509_certificate(certificate), x509.load_der_x509_certificate(ca)
        root_key, own_key = root.public_key(), mine.public_key()
        if not isinstance(root_key, Ed25519PublicKey) or not isinstance(own_key, Ed25519PublicKey):
            raise Refused("the hub's certificates are not Ed25519")
        if own_key.public_bytes_raw() != public:
            raise Refused("the hub issued a certificate for another key")
        root_key.verify(mine.signature, mine.tbs_certificate_bytes)
        return root_key.public_bytes_raw()
    except (InvalidSignature, ValueError):
        raise Refused("the hub's certificate is not issued by the fleet's CA") from None


def validity(certificate: bytes) -> tuple[int, int]:
    """Return (not before, not after) of a certificate in DER, unix seconds."""
    try:
        body = _children(_children(certificate)[0][1])[0][1]
        fields = _children(body)
        index = 4 if fields[0][0] == 0xA0 else 3  # [0] version, serial, algorithm, issuer, validity
        times = _children(fields[index][1])
        return _time(*times[0]), _time(*times[1])
    except (IndexError, ValueError):
        raise DataError("the certificate is damaged", hint="enrol again") from None


def _children(data: bytes) -> list[tuple[int, bytes]]:
    """Return (tag, content) of each DER element in `data`."""
    out, at = [], 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            n = size & 0x7F
            size, at = int.from_bytes(data[at : at + n], "big"), at + n
        if len(data) - at < size:
            raise ValueError("cut short")
        out.append((tag, data[at : at + size]))
        at += size
    return out


def _time(tag: int, content: bytes) -> int:
    """UTCTime (two-digit year, RFC 5280 section 4.1.2.5.1) or GeneralizedTime."""
    text = content.decode("ascii")
    if tag == 0x17:
        text = ("19" if text[:2] >= "50" else "20") + text
    return calendar.timegm(time.strptime(text, "%Y%m%d%H%M%SZ"))
