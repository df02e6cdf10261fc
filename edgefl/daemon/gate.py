# SPDX-License-Identifier: Apache-2.0
"""The installer's child process: a download becomes a slot, then the health gate runs what stands there.

In: a job on stdin: the Release's envelope and the pins to check it with, the blob, the base file, the slot,
the probe.  Out: message 1, the slot is durable (or why not); message 2, the hash of the C core's outputs
and how far an interpreter's agree. It judges nothing: the supervisor does (edgefl/ota/gate.py), so a crash
here fails the Release and harms nobody.
Invariant: a slot appears under its name only whole, with the signed hash, fsynced.
Source: updates-and-trust design, section 3; boards design, section 3.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgefl.daemon import job as pipe
from edgefl.daemon import sandbox
from edgefl.errors import DataError, EdgeflError, ModelError

if TYPE_CHECKING:
    from edgefl.model.graph import Graph
    from edgefl.wire.messages import Probe

LITERT, TFLITE = "ai-edge-litert", "tflite-runtime"


def main() -> int:
    """Do the job's two parts and report each."""
    job = pipe.read_job()
    sandbox.die_with(job["parent"])
    sandbox.limit(job["memory_mib"], job["nice"], job["cpus"])
    if job["sandbox"]:
        sandbox.deny_network()
    try:
        write_slot(job)
        pipe.say({"ok": True})
    except (EdgeflError, OSError, MemoryError) as error:
        pipe.say(pipe.failure(error))
        return 0
    try:
        pipe.say({"ok": True, **check(job)})
    except (OSError, MemoryError) as error:
        pipe.say(pipe.failure(error))
    return 0


def write_slot(job: dict[str, Any]) -> None:
    """Make the slot's file, unless it stands there already with the right hash."""
    from edgefl.adapters.files import make_durable, write_durable
    from edgefl.ota import release
    from edgefl.wire.keys import sha256

    pins = release.Pins(**job["pins"])
    verified = release.verify(job["envelope"], pins, seen=job["seen"], clock=job["clock"], floor=job["floor"])
    slot = Path(job["slot"])
    if slot.exists() and sha256(slot.read_bytes()) == verified.body.file:
        return make_durable(slot)  # an earlier life may have been killed between rename and fsync
    base = Path(job["base"]).read_bytes() if job["base"] else b""
    blob = Path(job["blob"]).read_bytes() if job["blob"] else b""
    active = sha256(base) if base else None
    download = release.choose(verified, active, whole=job["whole"])
    write_durable(slot, release.reconstruct(verified, download, blob, base), part=Path(job["part"]))


def check(job: dict[str, Any]) -> dict[str, object]:
    """Return a GateReport's fields: what C core and interpreter give; an error of the model is one too."""
    from edgefl.model.read import read_model
    from edgefl.ota.gate import agreeing
    from edgefl.wire.keys import sha256
    from edgefl.wire.messages import Probe

    probe = Probe.decode(Path(job["probe"]).read_bytes())
    try:
        graph = read_model(Path(job["slot"]).read_bytes())
        core = run_core(graph, probe)
        name, outputs = run_interpreter(graph, probe, job["runtime"], core)
    except EdgeflError as error:
        return {"core": b"", "n": 0, "interpreter": "", "exact": False, "agree": 0, "error": str(error)[:200]}
    return {
        "core": sha256(core),
        "n": probe.n,
        "interpreter": name,
        "exact": outputs == core,
        "agree": agreeing(core, outputs, probe.n),
        "error": "",
    }


def run_core(graph: Graph, probe: Probe) -> bytes:
    """Return the C core's int8 outputs."""
    import numpy as np

    from edgefl.model.forward import Forward

    x, size = np.frombuffer(probe.x, np.int8), graph.input_size
    if x.size != probe.n * size:
        raise DataError(f"the probe has {x.size} values, {probe.n} inputs of {size} are needed")
    return Forward(graph).outputs(x.reshape(probe.n, size)).tobytes()


def run_interpreter(graph: Graph, probe: Probe, wanted: str, core: bytes) -> tuple[str, bytes]:
    """Return (interpreter, its int8 outputs); an empty name if none is installed or none is wanted.

    core: the C core's outputs; only looked at where the file's own cannot be turned back into int8.
    """
    import numpy as np

    from edgefl.model.border import give_input, take_output

    found = find_interpreter(wanted)
    if found is None:
        return "", b""
    name, interpreter_class = found
    try:
        interpreter = interpreter_class(model_content=graph.data, num_threads=1)
        interpreter.allocate_tensors()
        sources, targets = interpreter.get_input_details(), interpreter.get_output_details()
        outputs = []
        expected = iter(np.frombuffer(core, np.int8).reshape(probe.n, -1))
        for row in np.frombuffer(probe.x, np.int8).reshape(probe.n, graph.input_size):
            at = 0
            for port, source in zip(graph.inputs, sources, strict=True):
                end = at + graph.tensors[port.tensor].size
                values = give_input(port, graph.tensors[port.tensor], row[at:end])
                interpreter.set_tensor(source["index"], values.reshape(source["shape"]))
                at = end
            interpreter.invoke()
            ours, at = next(expected), 0
            for port, target in zip(graph.outputs, targets, strict=True):
                tensor = graph.tensors[port.tensor]
                part = ours[at : at + tensor.size].reshape(target["shape"])
                at += tensor.size
                values = interpreter.get_tensor(target["index"])
                outputs.append(take_output(port, tensor, values, part).tobytes())
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{name} does not run it: {str(error).strip().splitlines()[0]}") from None
    return name, b"".join(outputs)


def find_interpreter(wanted: str) -> tuple[str, Any] | None:
    """Return (name, class) of the interpreter that the configuration wants."""
    from importlib import import_module
    from importlib.util import find_spec

    for name, module in ((LITERT, "ai_edge_litert"), (TFLITE, "tflite_runtime")):
        if wanted in ("auto", name) and find_spec(module) is not None:
            return name, import_module(f"{module}.interpreter").Interpreter
    return None


if __name__ == "__main__":
    sys.exit(main())
