# SPDX-License-Identifier: Apache-2.0
"""Runs a command as the demo's child: `python -m edgefl.demo.child MODULE ARGS` is `python -m MODULE ARGS`.

Only one thing differs: the kernel sends TERM when the demo is gone, even if it was killed: nothing stays.
"""

from __future__ import annotations

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the module."""
    parent = int(os.environ.pop("EDGEFL_DEMO_PARENT"))
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit(75)
    module, *args = sys.argv[1:]
    sys.argv = [module, *args]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
