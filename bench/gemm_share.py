# SPDX-License-Identifier: Apache-2.0
"""Share of the machine's int8 peak that the matrix kernels reach on a training step's own calls.

In: nothing.  Out: one JSON object: multiply-adds of a step of ResNet8 at batch 1 (its nine convolutions,
forward, dX of all but the first, dW), seconds of the recorded kernel calls (bench/gemm_probe.c), the peak of
the same minutes.  Builds a copy of the core with the probe in a temporary folder: about half a minute, with
gcc.  Invariant: multiply-adds are those of the formulas; what a kernel does beyond them is its loss.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 300
DECLARATIONS = """
int32_t probe_record(int32_t on);
int64_t probe_calls(void);
double probe_forward(void);
double probe_backward(void);
"""


def build(folder: Path) -> None:
    """Copy the package and build its core with the probe inside."""
    from cffi import FFI

    shutil.copytree(ROOT / "edgefl", folder / "edgefl", ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    spec = importlib.util.spec_from_file_location("core_build", ROOT / "edgefl/native/build.py")
    assert spec and spec.loader
    core = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(core)
    renamed = folder / "init.c"
    renamed.write_text('#define efl_kernels efl_kernels_plain\n#include "core/init.c"\n')
    sources = [str(ROOT / s) for s in core.sources() if s != "csrc/core/init.c"]
    ffi = FFI()
    ffi.cdef(core.cdef() + DECLARATIONS)
    ffi.set_source(
        "edgefl.native._core",
        '#include "edgefl.h"\n' + DECLARATIONS,
        sources=[*sources, str(renamed), str(ROOT / "bench/gemm_probe.c")],
        include_dirs=[str(ROOT / "csrc/include"), str(ROOT / "csrc")],
        extra_compile_args=core.CFLAGS,
    )
    ffi.compile(tmpdir=str(folder))


def multiply_adds(graph: Any) -> dict[str, int]:
    """Count those of the convolutions: forward, and backward without the first one's dX."""
    from edgefl.model.graph import Op

    convs = [node for node in graph.nodes if node.kind is Op.CONV2D]
    each = []
    for node in convs:
        h, w, _ = graph.tensors[node.output].shape
        each.append(h * w * graph.params[node.param].q.size)
    return {"forward": sum(each), "backward": 2 * sum(each) - each[0]}


def measure() -> dict[str, Any]:
    """Record one step for each set of kernels, then time its calls and the peak in turns."""
    from peak import library, peak_macs
    from samples import cifar, model_bytes

    from edgefl.model.read import read_model
    from edgefl.native import lib
    from edgefl.native.engine import isa_name, select_isa, supported_isas
    from edgefl.train import Session
    from edgefl.types import Batch

    graph = read_model(model_bytes("mlperf-tiny/resnet8_int8"))
    macs, (x, y), found = multiply_adds(graph), cifar(4), {}
    library()
    for isa in supported_isas():
        select_isa(isa)
        if isa_name() not in ("avx2", "avx512vnni"):
            continue
        session = Session(graph, layers="all", lr=0.0003, batch_size=1, seed=1)
        session.fit(Batch(x[:2], y[:2]))
        lib.probe_record(1)
        session.fit(Batch(x[2:3], y[2:3]))
        lib.probe_record(0)
        calls = lib.probe_calls()
        rounds = [(lib.probe_forward(), lib.probe_backward()) for _ in range(ROUNDS)]
        peak = peak_macs(isa_name())
        forward, backward = (median(r[i] for r in rounds) for i in (0, 1))
        both = median(sum(r) for r in rounds)
        found[isa_name()] = {
            "calls": calls,
            "macs": macs,
            "peak_macs_a_second": peak,
            "us": {"forward": forward * 1e6, "backward": backward * 1e6},
            "share": {
                "forward": macs["forward"] / forward / peak,
                "backward": macs["backward"] / backward / peak,
                "all": sum(macs.values()) / both / peak,
            },
        }
    return found


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        build(Path(name))
        sys.path.insert(0, name)
        print(json.dumps(measure()))


main()
