# SPDX-License-Identifier: Apache-2.0
"""The worker as a real process: what it cannot do, what it refuses, what its vector is."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from tinymodel import small_cnn

from edgefl.adapters import sources
from edgefl.daemon import sandbox
from edgefl.daemon.child import Child, environment
from edgefl.errors import DataError, MissingInput
from edgefl.model.read import read_model
from edgefl.model.vector import select_segments, vector_size
from edgefl.native import masks
from edgefl.round.pipeline import Terms
from edgefl.secagg.params import norm_bound

MODEL = small_cnn(0)
SEGMENTS = select_segments(read_model(MODEL), "all")
DIM = vector_size(SEGMENTS)
TERMS = Terms(
    layers="all", loss="softmax_ce", class_weights_nano=(), lr_nano=10**7, epochs=1, batch=16, micro_batch=16,
    step_cap_nano=10**8, shadow="residual", seed=1, exponents=(2,) * sum(s.kind == "bias" for s in SEGMENTS),
    number=3, width=16, bits=11, value_bits=8, dim=DIM, scale=512, clip=10000, norm2_max=norm_bound(512, DIM),
    canaries=(0, 7, 100, DIM, DIM + 2, DIM + 5),
)  # fmt: skip


@pytest.fixture
def job(tmp_path) -> dict:
    (tmp_path / "model").write_bytes(MODEL)
    (tmp_path / "data").mkdir()
    save(tmp_path / "data" / "a.npz", 40)
    return {
        "parent": os.getpid(), "memory_mib": 1024, "nice": 1, "cpus": [], "sandbox": True,
        "terms": asdict(TERMS), "key": bytes(range(32)), "model": str(tmp_path / "model"),
        "sha256": hashlib.sha256(MODEL).digest(), "spool": str(tmp_path / "out"),
        "folder": str(tmp_path / "data"), "source": "", "own": "", "min_samples": 1, "max_samples": 1000,
    }  # fmt: skip


def save(path: Path, n: int, seed: int = 0, **changes) -> None:
    rng = np.random.default_rng(seed)
    arrays = {"x": rng.integers(-128, 128, (n, 8, 8, 3)).astype(np.int8), "y": rng.integers(0, 4, n)}
    np.savez(path, **{**arrays, **changes})


def run(job: dict, module: str = "edgefl.daemon.worker", **options) -> dict | None:
    async def go():
        child = await Child.start([], module, job, **options)
        try:
            return await asyncio.wait_for(child.message(), 60)
        finally:
            await child.stop()

    return asyncio.run(go())


def vector(job: dict) -> np.ndarray:
    """Unmask the spooled vector with the key."""
    length = TERMS.dim + len(TERMS.canaries)
    ring = np.zeros(length, np.uint16)
    masks.expand(ring, [job["key"]], [1])
    masks.add_packed(ring, Path(job["spool"]).read_bytes(), TERMS.bits)
    return masks.unwrap(ring, TERMS.bits)


def test_vector_has_its_canaries_and_the_training_in_it(job):
    told = run(job)
    assert told["ok"] and told["samples"] == 40 and told["sandbox"]
    assert told["peak_rss"] < 80 << 20
    values = vector(job)
    assert (values[list(TERMS.canaries)] == 1).all()
    rest = np.delete(values, TERMS.canaries)
    assert 0 < (rest**2).sum() <= TERMS.norm2_max
    assert Path(job["spool"]).stat().st_mode & 0o777 == 0o600


def test_training_repeats_and_only_the_rounding_differs(job):
    run(job)
    first = vector(job)
    run(job)
    assert abs(first - vector(job)).max() <= 1


def test_spool_file_is_noise_without_the_key(job):
    """Another key gives values all over the 11 bits."""
    run(job)
    assert abs(vector({**job, "key": bytes(32)})).max() > 900


def test_worker_says_nothing_of_the_data(job):
    """Counts, times and sizes; nothing else."""
    assert set(run(job)) == {"ok", "samples", "train_ms", "peak_rss", "sandbox"}


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"sha256": bytes(32)}, "not the one of the round"),
        ({"min_samples": 41}, "40 samples, at least 41"),
        ({"folder": "/nowhere"}, "does not exist"),
        ({"folder": "", "source": "sensor"}, "no sample source 'sensor'"),
        ({"folder": ""}, r"set \[data\]"),
        ({"spool": "/nowhere/out"}, "cannot write"),
    ],
)
def test_worker_refuses_in_one_line(job, changes, reason):
    import re

    told = run({**job, **changes})
    assert told is not None and not told["ok"] and re.search(reason, told["reason"]), told


def test_samples_beyond_the_memory_limit_are_one_line(job, tmp_path):
    """Samples of 384 MB do not fit beside numpy in 400 MiB."""
    many = 2_000_000
    save(tmp_path / "data" / "a.npz", 0, x=np.zeros((many, 8, 8, 3), np.int8), y=np.zeros(many, int))
    told = run({**job, "memory_mib": 400})
    assert told is not None and not told["ok"] and "memory_mib = 400" in told["reason"]


@pytest.mark.parametrize(
    "arrays, reason",
    [
        ({"y": np.full(40, 9)}, "labels 9..9"),
        ({"x": np.full((40, 8, 8, 3), np.nan, np.float32)}, "NaN"),
        ({"x": np.zeros((40, 9, 9, 3), np.int8)}, "shape"),
        ({"y": np.zeros(39, int)}, "do not go together"),
        ({"x": np.array([None] * 40)}, "objects"),
    ],
)
def test_bad_samples_fail_the_round(job, tmp_path, arrays, reason):
    save(tmp_path / "data" / "a.npz", 40, **arrays)
    told = run(job)
    assert not told["ok"] and reason in told["reason"]


def test_newest_samples_are_taken(job, tmp_path):
    save(tmp_path / "data" / "b.npz", 20, seed=1)
    assert run({**job, "max_samples": 30})["samples"] == 30
    x, _ = sources.load_samples(tmp_path / "data", "", None, 20)
    with np.load(tmp_path / "data" / "b.npz") as newest:
        assert (x == newest["x"]).all()


def test_command_that_cannot_be_started_is_one_line(job):
    from edgefl.errors import Unavailable

    async def go():
        await Child.start(["/nowhere/python"], "edgefl.daemon.worker", job)

    with pytest.raises(Unavailable, match="cannot start /nowhere/python"):
        asyncio.run(go())


# Sandbox

PROBE = """
import os, sys
from edgefl.daemon import job as pipe
from edgefl.daemon import sandbox
told = {"filter": sandbox.deny_network(), "fds": len(os.listdir("/proc/self/fd")), "env": sorted(os.environ)}
import ctypes, socket, subprocess
def attempt(what):
    try:
        what()
        return "allowed"
    except OSError as error:
        return error.strerror
