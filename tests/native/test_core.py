# SPDX-License-Identifier: Apache-2.0
"""The C core as a library: what it calls, what it refuses, what its table of kernels offers."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from edgefl.errors import DataError
from edgefl.native import ffi, lib
from edgefl.native.build import CFLAGS, ROOT, sources
from edgefl.native.engine import isa_name, select_isa, supported_isas

ALLOWED = {"memcpy", "memset", "memmove", "memcmp", "getauxval"}


def undefined_symbols(sources: list[str], out: Path) -> set[str]:
    """What the C files together call outside themselves (nm -u of them as one object)."""
    cc, nm = shutil.which("cc") or shutil.which("gcc"), shutil.which("nm")
    if not cc or not nm:
        pytest.skip("needs a C compiler and nm")
    flags = [f for f in CFLAGS if f != "-O3"]  # unoptimised code calls no less
    command = [cc, *flags, "-O0", "-r", "-nostdlib", "-Icsrc/include", "-Icsrc", *sources, "-o", str(out)]
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    lines = subprocess.run([nm, "-u", out], capture_output=True, text=True, check=True).stdout.split("\n")
    names = {line.split()[-1] for line in lines if line.strip()}
    return {name for name in names if not name.startswith(("__aeabi_", "_GLOBAL_OFFSET_TABLE_"))}


def test_core_undefined_symbols_are_memory_functions_only(tmp_path: Path) -> None:
    """No allocation, files, clocks, entropy, errno or libm; only the pool of threads calls the system."""
    pool = "csrc/core/threads.c"
    rest = undefined_symbols([s for s in sources() if s != pool], tmp_path / "core.o")
    assert rest - ALLOWED == {"efl_parallel"}
    theirs = undefined_symbols([pool], tmp_path / "threads.o")
    assert {name for name in theirs if not name.startswith("pthread_")} == {"sched_yield"}


def test_isa_unknown_is_refused() -> None:
    with pytest.raises(DataError):
        select_isa(99)


def test_isa_scalar_always_runs() -> None:
    assert lib.EFL_ISA_REF in supported_isas()
    select_isa(lib.EFL_ISA_REF)
    assert isa_name() == "ref"
    lib.efl_init()


def test_every_status_has_a_text() -> None:
    codes = [getattr(lib, name) for name in dir(lib) if name.startswith("EFL_E_")]
    texts = {ffi.string(lib.efl_status_text(code)).decode() for code in [lib.EFL_OK, *codes]}
    assert len(texts) == len(codes) + 1 and all(t and "\n" not in t for t in texts)
