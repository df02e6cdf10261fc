# SPDX-License-Identifier: Apache-2.0
"""A small publisher: keys, files and signed Releases for the tests of edgefl/ota."""

from __future__ import annotations

import random

from edgefl.ota import patch
from edgefl.ota.release import Pins, VerifiedRelease, verify
from edgefl.wire import messages as m
from edgefl.wire.envelope import seal
from edgefl.wire.keys import public_key, sha256, signer

PUBLISHER = b"\x01" * 32
STRANGER = b"\x02" * 32
NOW = 1_800_000_000
PINS = Pins(
    publisher=public_key(PUBLISHER), model="ecg", class_="any", runtime="0.1.0", max_file_bytes=1 << 20
)
PROBE = m.Probe(n=2, x=b"\x05" * 20)

TASK = m.Task(
    name="ecg", layers="head", loss="softmax_ce", class_weights_nano=None, lr_nano=10**7, epochs=1, batch=8,
    micro_batch=8, step_cap_nano=10**9, shadow="int8", seed=1, exponents=(0,), mode="oneshot", width=16,
    value_bits=8, hub_rate_nano=10**9, clip=100, scale=127, dim=30,
)  # fmt: skip


def weights(seed: int, n: int = 6000) -> bytes:
    """Return n bytes that look like int8 weights."""
    rng = random.Random(seed)
    return bytes(int(rng.gauss(0, 20)) & 255 for _ in range(n))


def moved(old: bytes, seed: int, share: float = 0.3) -> bytes:
    """Return the bytes with a share of them moved by +-1."""
    rng = random.Random(seed)
    return bytes((b + rng.choice((-1, 1))) & 255 if rng.random() < share else b for b in old)


OLD = weights(1)
NEW = moved(OLD, 2)
PATCH = patch.build(OLD, NEW)
FULL = patch.full(NEW)


def release(**changes: object) -> m.Release:
    """Return a Release of NEW with some fields changed."""
    fields: dict[str, object] = {
        "model": "ecg",
        "class_": "any",
        "sequence": NOW + 5,
        "label": "v2",
        "issued": NOW,
        "expires": NOW + 86400,
        "file": sha256(NEW),
        "size": len(NEW),
        "schema": bytes(32),
        "patches": (m.PatchRef(sha256(OLD), sha256(PATCH), len(PATCH)),),
        "full": m.BlobRef(sha256(FULL), len(FULL)),
        "probe": m.ProbeRef(
            sha256(PROBE.encode()), len(PROBE.encode()), sha256(bytes([10, 20, 246, 3, 2, 1]))
        ),
        "task": TASK,
        "runtime": "0.1",
        "provenance": m.Provenance(round=None, cohort=0, parents=()),
    }
    return m.Release(**{**fields, **changes})


def envelope(body: m.Release, seed: bytes = PUBLISHER, kind: str = "release") -> bytes:
    """Return the Release as the publisher sends it."""
    return seal(kind, body.encode(), [signer(seed)])


def verified(**changes: object) -> VerifiedRelease:
    """Return a Release that passed all checks."""
    return verify(envelope(release(**changes)), PINS, seen=0, clock=NOW, floor=NOW)
