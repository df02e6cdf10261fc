# SPDX-License-Identifier: Apache-2.0
"""A master becomes a signed Release with its file, patches, whole file and probe.

In: model bytes, master, task, earlier files, probe inputs.  Out: blobs and the Release's row.  Pure but for
the blobs; runs off the event loop.  Invariant: the sequence is above every earlier one and at least the time
(so that a hub restored from a backup never issues one twice); the probe's outputs are this very file's under
the `xnnpack` rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

import edgefl
from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.ota import patch
from edgefl.wire import cbor
from edgefl.wire.envelope import seal
from edgefl.wire.keys import Signer, sha256
from edgefl.wire.messages import BlobRef, PatchRef, Probe, ProbeRef, Provenance, Release, Task
from server_min.store import BlobRow, Blobs, ReleaseRow

DAY_S = 86400


@dataclass(frozen=True)
class Source:
    """What a release is made of."""

    task: Task
    file: bytes
    master: np.ndarray  # int64 [d]
    probe_x: np.ndarray  # int8 [n, input size]
    round: bytes | None
    cohort: int
    label: str


@dataclass(frozen=True)
class Built:
    """A release whose blobs are written; its rows are not."""

    row: ReleaseRow
    blobs: tuple[BlobRow, ...]


def build_release(
    source: Source, bases: Sequence[ReleaseRow], blobs: Blobs, publisher: Signer, now: float, days: int
) -> Built:
    """Write all blobs of a release and sign it; `bases`: the releases before it, the newest first."""
    task, name = source.task, sha256(source.file)
    graph = read_model(source.file)
    kept = Keeper(blobs, source, tuple(base.file for base in bases[:1]))
    model = kept.put(source.file, "model")
    patches: list[PatchRef] = []
    for base in bases:
        # The file itself, after a round that moved nothing, and a base that came twice need no patch.
        if base.file == name or any(base.file == p.from_ for p in patches):
            continue
        delta = patch.build(blobs.read(base.file), source.file)
        ref = kept.put(delta, "patch")
        patches.append(PatchRef(base.file, ref.sha256, ref.size))
    whole = kept.put(patch.full(source.file), "full")
    x = np.ascontiguousarray(source.probe_x)
    inputs = kept.put(Probe(n=len(x), x=x.tobytes()).encode(), "probe")
    probe = ProbeRef(inputs.sha256, inputs.size, sha256(Forward(graph).outputs(x).tobytes()))
    master = kept.put(source.master.astype("<i8").tobytes(), "master")
    issued = int(now)
    sequence = max((bases[0].sequence if bases else 0) + 1, issued)
    release = Release(
        model=task.name,
        class_="any",
        sequence=sequence,
        label=source.label,
        issued=issued,
        expires=issued + days * DAY_S,
        file=model.sha256,
        size=model.size,
        schema=schema_hash(graph),
        patches=tuple(patches),
        full=whole,
        probe=probe,
        task=task,
        runtime=edgefl.__version__,
        provenance=Provenance(round=source.round, cohort=source.cohort, parents=kept.parents),
    )
    envelope = kept.put(seal("release", release.encode(), [publisher]), "release")
    patch_size = next((p.size for p in patches if p.from_ == bases[0].file), None)
    row = ReleaseRow(
        task.name, sequence, envelope.sha256, model.sha256, model.size, whole.sha256, whole.size, patch_size,
        probe.sha256, master.sha256, source.round, source.cohort, source.label, issued,
    )  # fmt: skip
    return Built(row, tuple(kept.rows))


@dataclass(frozen=True)
class Keeper:
    """Stores blobs and notes their origin."""

    blobs: Blobs
    source: Source
    parents: tuple[bytes, ...]
    rows: list[BlobRow] = field(default_factory=list)

    def put(self, data: bytes, kind: str) -> BlobRef:
        """Store one blob."""
        name = self.blobs.put(data)
        self.rows.append(BlobRow(name, len(data), kind, self.source.round, self.source.cohort, self.parents))
        return BlobRef(name, len(data))


def schema_hash(graph: Graph) -> bytes:
    """Return SHA-256 over shapes of activations and weights: equal for all versions of one model."""
    tensors = [[t.name, list(t.file_shape)] for t in graph.tensors]
    params = [[p.op_index, list(p.q.shape), p.channels] for p in graph.params]
    return sha256(cbor.dumps([tensors, params]))


def load_master(blobs: Blobs, row: ReleaseRow) -> np.ndarray:
    """Return the master weights of a release."""
    return np.frombuffer(blobs.read(row.master), "<i8").astype(np.int64)


def load_probe_x(blobs: Blobs, row: ReleaseRow) -> np.ndarray:
    """Return the probe's inputs, int8 [n, input size]."""
    probe = Probe.decode(blobs.read(row.probe))
    return np.frombuffer(probe.x, np.int8).reshape(probe.n, -1)
