# SPDX-License-Identifier: Apache-2.0
"""Certificates: strict extensions, lives, and what a signing request cannot ask for."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edgefl.errors import ConfigError, DataError, UsageError
from server_min import ca, keys

NOW = time.time()
KEY = Ed25519PrivateKey.generate()
ROOT = ca.create_ca(KEY, "fleet", NOW)


def test_ca_has_path_length_zero_and_signs_only() -> None:
    basic = ROOT.extensions.get_extension_for_class(x509.BasicConstraints)
    usage = ROOT.extensions.get_extension_for_class(x509.KeyUsage)
    assert basic.critical and (basic.value.ca, basic.value.path_length) == (True, 0)
    assert usage.critical and usage.value.key_cert_sign and not usage.value.digital_signature


def test_device_certificate_is_a_client_for_90_days() -> None:
    leaf = ca.issue(ROOT, KEY, Ed25519PrivateKey.generate().public_key(), "ab", NOW)
    assert list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [
        ExtendedKeyUsageOID.CLIENT_AUTH
    ]
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not [e for e in leaf.extensions if e.oid == x509.SubjectAlternativeName.oid]
    life = leaf.not_valid_after_utc - leaf.not_valid_before_utc
    assert life.days == ca.DEVICE_DAYS + 1
    leaf.verify_directly_issued_by(ROOT)


def test_hub_certificate_names_its_hosts() -> None:
    public = Ed25519PrivateKey.generate().public_key()
    leaf = ca.issue(ROOT, KEY, public, "hub", NOW, hosts=("10.0.0.1", "hub.example"))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    assert names.get_values_for_type(x509.DNSName) == ["hub.example"]


def test_certificate_never_outlives_the_ca() -> None:
    later = NOW + (ca.CA_DAYS - 10) * 86400
    leaf = ca.issue(ROOT, KEY, Ed25519PrivateKey.generate().public_key(), "ab", later)
    assert leaf.not_valid_after_utc == ROOT.not_valid_after_utc


def test_request_for_more_rights_gets_none() -> None:
    key = Ed25519PrivateKey.generate()
    greedy = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the hub")]))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hub.example")]), critical=False)
        .sign(key, None)
    )
    leaf = ca.issue(ROOT, KEY, ca.read_csr(greedy.public_bytes(Encoding.DER)), "ab", NOW)
    assert leaf.subject.rfc4514_string() == "CN=ab"
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert len(leaf.extensions) == 5


def test_requests_that_are_not_ed25519_or_not_self_signed_are_refused() -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x")])
    p256 = ec.generate_private_key(ec.SECP256R1())
    other = x509.CertificateSigningRequestBuilder().subject_name(name).sign(p256, hashes.SHA256())
    good = ca.create_csr(Ed25519PrivateKey.generate(), "x")
    for bad in (b"", b"junk", other.public_bytes(Encoding.DER), good[:-1] + bytes([good[-1] ^ 1]), good[:-9]):
        with pytest.raises(DataError):
            ca.read_csr(bad)


@pytest.mark.parametrize("url", ["http://a", "a:1", "https://", "https://a:b", "", "https://[::1"])
def test_urls_without_https_or_host_are_refused(url: str) -> None:
    with pytest.raises(UsageError):
        ca.host_of(url)


def test_keys_are_never_overwritten_and_other_kinds_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.key"
    keys.create_key(path)
    with pytest.raises(ConfigError):
        keys.create_key(path)
    path.write_text("nonsense")
    with pytest.raises(ConfigError):
        keys.load_key(path)
