# SPDX-License-Identifier: Apache-2.0
"""Founding a hub and pairing two: `init`, `pair`, `accept`.

init (leader): CA, publisher key, hub key, TLS key and certificate, store, hub.toml.  init --helper: hub key,
TLS key, and the public `pair-request`.  pair (leader): signs the helper's TLS certificate, pins its key,
writes the public grant. accept (helper): pins CA and leader.  Refuses folders that are in use and grants for
another key. Request and grant are envelopes signed by the hub keys that they carry; a person moves them and
so vouches for them.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from edgefl.errors import ConfigError, DataError, MissingInput, StorageError, UsageError
from edgefl.wire import cbor
from edgefl.wire.envelope import open_envelope, seal
from edgefl.wire.field import Blob, Bytes32, Line, Message, Most
from edgefl.wire.keys import key_id, signer
from server_min import ca, keys
from server_min.config import (
    Floors,
    Hub,
    HubToml,
    Identity,
    Listen,
    Partner,
    PartnerToml,
    RoundTimes,
    load_hub,
    split_address,
)  # fmt: skip
from server_min.store import SqliteStore
from server_min.toml import write_tables


@dataclass(frozen=True)
class PairRequest(Message):
    """What a new helper asks of a leader."""

    max_bytes: ClassVar[int] = 8192

    key: Bytes32
    operator: Line
    csr: Annotated[bytes, Most(4096)]


@dataclass(frozen=True)
class Grant(Message):
    """What a leader gives a helper."""

    max_bytes: ClassVar[int] = 16384

    helper: Bytes32
    certificate: Blob
    ca: Blob
    leader: Bytes32
    operator: Line


def init_leader(folder: Path, url: str, listen: Listen, operator: str, enroll_url: str = "") -> Hub:
    """Found a fleet: keys, CA, certificate, store."""
    host = ca.host_of(url)
    for address in (listen.devices, listen.enroll, listen.metrics):
        split_address(address)
    enroll_url = enroll_url or f"https://{_netloc(host, split_address(listen.enroll)[1])}"
    _claim(folder)
    now = time.time()
    ca_key = keys.create_key(folder / "ca.key")
    keys.create_key(folder / "publisher.key")
    hub_key = keys.create_key(folder / "hub.key")
    tls_key = keys.create_key(folder / "tls.key")
    root = ca.create_ca(ca_key, f"edgefl fleet {keys.public_bytes(ca_key).hex()[:16]}", now)
    name = key_id(keys.public_bytes(hub_key)).hex()
    hosts = tuple(dict.fromkeys((host, ca.host_of(enroll_url), "localhost", "127.0.0.1")))
    leaf = ca.issue(root, ca_key, tls_key.public_key(), name, now, hosts=hosts)
    _write(folder / "ca.pem", root.public_bytes(Encoding.PEM))
    _write(folder / "tls.pem", leaf.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    return _finish(folder, Identity("leader", operator, url, enroll_url), listen)


def init_helper(folder: Path, listen: Listen, operator: str) -> Hub:
    """Found a helper: keys, store and `pair-request`."""
    for address in filter(None, (listen.devices, listen.metrics)):
        split_address(address)
    _claim(folder)
    hub_key = keys.create_key(folder / "hub.key")
    tls_key = keys.create_key(folder / "tls.key")
    public = keys.public_bytes(hub_key)
    request = PairRequest(key=public, operator=operator, csr=ca.create_csr(tls_key, key_id(public).hex()))
    sealed = seal("pair-request", request.encode(), [signer(keys.seed_bytes(hub_key))])
    _write(folder / "pair-request", sealed)
    return _finish(folder, Identity("helper", operator), listen)


def pair(folder: Path, request_file: Path, grant_file: Path, helper_url: str) -> Partner:
    """Sign a helper's certificate, pin its key, write the grant, as a leader."""
    hub = load_hub(folder, "leader")
    host = ca.host_of(helper_url)
    data = _read(request_file)
    request = PairRequest.decode(_payload_of(data, "pair-request", request_file))
    open_envelope(data, "pair-request", {key_id(request.key): request.key})
    if request.key == hub.public:
        raise UsageError("a hub cannot be its own helper")
    if hub.partner is not None and hub.partner.public != request.key:
        raise ConfigError(
            f"{folder} is paired with another helper", hint=f"remove {folder}/partner.toml to change it"
        )
    ca_key = keys.load_key(folder / "ca.key")
    hosts = tuple(dict.fromkeys((host, "localhost", "127.0.0.1")))
    name = key_id(request.key).hex()
    leaf = ca.issue(hub.pinned_ca, ca_key, ca.read_csr(request.csr), name, time.time(), hosts=hosts)
    grant = Grant(
        helper=request.key,
        certificate=leaf.public_bytes(Encoding.DER),
        ca=hub.ca_der,
        leader=hub.public,
        operator=hub.toml.hub.operator,
    )
    partner = Partner(key=request.key.hex(), operator=request.operator, url=helper_url.rstrip("/"))
    _write(folder / "partner.toml", write_tables(PartnerToml(partner)).encode())
    _write(grant_file, seal("pair-grant", grant.encode(), [hub.signer]))
    return partner