libc = ctypes.CDLL(None, use_errno=True)
told["socket"] = attempt(socket.socket)
told["unix"] = attempt(lambda: socket.socket(socket.AF_UNIX))
told["exec"] = attempt(lambda: subprocess.run(["true"]))
told["uring"] = libc.syscall(425, 1, None)
told["open"] = attempt(lambda: open("/proc/self/status").close())
pipe.say(told)
"""


@pytest.fixture
def probe(tmp_path, monkeypatch):
    """Run PROBE as a child module."""
    (tmp_path / "probe_child.py").write_text(PROBE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("EDGEFL_SECRET", "x")
    return run({}, "probe_child")


def test_filter_denies_sockets_and_programs(probe):
    if not probe["filter"]:
        pytest.skip("this kernel or machine has no seccomp filter")
    assert probe["socket"] == probe["unix"] == probe["exec"] == "Operation not permitted"
    assert probe["uring"] == -1
    assert probe["open"] == "allowed"


def test_child_inherits_nothing_it_should_not(probe):
    assert probe["fds"] == 4  # stdin, stdout, stderr, and the folder that is being listed
    assert "EDGEFL_SECRET" not in probe["env"]
    assert "OPENBLAS_NUM_THREADS" in probe["env"]


def test_filter_of_another_machine_kills(tmp_path):
    """The architecture check comes first: numbers of one ABI must not be read as another's."""
    architecture, calls = sandbox.CALLS["aarch64"]
    code = (
        "from edgefl.daemon import sandbox\n"
        f"sandbox.CALLS['x86_64'] = ({architecture}, {calls!r})\n"
        "import platform; assert platform.machine() == 'x86_64'\n"
        "sandbox.deny_network()\nprint('alive')"
    )
    if os.uname().machine != "x86_64":
        pytest.skip("written for x86-64")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env=environment())
    assert done.returncode < 0 and b"alive" not in done.stdout


def test_limits_hold(job, tmp_path):
    child = (
        "import os, resource\nfrom edgefl.daemon import job as pipe, sandbox\nsandbox.limit(512, 3, [0])\n"
    )
    child += "pipe.say({'as': resource.getrlimit(resource.RLIMIT_AS)[0], 'core': resource.getrlimit("
    child += "resource.RLIMIT_CORE)[1], 'nice': os.nice(0), 'cpus': list(os.sched_getaffinity(0))})"
    (tmp_path / "limits_child.py").write_text(child)
    os.environ["PYTHONPATH"] = str(tmp_path)
    try:
        told = run({}, "limits_child")
    finally:
        del os.environ["PYTHONPATH"]
    assert told == {"as": 512 << 20, "core": 0, "nice": os.nice(0) + 3, "cpus": [0]}


# Plugins and own copies


class Sensor:
    """A plugin that gives ten new samples at each call."""

    seed = 0

    def batches(self):
        Sensor.seed += 1
        rng = np.random.default_rng(Sensor.seed)
        yield rng.integers(-128, 128, (10, 8, 8, 3)).astype(np.int8), rng.integers(0, 4, 10)


