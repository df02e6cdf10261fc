# SPDX-License-Identifier: Apache-2.0
"""The same training on every instruction set, here and on emulated ARM: one hash or a failure.

`python boards/same_bits.py [--steps 2] [--epoch] [--targets aarch64,armv7] [--work FOLDER]`.  In: models and
real data of the shared folder.  Out: a line for each run; exit 1 if two runs of one name differ.  ResNet8
`all`, KWS `last:3` and the LSTM, seed 1.  `--epoch` trains a whole epoch everywhere.  Here every set of
kernels runs, on ARM those of the named CPUs with a real Python (boards/arm_python.py); armv7 flushes
subnormals in NEON.  Emulation says nothing about time.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from arm_python import ROOT, TARGETS, arm_python

sys.path[:0] = [str(ROOT), str(ROOT / "bench")]

from samples import cifar, digits, kws, model_bytes  # noqa: E402

from edgefl.model.quantise import quantise  # noqa: E402
from edgefl.model.read import read_model  # noqa: E402

RUNNER = Path(__file__).resolve().parent / "train_bits.py"
MODELS = {
    "resnet8": "mlperf-tiny/resnet8_int8",
    "kws": "mlperf-tiny/kws_ref_model_int8",
    "lstm": "tflite-micro/trained_lstm_int8",
}
Line = tuple[str, str, str, int, str]  # run, where, kernels, threads, hash


def lstm_digits(n: int) -> tuple[np.ndarray, np.ndarray]:
    """First n test digits in the LSTM's input quantisation."""
    pixels, labels = digits(n)
    real = (pixels.astype(np.float32) / 255 - 0.1307) / 0.3081
    return quantise(read_model(model_bytes(MODELS["lstm"])), real), labels


def pack(path: Path, n: int) -> None:
    """Write models and n samples where the runner finds them."""
    data = {"resnet8": cifar(n), "kws": kws(n), "lstm": lstm_digits(n)}
    parts: dict[str, np.ndarray] = {}
    for name, (x, y) in data.items():
        model = np.frombuffer(model_bytes(MODELS[name]), np.uint8)
        parts |= {f"{name}_model": model, f"{name}_x": x, f"{name}_y": y}
    np.savez(path, **parts)


def train(where: str, python: list[str], env: dict[str, str], arguments: list[str]) -> list[Line]:
    """Run the trainings with this Python and read their lines."""
    command = [*python, str(RUNNER), *arguments]
    done = subprocess.run(command, env=env, cwd="/", capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{where}: the trainings failed:\n{done.stderr[-2000:]}")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    made = [(run, where, isa, threads, sha) for run, isa, threads, sha in lines]
    for run, _, isa, threads, sha in made:
        print(f"{run:8} {where:20} {isa:12} threads {threads}  {sha}", flush=True)
    return made


def main() -> int:
    """Train everywhere and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2, help="batches of a run (default 2)")
    parser.add_argument("--batch", type=int, default=8, help="samples of a batch (default 8)")
    parser.add_argument("--epoch", action="store_true", help="all samples once, in batches of 32")
    parser.add_argument("--samples", type=int, default=640, help="of an epoch (default 640)")
    parser.add_argument("--targets", default=",".join(TARGETS), help="of " + ", ".join(TARGETS))
    parser.add_argument("--work", type=Path, help="folder that keeps the ARM Pythons (default: temporary)")
    args = parser.parse_args()
    size = ["0", "32"] if args.epoch else [str(args.steps), str(args.batch)]
    with tempfile.TemporaryDirectory() as name:
        work = args.work or Path(name)
        packed = Path(name) / "samples.npz"
        pack(packed, args.samples)
        here = os.environ | {"PYTHONPATH": str(ROOT)}
        lines = train("this machine", [sys.executable], here, [str(packed), *size, "ref"])
        for target in (t for t in args.targets.split(",") if t):
            if not shutil.which(TARGETS[target].qemu):
                print(f"{target}: not run, no {TARGETS[target].qemu}")
                continue
            python, env = arm_python(target, work)
            for cpu in TARGETS[target].cpus:
                lines += train(f"{target} {cpu}", python, env | {"QEMU_CPU": cpu}, [str(packed), *size])
    wrong = {run for run in MODELS if len({line[4] for line in lines if line[0] == run}) != 1}
    print(f"{len(lines)} runs, {'DIFFERENT BITS: ' + ', '.join(sorted(wrong)) if wrong else 'the same bits'}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
