# SPDX-License-Identifier: Apache-2.0
"""The machine's own limits: int8 multiply-adds a second, and how much a second core gives.

In: bench/peak.c, compiled with the host's `cc` into a temporary folder.  Out: numbers.  Refuses where there
is no compiler or the CPU lacks the instructions (Missing).  The best of several runs is the peak: neighbours
can only make it lower.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from statistics import median

from peers import Missing

SOURCE = Path(__file__).resolve().parent / "peak.c"
ROUNDS = 200_000
SPIN = 20_000_000


@cache
def library() -> ctypes.CDLL:
    """Compile and load peak.c."""
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/peak.so"
        command = [os.environ.get("CC", "cc"), "-O2", "-shared", "-fPIC", "-o", out, str(SOURCE)]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise Missing(f"the peak probe does not compile here: {error}") from None
        lib = ctypes.CDLL(out)
    for name in ("peak_spin", "peak_vnni", "peak_avx2"):
        if hasattr(lib, name):
            getattr(lib, name).restype, getattr(lib, name).argtypes = ctypes.c_double, [ctypes.c_int64]
    return lib


def peak_macs(isa: str) -> float:
    """Measure int8 multiply-adds a second of "avx512vnni" or "avx2"."""
    name = {"avx512vnni": "peak_vnni", "avx2": "peak_avx2"}.get(isa, "")
    lib = library()
    if not hasattr(lib, name) or (best := min(getattr(lib, name)(ROUNDS) for _ in range(9))) <= 0:
        raise Missing(f"no int8 peak probe for {isa} on this CPU")
    macs: int = getattr(lib, f"{name}_macs")()
    return macs * ROUNDS / best


def second_core() -> float:
    """Measure how much two spin loops gain from a second thread: 2.0 on two idle cores."""
    spin = library().peak_spin
    gains = []
    with ThreadPoolExecutor(2) as pool:
        for _ in range(5):
            alone = spin(SPIN)
            gains.append(2 * alone / max(pool.map(spin, (SPIN, SPIN))))
    return median(gains)
