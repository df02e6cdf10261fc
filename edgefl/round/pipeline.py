# SPDX-License-Identifier: Apache-2.0
"""The arrows of docs/architecture.md in order: the worker's half, then the supervisor's; read it first.

In: samples, a model and the terms of a round.  Out: the one thing that leaves the device. Each import stands
inside its function: the worker never loads keys or network, the supervisor never loads numpy.
Invariant: between the halves passes a MaskedVector and nothing else; the seed stays in the supervisor.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from edgefl.model.graph import Graph
    from edgefl.ports import Entropy
    from edgefl.secagg.secret import Secret
    from edgefl.types import Batch, MaskedUpdate, MaskedVector, RawDelta
    from edgefl.wire.keys import Sign
    from edgefl.wire.messages import Manifest, Task

NANO = 10**9  # real numbers travel as integers


@dataclass(frozen=True)
class Terms:
    """What the worker needs of a round's task and manifest; plain values, for the pipe."""

    layers: str
    loss: str
    class_weights_nano: tuple[int, ...]  # empty: all 1
    lr_nano: int
    epochs: int
    batch: int
    micro_batch: int
    step_cap_nano: int
    shadow: str
    seed: int
    exponents: tuple[int, ...]  # of each trained bias
    number: int  # of the round
    width: int  # W
    bits: int  # M
    value_bits: int  # b
    dim: int  # d
    scale: int  # S
    clip: int  # C
    norm2_max: int  # D^2
    canaries: tuple[int, ...]


# Worker: sample -> Batch -> RawDelta -> RingVector -> MaskedVector


def masked_vector(
    model: bytes, x: np.ndarray, y: np.ndarray | None, terms: Terms, key: bytes, rounding: bytes
) -> tuple[MaskedVector, int]:
    """Train on the samples and mask what came out; returns (vector, number of samples).

    `key` is KDF(s, h), `rounding` 32 fresh bytes for the stochastic rounding.
    """
    from edgefl.data.batch import make_batch
    from edgefl.model.read import read_model
    from edgefl.privacy.encode import EncodeParams, encode
    from edgefl.secagg.mask import mask

    graph = read_model(model)
    batch = make_batch(graph, x, y, terms.loss)
    delta = train(graph, batch, terms)
    numbers = EncodeParams(
        terms.clip, terms.scale, terms.value_bits, terms.width, terms.dim, terms.norm2_max, terms.canaries
    )
    ring = encode(delta, numbers, rounding)
    return mask(ring, key, terms.bits), delta.samples


def train(graph: Graph, batch: Batch, terms: Terms) -> RawDelta:
    """Train as the task says; the start residuals follow from the round's number."""
    from edgefl.model.vector import select_segments
    from edgefl.train import Session

    # The task has one exponent for each trained bias; the session wants one for each segment.
    exponents = iter(terms.exponents)
    segments = select_segments(graph, terms.layers)
    session = Session(
        graph,
        layers=terms.layers,
        lr=terms.lr_nano / NANO,
        batch_size=terms.batch,
        micro_batch=terms.micro_batch,
        loss=terms.loss,
        seed=terms.seed,
        step_cap=terms.step_cap_nano / NANO,
        class_weights=[weight / NANO for weight in terms.class_weights_nano] or None,
        shadow=terms.shadow,
        round=terms.number,
        bias_exponents=[next(exponents, 0) if s.kind == "bias" else 0 for s in segments],
    )
    session.fit(batch, epochs=terms.epochs)
    return session.delta()


# Supervisor: manifest -> Terms and mask key; MaskedVector -> MaskedUpdate


def terms_of(manifest: Manifest, h: bytes, task: Task) -> Terms:
    """Return what the worker needs; the policy has accepted the manifest for this task."""
    from edgefl.secagg.canary import canary_positions
    from edgefl.secagg.params import norm_bound, round_params

    p = round_params(manifest)
    return Terms(
        layers=task.layers,
        loss=task.loss,
        class_weights_nano=task.class_weights_nano or (),
        lr_nano=task.lr_nano,
        epochs=task.epochs,
        batch=task.batch,
        micro_batch=task.micro_batch,
        step_cap_nano=task.step_cap_nano,
        shadow=task.shadow,
        seed=task.seed,
        exponents=task.exponents,
        number=manifest.number,
        width=p.width,
        bits=p.bits,
        value_bits=manifest.value_bits,
        dim=p.dim,
        scale=manifest.scale,
        clip=manifest.clip,
        norm2_max=norm_bound(manifest.scale, p.dim),
        canaries=canary_positions(h, p.length, p.n_canaries),
    )


def key_of(seed: Secret, device: bytes, manifest: Manifest, h: bytes) -> bytes:
    """Return KDF(s, h), which masks one vector."""
    from edgefl.secagg.kdf import mask_key

    return bytes(mask_key(seed.data, device=device, h=h, width=manifest.width, dim=manifest.dim))


def masked_update(
    payload: bytes, seed: Secret, manifest: Manifest, h: bytes, *,
    device: bytes, class_: str, attempt: int, credential: bytes, sign: Sign, entropy: Entropy,
) -> MaskedUpdate:  # fmt: skip
    """Seal the seed for the helper and sign."""
    from edgefl.secagg.oneshot import seal
    from edgefl.types import MaskedVector

    masked = MaskedVector(payload, manifest.length, manifest.bits)
    return seal(
        masked, seed, manifest, h, device=device, class_=class_, attempt=attempt, credential=credential,
        sign=sign, entropy=entropy,
    )  # fmt: skip
