# SPDX-License-Identifier: Apache-2.0
"""Builder of the extension `edgefl.native._core`: cffi, API mode, limited API, one cp310-abi3 file.

In: csrc/include/edgefl.h between its `cdef begin` and `cdef end` marks, parsed as it is, and every
csrc/**/*.c.  Out: the `ffi` builder object that setup.py names in `cffi_modules`.
Invariant: `depends` lists every C file and header, so an edit always rebuilds.
"""

from __future__ import annotations

from pathlib import Path

from cffi import FFI

ROOT = Path(__file__).resolve().parents[2]
CSRC = ROOT / "csrc"
FOLDERS = ("core", "nn", "arch", "dp", "secagg", "ota")
WARNINGS = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow"]
# No FMA contraction, no fast-math: float results must be the same bits on every architecture.
CFLAGS = [
    "-std=c11",
    "-O3",
    "-ffp-contract=off",
    "-fno-math-errno",
    "-fno-stack-protector",
    "-fvisibility=hidden",
    "-pthread",
]


def sources() -> list[str]:
    """C files of the core, relative to the repository, in a fixed order."""
    return [str(p.relative_to(ROOT)) for folder in FOLDERS for p in sorted((CSRC / folder).glob("*.c"))]


def headers() -> list[str]:
    """Headers of the core, relative to the repository."""
    return [str(p.relative_to(ROOT)) for p in sorted(CSRC.rglob("*.h"))]


def cdef() -> str:
    """Cut out the declarations of the public header, without its preprocessor frame."""
    text = (CSRC / "include" / "edgefl.h").read_text(encoding="utf-8")
    return text.split("/* cdef begin */", 1)[1].split("/* cdef end */", 1)[0]


ffi = FFI()
ffi.cdef(cdef())
ffi.set_source(
    "edgefl.native._core",
    # The generated glue converts freely; our own files are compiled with -Wconversion.
    '#pragma GCC diagnostic ignored "-Wconversion"\n#include "edgefl.h"\n',
    sources=sources(),
    include_dirs=["csrc/include", "csrc"],
    depends=sources() + headers(),
    extra_compile_args=CFLAGS + WARNINGS,
    extra_link_args=["-pthread"],
    py_limited_api=True,
)
