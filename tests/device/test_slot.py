# SPDX-License-Identifier: Apache-2.0
"""What the installer's child does with a slot that an earlier life left."""

from __future__ import annotations

import os
from dataclasses import asdict
from hashlib import sha256

import edgefl
from edgefl.adapters.files import Layout
from edgefl.daemon import gate
from edgefl.ota.release import Pins
from edgefl.wire.keys import public_key


def test_slot_of_an_earlier_life_is_synced_before_it_counts(hub, tmp_path, monkeypatch):
    """Killed between rename and fsync, its name is not durable: a link to it could outlive it."""
    body, envelope = hub.releases[-1]
    layout = Layout(tmp_path / "state")
    layout.make()
    slot = layout.slot(body.file)
    slot.write_bytes(hub.model)
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), real(fd)))
    pins = Pins(public_key(hub.publisher), body.model, body.class_, edgefl.__version__, 1 << 20)
    gate.write_slot({
        "pins": asdict(pins), "envelope": envelope, "seen": 0, "clock": body.issued, "floor": 0,
        "slot": str(slot), "part": str(layout.part(body.file)), "base": "", "blob": "", "whole": True,
    })  # fmt: skip
    assert sha256(slot.read_bytes()).digest() == body.file
    assert synced == [str(slot), str(layout.slots)]
