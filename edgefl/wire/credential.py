# SPDX-License-Identifier: Apache-2.0
"""Device credentials: the CA's short statement that a key belongs to a device, checked without X.509.

In: the CA's signer, or a credential with the pinned CA key and the time.  Out: an envelope of kind
`credential`, or its payload.  Refuses another CA, an id that is not the key's, and expired ones.  Source:
docs/protocol.md.
"""

from __future__ import annotations

from edgefl.errors import Refused
from edgefl.wire.envelope import open_envelope, seal
from edgefl.wire.keys import Signer, key_id
from edgefl.wire.messages import Credential

KIND = "credential"
LIFETIME_S = 7 * 86400


def issue(ca: Signer, device_key: bytes, class_: str, now: int) -> bytes:
    """Return a credential for a device's public key, valid for 7 days from now (unix seconds)."""
    body = Credential(device=key_id(device_key), key=device_key, class_=class_, expires=now + LIFETIME_S)
    return seal(KIND, body.encode(), [ca])


def check(data: bytes, ca_key: bytes, now: int) -> Credential:
    """Return what the CA stated; now is the checking hub's own time in unix seconds.

    Raises
    ------
    DataError
        Not a credential.
    Refused
        Signed by another key, expired, or an id that is not the key's.
    """
    body = Credential.decode(open_envelope(data, KIND, {key_id(ca_key): ca_key}))
    if body.device != key_id(body.key):
        raise Refused("the credential's device id is not its key's")
    if now >= body.expires:
        raise Refused(f"the credential expired {now - body.expires} s ago", hint="poll the hub for a new one")
    return body
