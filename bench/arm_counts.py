# SPDX-License-Identifier: Apache-2.0
"""Instructions that the ARM kernels execute, counted under qemu: counts, never times.

`python bench/arm_counts.py [--json]`.  In: nothing.  Out: instructions of one pass over one convolution of
ResNet8, for each set of kernels, with multiply-adds an instruction beside.  Builds a static program with zig
(pip install ziglang) and counts the lines of qemu's execution log, one instruction a block; the difference
between two and one repeats leaves out start and packing.  How many cycles an instruction takes is the
processor's own affair.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FLAGS = "-std=c11 -O3 -g0 -ffp-contract=off -fno-math-errno -fno-stack-protector -static".split()
PASSES = ("forward", "dX", "dW")
LAYERS = {  # name: side, ci, co, kernel, stride
    "3x3, 32x32x16 to 16": (32, 16, 16, 3, 1),
    "3x3, 8x8x64 to 64": (8, 64, 64, 3, 1),
}
ARCHITECTURES = {  # name: zig's target, emulator, CPU with everything, kernels
    "aarch64": (["aarch64-linux-musl"], "qemu-aarch64-static", "max", ("NEON", "DOTPROD", "I8MM")),
    "armv7": (
        ["arm-linux-musleabihf", "-mcpu=generic+v7a+neon+vfp3"],
        "qemu-arm-static",
        "cortex-a7",
        ("NEON",),
    ),
}


def isa_number(name: str) -> int:
    """Give EFL_ISA_<name> of the public header."""
    header = (ROOT / "csrc/include/edgefl.h").read_text(encoding="utf-8")
    found = re.search(rf"#define EFL_ISA_{name} (\d+)", header)
    if not found:
        raise SystemExit(f"edgefl.h has no EFL_ISA_{name}")
    return int(found.group(1))


def executed(command: list[str], cpu: str) -> int:
    """Count the instructions of one run."""
    env = os.environ | {"QEMU_CPU": cpu}
    log = ["-singlestep", "-d", "exec,nochain", "-D", "/dev/stdout"]
    run = subprocess.Popen([command[0], *log, *command[1:]], stdout=subprocess.PIPE, env=env)
    assert run.stdout
    count = sum(part.count(b"Trace ") for part in run.stdout)
    if run.wait():
        raise SystemExit(f"{' '.join(command[:2])} ended with {run.returncode}")
    return count


def measure() -> list[dict[str, object]]:
    """Count every pass of every layer with every set of kernels."""
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (target, emulator, cpu, kernels) in ARCHITECTURES.items():
            program = f"{folder}/{name}"
            sources = [str(p) for p in sorted((ROOT / "csrc").rglob("*.c"))]
            zig = [sys.executable, "-m", "ziglang", "cc", "-target", *target, *FLAGS]
            include = [f"-I{ROOT}/csrc/include", f"-I{ROOT}/csrc"]
            subprocess.run(
                [*zig, *include, "-o", program, f"{ROOT}/bench/arm_counts.c", *sources], check=True
            )
            for layer, (side, ci, co, k, stride) in LAYERS.items():
                macs = (side // stride) ** 2 * co * k * k * ci
                for number, kind in enumerate(PASSES):
                    for isa in kernels:
                        shape = [str(v) for v in (side, ci, co, k, stride, number)]
                        once, twice = (
                            executed([emulator, program, *shape, str(n), str(isa_number(isa))], cpu)
                            for n in (1, 2)
                        )
                        count = twice - once
                        rows.append(
                            {
                                "architecture": name,
                                "kernels": isa.lower(),
                                "layer": layer,
                                "pass": kind,
                                "instructions": count,
                                "macs_an_instruction": round(macs / count, 2),
                            }
                        )
                        print(rows[-1], file=sys.stderr)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    rows = measure()
    if args.json:
        print(json.dumps(rows, indent=1))
        return
    print("Instruction counts under emulation, not times.\n")
    print("| layer | pass | kernels | instructions | multiply-adds an instruction |\n|---|---|---|---|---|")
    for r in rows:
        kernels = f"{r['architecture']} {r['kernels']}"
        print(
            f"| {r['layer']} | {r['pass']} | {kernels} | {r['instructions']:,} | {r['macs_an_instruction']} |"
        )


main()
