# SPDX-License-Identifier: Apache-2.0
"""Private keys of a hub: Ed25519, PKCS#8 PEM files of mode 0600.

In: a folder.  Out: keys, their public bytes and ids (docs/protocol.md, "Names and hashes").
Refuses key files that others may read, and never overwrites a key.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edgefl.errors import ConfigError, MissingInput, StorageError

RAW = serialization.Encoding.Raw


def create_key(path: Path) -> Ed25519PrivateKey:
    """Write a fresh key to `path` (which must not exist) and return it."""
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    write_private(path, pem)
    return key


def write_private(path: Path, data: bytes) -> None:
    """Create `path` with mode 0600, durable; an existing file is an error."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(f"{path} exists already", hint="choose an empty folder") from None
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from None
    with os.fdopen(fd, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def load_key(path: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 key; group and others must have no access to the file."""
    try:
        mode = path.stat().st_mode & 0o777
        pem = path.read_bytes()
    except OSError as error:
        raise MissingInput(
            f"cannot read the key {path}: {error.strerror}", hint="run `edgefl-hub init`"
        ) from None
    if mode & 0o077:
        raise ConfigError(f"{path} has mode {mode:o}, at most 600 is accepted", hint=f"chmod 600 {path}")
    try:
        key = serialization.load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigError(
            f"{path} is not an unencrypted PKCS#8 key", hint="restore it from a backup"
        ) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigError(f"{path} is not an Ed25519 key", hint="restore it from a backup")
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the 32 raw bytes of the public key."""
    return key.public_key().public_bytes(RAW, serialization.PublicFormat.Raw)


def seed_bytes(key: Ed25519PrivateKey) -> bytes:
    """Return the 32-byte private seed (what PyNaCl calls SigningKey)."""
    return key.private_bytes(RAW, serialization.PrivateFormat.Raw, serialization.NoEncryption())
