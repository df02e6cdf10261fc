# SPDX-License-Identifier: Apache-2.0
"""The database and the durable files: what survives, what is refused, what is deleted."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from edgefl.adapters import files
from edgefl.adapters.sqlite import POLL_BLOCK, DeviceStore, Fleet
from edgefl.errors import ConfigError, StorageError
from edgefl.ota.install import Commit, Intent
from edgefl.round.machine import Record
from edgefl.wire.messages import HubPin

FLEET = Fleet(
    device=bytes(16),
    class_="any",
    hub="https://hub",
    ca=b"der",
    publisher=bytes(32),
    hubs=(
        HubPin(key=b"a" * 32, operator="A", role="leader"),
        HubPin(key=b"b" * 32, operator="B", role="helper"),
    ),
    task="t",
    credential=b"c",
)


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "edgefl.db"


@pytest.fixture
def store(path):
    store = DeviceStore(path)
    yield store
    store.close()


def test_newer_schema_is_refused(path):
    DeviceStore(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(ConfigError, match="schema 99"):
        DeviceStore(path)


def test_second_process_is_refused(store, path):
    code = "import sys; from pathlib import Path; from edgefl.adapters.sqlite import DeviceStore; "
    code += "DeviceStore(Path(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert "TemporaryFailure" in done.stderr and "in use" in done.stderr


def test_damaged_file_is_one_line(path):
    path.write_bytes(b"not a database at all" * 100)
    with pytest.raises(StorageError, match="damaged"):
        DeviceStore(path)


def test_no_shared_memory_file_beside_it(store, path):
    store.set_meta(samples=3)
    assert sorted(p.name for p in path.parent.iterdir()) == ["edgefl.db", "edgefl.db-wal"]


def test_settings_are_durable_ones(store):
    assert store.db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store.db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store.db.execute("PRAGMA locking_mode").fetchone() == ("exclusive",)


def test_polls_and_unchanged_numbers_write_nothing(store, path):
    """An idle device does not wear out its flash."""
    store.set_meta(samples=3, estimate_ms=5)
    size = path.with_name("edgefl.db-wal").stat().st_size
    for _ in range(100):
        store.set_meta(samples=3, estimate_ms=5)
        store.meta("samples")
        store.install_state()
        store.open_round()
    assert path.with_name("edgefl.db-wal").stat().st_size == size


def test_poll_numbers_increase_over_restarts(path):
    starts = []
    for _ in range(3):
        store = DeviceStore(path)
        starts.append(store.reserve_polls())
        store.close()
    assert starts == [1, POLL_BLOCK + 1, 2 * POLL_BLOCK + 1]


def test_fleet_comes_back_as_it_was(store, path):
    assert store.fleet() is None
    store.save_fleet(FLEET)
    store.save_credential(b"newer")
    store.close()
    again = DeviceStore(path)
    assert again.fleet() == Fleet(**{**FLEET.__dict__, "credential": b"newer"})
    again.close()


def test_install_rows(store):
    intent = Intent(release=b"r" * 32, file=b"f" * 32, sequence=7, issued=100, attempts=1)
    store.save_intent(intent, b"envelope")
    assert store.install_state().intent == intent
    assert store.intent_envelope() == b"envelope"
    store.commit_install(Commit(intent, None))
    state = store.install_state()
    assert (state.active, state.seen, state.intent) == (b"f" * 32, 7, None)
    assert store.active_release() == (b"r" * 32, b"envelope")
    assert store.time_floor() == 100
    store.reject(b"x" * 32, "why")
    store.reject(b"x" * 32, "why")
    assert store.install_state().rejected == (b"x" * 32,)


def test_round_rows(store):
    record = Record(b"1" * 16, b"base", 0, b"manifest")
    store.begin_round(record)
    assert store.open_round() == record and store.round_seen(record.round)
    assert store.reports(b"base") == 0
    store.commit_report(record.round, 1, b"other attempt", b"h")
    assert store.open_round() == record
    store.commit_report(record.round, 0, b"y", b"h")
    assert store.open_round() == Record(b"1" * 16, b"base", 0, b"manifest", b"y", b"h")
    assert store.reports(b"base") == 1
    store.finish_round(record.round, "sent")
    assert store.open_round() is None and store.round_seen(record.round)
    assert store.reports(b"base") == 1 and store.reports(b"another") == 0
    row = store.db.execute("SELECT manifest, y_hash, header FROM round").fetchone()
    assert row == (None, None, None)


def test_failed_round_counts_no_report(store):
    store.begin_round(Record(b"1" * 16, b"base", 0, b"manifest"))
    store.finish_round(b"1" * 16, "failed")
    assert store.reports(b"base") == 0


def test_leaving_keeps_the_model_rows(store):
    store.save_fleet(FLEET)
    intent = Intent(release=b"r" * 32, file=b"f" * 32, sequence=7, issued=100, attempts=1)
    store.save_intent(intent, b"envelope")
    store.commit_install(Commit(intent, None))
    store.begin_round(Record(b"1" * 16, b"base", 0, b"manifest"))
    store.forget_fleet()
    assert store.fleet() is None and store.open_round() is None
    assert store.install_state().active == b"f" * 32


# Files


def failing(name: str, code: int):
    def call(*_args, **_kwargs):
        raise OSError(code, os.strerror(code))

    return name, call


@pytest.mark.parametrize(
    "name, code", [("write", errno.ENOSPC), ("fsync", errno.EIO), ("replace", errno.EROFS)]
)
def test_failed_write_keeps_the_old_file_and_no_part(tmp_path, monkeypatch, name, code):
    target = tmp_path / "f"
    files.write_durable(target, b"old")
    monkeypatch.setattr(files.os, *failing(name, code))
    with pytest.raises(StorageError, match=os.strerror(code)):
        files.write_durable(target, b"new")
    monkeypatch.undo()
    assert target.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["f"]


def test_mode_holds_whatever_the_umask_and_the_leftover(tmp_path):
    (tmp_path / ".part-f").write_bytes(b"left")
    (tmp_path / ".part-f").chmod(0o666)
    old = os.umask(0)
    try:
        files.write_durable(tmp_path / "f", b"secret", files.PRIVATE)
    finally:
        os.umask(old)
    assert (tmp_path / "f").stat().st_mode & 0o777 == 0o600


def test_relink_swaps_in_one_step(tmp_path):
    (tmp_path / "slots").mkdir()
    for name in ("a", "b"):
        (tmp_path / "slots" / name).write_text(name)
        files.relink(tmp_path / "current", tmp_path / "slots" / name)
        assert (tmp_path / "current").read_text() == name
        assert files.linked(tmp_path / "current") == name
    assert os.readlink(tmp_path / "current") == "slots/b"  # relative: the folder may be moved


def test_order_of_syncs(tmp_path, monkeypatch):
    """File, then rename, then folder: the order that a power cut needs."""
    calls = []
    for name in ("fsync", "replace"):
        real = getattr(os, name)
        monkeypatch.setattr(
            files.os, name, lambda *a, name=name, real=real: (calls.append((name, *a)), real(*a))[1]
        )
    files.write_durable(tmp_path / "f", b"x")
    assert [c[0] for c in calls] == ["fsync", "replace", "fsync"]


def test_prune_samples_by_age_then_size(tmp_path):
    for i in range(5):
        path = tmp_path / f"{i}.npz"
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000 + i, 1000 + i))
    (tmp_path / "folder").mkdir()
    assert files.prune_samples(tmp_path, 10**6, 2, now=1004) == ["1.npz", "0.npz"]
    assert files.prune_samples(tmp_path, 250, 10**6, now=1004) == ["2.npz"]
    assert sorted(os.listdir(tmp_path)) == ["3.npz", "4.npz", "folder"]
    assert files.prune_samples(tmp_path, 0, 10**6, now=1004) == ["4.npz", "3.npz"]


def test_erased_file_is_overwritten_first(tmp_path):
    secret = tmp_path / "id.pem"
    secret.write_bytes(b"secret key")
    with open(secret, "rb") as held:
        files.erase(secret)
        assert held.read() == bytes(10)
    assert not secret.exists()
    files.erase(secret)  # again: nothing to do
