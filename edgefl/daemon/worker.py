# SPDX-License-Identifier: Apache-2.0
"""The training process: one job on stdin, one message on stdout, then it ends.

In: the terms of a round, a mask key, the names of model, samples and spool file.  Out: the masked vector in
the spool file, fsynced; how many samples, how long, how much memory. It has no network, no identity key and
no database: it imports none of their modules, and a seccomp filter keeps it so.
Invariant: what it writes is masked; what it says holds no value of the data.
"""

from __future__ import annotations

import os
import sys
from time import monotonic
from typing import Any

from edgefl.adapters.proc import peak_memory
from edgefl.daemon import job as pipe
from edgefl.daemon import sandbox
from edgefl.errors import DataError, EdgeflError


def main() -> int:
    """Do one job."""
    job = pipe.read_job()
    sandbox.die_with(job["parent"])
    sandbox.limit(job["memory_mib"], job["nice"], job["cpus"])
    sandboxed = bool(job["sandbox"]) and sandbox.deny_network()
    try:
        pipe.say({"ok": True, "sandbox": sandboxed, **train(job)})
    except (MemoryError, ImportError):  # a library that finds no room to load says ImportError
        what = f"training did not get its memory or libraries ([worker] memory_mib = {job['memory_mib']})"
        pipe.say({"ok": False, "reason": what})
    except (EdgeflError, OSError) as error:
        pipe.say(pipe.failure(error))
    return 0


def train(job: dict[str, Any]) -> dict[str, object]:
    """Train, mask and spool; returns what the supervisor may know."""
    from hashlib import sha256
    from pathlib import Path

    from edgefl.adapters.files import PRIVATE, write_durable
    from edgefl.adapters.lean import import_numpy

    import_numpy()
    from edgefl.adapters.sources import load_samples
    from edgefl.round.pipeline import Terms, masked_vector

    model = Path(job["model"]).read_bytes()
    if sha256(model).digest() != job["sha256"]:
        raise DataError("the model file on disk is not the one of the round")
    paths = [Path(job[name]) if job[name] else None for name in ("folder", "own")]
    x, y = load_samples(paths[0], job["source"], paths[1], job["max_samples"])
    if len(x) < job["min_samples"]:
        raise DataError(f"{len(x)} samples, at least {job['min_samples']} wanted here")
    plain: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in job["terms"].items()}
    terms = Terms(**plain)
    begun = monotonic()
    masked, n_samples = masked_vector(model, x, y, terms, job["key"], os.urandom(32))
    spent = monotonic() - begun
    write_durable(Path(job["spool"]), masked.payload, PRIVATE)
    return {"samples": n_samples, "train_ms": int(1000 * spent), "peak_rss": peak_memory()}


if __name__ == "__main__":
    sys.exit(main())