def accept(folder: Path, grant_file: Path) -> Partner:
    """Pin the CA and the leader of a grant, as a helper."""
    hub = load_hub(folder, "helper")
    data = _read(grant_file)
    grant = Grant.decode(_payload_of(data, "pair-grant", grant_file))
    open_envelope(data, "pair-grant", {key_id(grant.leader): grant.leader})
    if grant.helper != hub.public:
        raise DataError(f"{grant_file} is for another helper", hint="pair with this folder's pair-request")
    if hub.partner is not None and hub.partner.public != grant.leader:
        raise ConfigError(
            f"{folder} is paired with another leader", hint=f"remove {folder}/partner.toml first"
        )
    try:
        root = x509.load_der_x509_certificate(grant.ca)
        leaf = x509.load_der_x509_certificate(grant.certificate)
        root.public_key().verify(leaf.signature, leaf.tbs_certificate_bytes)  # type: ignore[union-attr,call-arg]
        tls_key = load_pem_private_key((folder / "tls.key").read_bytes(), None)
        same = tls_key.public_key() == leaf.public_key()
    except Exception:
        raise DataError(f"{grant_file} holds a broken certificate") from None
    if not same:
        raise DataError(
            f"{grant_file} certifies another TLS key", hint="pair with this folder's pair-request"
        )
    _write(folder / "ca.pem", root.public_bytes(Encoding.PEM))
    _write(folder / "tls.pem", leaf.public_bytes(Encoding.PEM) + root.public_bytes(Encoding.PEM))
    partner = Partner(key=grant.leader.hex(), operator=grant.operator)
    _write(folder / "partner.toml", write_tables(PartnerToml(partner)).encode())
    return partner


def _claim(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if any(folder.iterdir()):
            raise ConfigError(f"{folder} is not empty", hint="choose a new folder")
    except OSError as error:
        raise StorageError(f"cannot create {folder}: {error.strerror}") from None


def _finish(folder: Path, identity: Identity, listen: Listen) -> Hub:
    toml = HubToml(identity, listen, RoundTimes(), Floors())
    _write(folder / "hub.toml", write_tables(toml).encode())
    SqliteStore(folder, create=True).close()
    return load_hub(folder)


def _payload_of(data: bytes, kind: str, path: Path) -> bytes:
    """Return the payload of an envelope whose signer stands in the payload; the caller checks it next."""
    match cbor.loads(data, max_depth=2):
        case [bytes(payload), dict()]:
            return payload
        case _:
            raise DataError(f"{path} is not a {kind}")


def _netloc(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise MissingInput(f"cannot read {path}: {error.strerror}") from None


def _write(path: Path, data: bytes) -> None:
    """Replace a public file atomically."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
