# SPDX-License-Identifier: Apache-2.0
"""A hub's folder: hub.toml, keys and certificates, the pinned partner.

In: the folder.  Out: `Hub`, what the processes work with.  Refuses unknown keys and missing files in one
line. `hub.toml` is the operator's; `partner.toml` is written by `pair` (leader) or `accept` (helper).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from edgefl.config.device import setting
from edgefl.errors import ConfigError, MissingInput
from edgefl.wire.keys import Signer, key_id, public_key, signer
from server_min import keys
from server_min.ca import raw_public
from server_min.toml import read_tables


@dataclass(frozen=True)
class Identity:
    """What this hub is."""

    role: str = setting("leader", "leader or helper", choices=("leader", "helper"))
    operator: str = setting("", "who runs this hub, as devices see it")
    url: str = setting("", "where devices reach this leader")
    enroll_url: str = setting("", "where new devices reach this leader")
    log_level: str = setting("info", "how much goes to stderr", choices=("debug", "info", "warning", "error"))


@dataclass(frozen=True)
class Listen:
    """host:port of each listener."""

    devices: str = setting("127.0.0.1:8440", "mutual TLS: devices at a leader, the leader at a helper")
    enroll: str = setting("127.0.0.1:8441", "server certificate only; a leader's")
    metrics: str = setting("127.0.0.1:9440", "plain HTTP for Prometheus; empty: off")


@dataclass(frozen=True)
class RoundTimes:
    """How rounds of a leader follow each other."""

    settle_s: float = setting(15.0, "longest wait for installs before the next round", low=0, high=86400)
    poll_s: float = setting(30.0, "longest hold of a device's poll", low=0.1, high=60)
    patch_bases: int = setting(3, "older releases that get a patch to a new one", low=0, high=16)
    release_days: int = setting(365, "life of a release", low=1, high=3650)


@dataclass(frozen=True)
class Floors:
    """What a helper asks of a round that it takes part in."""

    quorum: int = setting(2, "fewest devices in a sum", low=2, high=4096)
    deadline_s: int = setting(86400, "longest life of a round", low=1, high=864000)


@dataclass(frozen=True)
class HubToml:
    """hub.toml."""

    hub: Identity
    listen: Listen
    rounds: RoundTimes
    floors: Floors


@dataclass(frozen=True)
class Partner:
    """The other hub, pinned."""

    key: str = setting("", "its Ed25519 hub key, hex")
    operator: str = setting("", "who runs it")
    url: str = setting("", "where this leader reaches its helper")

    @property
    def public(self) -> bytes:
        """The key's 32 bytes."""
        return bytes.fromhex(self.key)


@dataclass(frozen=True)
class PartnerToml:
    """partner.toml."""

    partner: Partner


@dataclass(frozen=True)
class Hub:
    """A hub's settings, keys and pins."""

    folder: Path
    toml: HubToml
    seed: bytes  # the hub key's
    ca: x509.Certificate | None
    partner: Partner | None

    @property
    def public(self) -> bytes:
        """The hub key's 32 public bytes."""
        return public_key(self.seed)

    @property
    def id(self) -> bytes:
        """The hub id."""
        return key_id(self.public)

    @property
    def signer(self) -> Signer:
        """Signs as this hub."""
        return signer(self.seed)

    @property
    def pinned_ca(self) -> x509.Certificate:
        """The fleet's CA certificate; a helper has it after `accept`."""
        if self.ca is None:
            raise ConfigError(f"{self.folder} is not paired", hint="run `edgefl-hub accept` with the grant")
        return self.ca

    @property
    def ca_der(self) -> bytes:
        """The CA certificate as DER."""
        return self.pinned_ca.public_bytes(Encoding.DER)

    @property
    def ca_key(self) -> bytes:
        """The CA's public key, which signs credentials."""
        return raw_public(self.pinned_ca)

    @property
    def pinned_partner(self) -> Partner:
        """The other hub."""
        if self.partner is None:
            raise ConfigError(f"{self.folder} is not paired", hint="run `edgefl-hub pair` and `accept`")
        return self.partner

    def private(self, name: str) -> bytes:
        """Return the seed of another key in this folder (`ca`, `publisher`)."""
        return keys.seed_bytes(keys.load_key(self.folder / f"{name}.key"))


def load_hub(folder: Path, role: str | None = None) -> Hub:
    """Read a hub's folder; `role` is what the caller needs it to be.

    Raises
    ------
    MissingInput, ConfigError
    """
    if not (folder / "hub.toml").exists():
        raise MissingInput(f"{folder} holds no hub", hint="run `edgefl-hub init` first")
    toml = read_tables(folder / "hub.toml", HubToml)
    if role is not None and toml.hub.role != role:
        raise ConfigError(f"{folder} is a {toml.hub.role}, this command needs a {role}")
    path = folder / "partner.toml"
    partner = read_tables(path, PartnerToml).partner if path.exists() else None
    if partner is not None and not _is_key(partner.key):
        raise ConfigError(f"{folder}/partner.toml: key must be 64 hex digits")
    return Hub(folder, toml, keys.seed_bytes(keys.load_key(folder / "hub.key")), _read_ca(folder), partner)


def _is_key(text: str) -> bool:
    try:
        return len(bytes.fromhex(text)) == 32
    except ValueError:
        return False


def _read_ca(folder: Path) -> x509.Certificate | None:
    path = folder / "ca.pem"
    if not path.exists():
        return None
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(f"{path} is not a PEM certificate", hint="restore it from a backup") from None


def split_address(text: str) -> tuple[str, int]:
    """Return (host, port) of `host:port`."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ConfigError(f"{text!r} is not host:port")
    return host.strip("[]"), int(port)