@pytest.fixture
def sensor(monkeypatch):
    import importlib.metadata as metadata

    point = metadata.EntryPoint("sensor", f"{__name__}:Sensor", sources.GROUP)
    monkeypatch.setattr(metadata, "entry_points", lambda group: [point] if group == sources.GROUP else [])
    monkeypatch.setattr(metadata.EntryPoint, "load", lambda _: Sensor)


def test_plugin_without_copies_gives_its_own_samples(sensor):
    x, y = sources.load_samples(None, "sensor", None, 100)
    assert len(x) == len(y) == 10


def test_copies_of_a_plugin_grow_from_round_to_round(sensor, tmp_path):
    sizes = [len(sources.load_samples(None, "sensor", tmp_path, 100)[0]) for _ in range(3)]
    assert sizes == [10, 20, 30]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in tmp_path.iterdir())


def test_unknown_plugin_is_named(sensor):
    with pytest.raises(MissingInput, match="no sample source 'camera'"):
        sources.load_samples(None, "camera", None, 100)


def test_files_that_do_not_go_together_are_refused(tmp_path):
    save(tmp_path / "a.npz", 5)
    save(tmp_path / "b.npz", 5, x=np.zeros((5, 8, 8, 3), np.float32))
    with pytest.raises(DataError, match="do not go together"):
        sources.load_samples(tmp_path, "", None, 100)


def test_folder_of_an_autoencoder_needs_no_y(tmp_path):
    for name in ("a.npz", "b.npz"):
        np.savez(tmp_path / name, x=np.zeros((5, 12), np.int8))
    x, y = sources.load_samples(tmp_path, "", None, 7)
    assert x.shape == (7, 12) and y is None
    save(tmp_path / "c.npz", 5, x=np.zeros((5, 12), np.int8))
    with pytest.raises(DataError, match="do not go together"):
        sources.load_samples(tmp_path, "", None, 100)


def test_copies_of_a_plugin_without_labels_are_kept(tmp_path):
    for n in (3, 4):
        sources.keep_copy(tmp_path, (np.zeros((n, 12), np.int8), None))
    x, y = sources.load_samples(tmp_path, "", None, 100)
    assert len(x) == 7 and y is None


def test_round_of_an_autoencoder_trains_on_its_inputs():
    from oracle.test_losses import autoencoder

    from edgefl.round.pipeline import masked_vector

    model = autoencoder()
    segments = select_segments(read_model(model), "all")
    exponents = (0,) * sum(s.kind == "bias" for s in segments)
    terms = replace(TERMS, loss="mse", dim=vector_size(segments), exponents=exponents, canaries=(0, 5))
    x = np.random.default_rng(0).integers(-128, 128, (20, 12)).astype(np.int8)
    masked, n = masked_vector(model, x, None, terms, bytes(32), bytes(32))
    assert n == 20 and masked.length == terms.dim + len(terms.canaries)
    with pytest.raises(DataError, match="no y"):
        masked_vector(model, x, None, replace(terms, loss="softmax_ce"), bytes(32), bytes(32))


def test_folder_is_only_read(tmp_path):
    save(tmp_path / "a.npz", 5)
    before = [(p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir()]
    sources.load_samples(tmp_path, "", None, 100)
    assert [(p.name, p.stat().st_mtime_ns) for p in tmp_path.iterdir()] == before


def test_parent_that_has_died_takes_the_child_along(tmp_path):
    """A child that waits for ever, started by a process that is then killed."""
    (tmp_path / "wait_child.py").write_text(
        "import os, time\nfrom edgefl.daemon import sandbox\nsandbox.die_with(os.getppid())\n"
        "open(os.environ['TMPDIR'] + '/pid', 'w').write(str(os.getpid()))\ntime.sleep(60)"
    )
    code = (
        "import subprocess, sys, time\nsubprocess.Popen([sys.executable, '-m', 'wait_child'])\ntime.sleep(60)"
    )
    env = {**environment(), "TMPDIR": str(tmp_path)}
    env["PYTHONPATH"] += f":{tmp_path}"
    parent = subprocess.Popen([sys.executable, "-c", code], env=env)
    try:
        until = time.monotonic() + 20
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < until
            time.sleep(0.02)
        pid = int((tmp_path / "pid").read_text())
    finally:
        parent.kill()
        parent.wait()
    while Path(f"/proc/{pid}").exists() and "State:\tZ" not in Path(f"/proc/{pid}/status").read_text():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_terms_cross_the_pipe_whole(job):
    from edgefl.wire import cbor

    back = cbor.loads(cbor.dumps(job["terms"]))
    plain = {k: tuple(v) if isinstance(v, list) else v for k, v in back.items()}
    assert Terms(**plain) == replace(TERMS)
