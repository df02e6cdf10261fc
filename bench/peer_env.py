# SPDX-License-Identifier: Apache-2.0
"""The virtual environment that bench/engine.py runs in: made once, with fixed versions of the peers.

In: a folder.  Out: its Python.  Uses the standard library only, so that any Python can start the bench.
onnxruntime-training 1.19.2 has wheels for CPython 3.8 to 3.12, imports only with torch beside it, and needs
onnx 1.16.2 and NumPy 1.  On x86-64 take torch's CPU build: the one that PyPI serves adds 3 GB of CUDA
libraries.
"""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from itertools import chain
from pathlib import Path

# Groups are installed one by one: a peer that a machine cannot have leaves the others.
BASE = ["numpy<2", "cffi>=1.15", "tflite>=2.10", "pillow>=9", "setuptools"]
PEERS = {
    "ai-edge-litert": ["ai-edge-litert==2.3.0"],
    "torch": ["torch==2.13.0"],
    "onnxruntime-training": ["onnxruntime-training==1.19.2", "onnx==1.16.2"],
}


def environment(folder: Path) -> Path:
    """Make the virtual environment, once, and return its Python."""
    python = folder / "bin" / "python"
    done = folder / "edgefl-peers.txt"
    wanted = "\n".join([*BASE, *chain(*PEERS.values())])
    if done.exists() and done.read_text() == wanted:
        return python
    venv.create(folder, with_pip=True, clear=True)
    for group in [BASE, *PEERS.values()]:
        print(f"installing {' '.join(group)}", file=sys.stderr)
        command = [str(python), "-m", "pip", "install", "-q", *group, BASE[0]]
        if subprocess.run(command, check=False).returncode:
            print(f"could not install {' '.join(group)}: its rows will say so", file=sys.stderr)
    done.write_text(wanted)
    return python


def enter(folder: Path, script: Path) -> None:
    """Start `script` again with the peers' Python and `--inside`, one thread unless it asks for more."""
    python = environment(folder)
    quiet = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
    paths = [str(script.resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    os.execve(
        python,
        [str(python), str(script.resolve()), *sys.argv[1:], "--inside"],
        {**os.environ, **quiet, "PYTHONPATH": os.pathsep.join(p for p in paths if p)},
    )
