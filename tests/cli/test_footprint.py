# SPDX-License-Identifier: Apache-2.0
"""Memory of a process that trains: NumPy without what training never uses, data files that stay on disk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tinymodel import small_cnn

from edgefl.cli import main as cli

LEAN = """
import sys
from edgefl.adapters.lean import DEFERRED, import_numpy
import_numpy()
import numpy as np
loaded = lambda name: "__builtins__" in vars(sys.modules["numpy." + name])
assert not any(loaded(n) for n in ("fft", "polynomial", "ctypeslib")), "something was not deferred"
np.array([3, 1, 2]).sort(), np.linalg.norm(np.ones(3)), np.median(np.ones(3))
assert np.random.default_rng(0).integers(9) == 7
assert np.ma.array([1, 2], mask=[0, 1]).sum() == 1
assert np.fft.fft(np.ones(4))[0] == 4 and np.polynomial.Polynomial([1, 2])(3) == 7
assert np.ctypeslib.as_array((np.ctypeslib.ctypes.c_int * 2)(1, 2)).tolist() == [1, 2]
from numpy.random import default_rng
import numpy.random.mtrand, numpy.testing
assert loaded("random") and np.random is sys.modules["numpy.random"]
import_numpy()
print("ok")
"""


def run(code: str, *args: str) -> str:
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code, *args]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_lean_numpy_is_numpy() -> None:
    assert run(LEAN) == "ok"


def test_lean_numpy_leaves_a_loaded_one_alone() -> None:
    code = "import numpy, sys; a = numpy.random if hasattr(numpy, 'random') else 0\n"
    code += "from edgefl.adapters.lean import import_numpy; import_numpy()\n"
    assert run(code + "assert numpy.random is sys.modules['numpy.random']; print('ok')") == "ok"


TRAIN = """
import sys
from edgefl.adapters.proc import peak_memory
from edgefl.cli.main import main
assert main(sys.argv[1:]) == 0
print(peak_memory())
"""


def test_training_process_stays_small(shared: Path, tmp_path: Path) -> None:
    """ResNet8, all layers: the whole process with NumPy; the data file of 6 MB stays on disk."""
    rng = np.random.default_rng(0)
    x = rng.integers(-128, 128, (2000, 32, 32, 3)).astype(np.int8)
    np.savez(tmp_path / "d.npz", x=x, y=rng.integers(0, 10, 2000))
    model = shared / "data/models/mlperf-tiny/resnet8_int8.tflite"
    args = ["train", str(model), "--data", str(tmp_path / "d.npz"), "--layers", "all", "--lr", "0.0003"]
    assert int(run(TRAIN, *args, "--batch", "1", "--max-steps", "200").split()[-1]) < 48_000_000
    assert int(run(TRAIN, *args, "--max-steps", "20").split()[-1]) < 52_000_000


def trained(capsys: pytest.CaptureFixture[str], folder: Path, data: str) -> str:
    args = ["train", str(folder / "m.tflite"), "--data", str(folder / data), "--json", "--layers", "all"]
    assert cli.main(args) == 0
    return str(json.loads(capsys.readouterr().out)["trained_sha256"])


def test_stored_compressed_and_float_samples_train_alike(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "m.tflite").write_bytes(small_cnn())
    rng = np.random.default_rng(0)
    x, y = rng.integers(-128, 128, (60, 8, 8, 3)).astype(np.int8), rng.integers(0, 4, 60)
    np.savez(tmp_path / "stored.npz", x=x, y=y)
    np.savez_compressed(tmp_path / "packed.npz", x=x, y=y)
    np.savez(tmp_path / "float.npz", x=(x.astype("f4") + 3) * np.float32(0.05), y=y)
    np.savez(tmp_path / "columns.npz", x=np.asfortranarray(x), y=y)
    hashes = {trained(capsys, tmp_path, f"{name}.npz") for name in ("stored", "packed", "float", "columns")}
    assert len(hashes) == 1
