# SPDX-License-Identifier: Apache-2.0
"""The fleet's certificate authority: Ed25519, one level, strict extensions.

In: keys and signing requests.  Out: X.509 certificates: the CA itself (10 years), hubs (SAN of their host, 1
year), devices (CN = device id in hex, 90 days).  Refuses requests that are not Ed25519 or not signed by their
own key; names and extensions of a request are never copied.  Invariant: a certificate never outlives the
CA's.
"""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta, timezone
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgefl.errors import DataError, UsageError

CA_DAYS, HUB_DAYS, DEVICE_DAYS = 3650, 365, 90
# Boards without a good clock: a certificate is valid a day before it was issued.
BACKDATE = timedelta(days=1)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def create_ca(key: Ed25519PrivateKey, name: str, now: float) -> x509.Certificate:
    """Return the self-signed CA certificate (path length 0)."""
    issued = datetime.fromtimestamp(now, timezone.utc)
    public = key.public_key()
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(name))
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(issued - BACKDATE)
        .not_valid_after(issued + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(ca=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, None)
    )


def issue(
    ca: x509.Certificate,
    ca_key: Ed25519PrivateKey,
    public: Ed25519PublicKey,
    common_name: str,
    now: float,
    *,
    hosts: tuple[str, ...] = (),
) -> x509.Certificate:
    """Sign a leaf: a hub's if `hosts` are given (server and client), else a device's (client only)."""
    issued = datetime.fromtimestamp(now, timezone.utc)
    days = HUB_DAYS if hosts else DEVICE_DAYS
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common_name))
        .issuer_name(ca.subject)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(issued - BACKDATE)
        .not_valid_after(min(issued + timedelta(days=days), _expiry(ca)))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(ca=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False
        )
    )
    if hosts:
        uses.insert(0, ExtendedKeyUsageOID.SERVER_AUTH)
        builder = builder.add_extension(x509.SubjectAlternativeName([_san(h) for h in hosts]), critical=False)
    return builder.add_extension(x509.ExtendedKeyUsage(uses), critical=True).sign(ca_key, None)


def _expiry(certificate: x509.Certificate) -> datetime:
    # not_valid_after_utc came with cryptography 42; Debian 12 has 38.
    aware: datetime | None = getattr(certificate, "not_valid_after_utc", None)
    return aware or certificate.not_valid_after.replace(tzinfo=timezone.utc)


def _san(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError:
        raise UsageError(f"{host!r} is not a host name", hint="use an IP address or an ASCII name") from None


def host_of(url: str) -> str:
    """Return the host of an https URL."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme != "https" or not host:
        raise UsageError(f"{url!r} is not an https URL", hint="give it as https://host:port")
    return host


def read_csr(der: bytes) -> Ed25519PublicKey:
    """Return the key of a signing request, after checking that it is Ed25519 and signed by itself."""
    try:
        csr = x509.load_der_x509_csr(der)
        public, valid = csr.public_key(), csr.is_signature_valid
    except Exception:
        raise DataError("the signing request is not a DER-coded PKCS#10 request") from None
    if not isinstance(public, Ed25519PublicKey) or not valid:
        raise DataError("the signing request is not signed by its own Ed25519 key")
    return public


def create_csr(key: Ed25519PrivateKey, common_name: str) -> bytes:
    """Return a DER-coded signing request."""
    csr = x509.CertificateSigningRequestBuilder().subject_name(_name(common_name)).sign(key, None)
    return csr.public_bytes(Encoding.DER)


def raw_public(certificate: x509.Certificate) -> bytes:
    """Return the 32 bytes of a certificate's Ed25519 key."""
    public = certificate.public_key()
    if not isinstance(public, Ed25519PublicKey):
        raise DataError("the certificate's key is not Ed25519")
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
