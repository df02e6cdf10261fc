# SPDX-License-Identifier: Apache-2.0
"""Time of encoding, masking, packing and summing 1 M coordinates, one thread, every kernel of this machine.

`python bench/masks.py [--json]`.  Best of several runs: other processes can only make it slower.  The yardstick is
libsodium's ChaCha20-Poly1305 over zeros through PyNaCl (it exposes no bare stream): it computes a MAC too, so
its rate is a lower bound of libsodium's ChaCha20.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from time import perf_counter

import nacl.bindings
import numpy as np

from edgefl.native import dp, masks
from edgefl.native._core import ffi, lib
from edgefl.privacy.encode import EncodeParams, encode
from edgefl.secagg.canary import canary_positions
from edgefl.secagg.mask import mask
from edgefl.secagg.params import norm_bound, ring_params
from edgefl.secagg.secret import Secret
from edgefl.secagg.unmask import helper_sum
from edgefl.types import RawDelta

N = 1_000_000
SEED = bytes(range(32))


def best_ms(work: Callable[[], object], runs: int = 15) -> float:
    times = []
    for _ in range(runs):
        start = perf_counter()
        work()
        times.append(perf_counter() - start)
    return min(times) * 1e3


def rows() -> dict[str, float]:
    p = ring_params(16, 8, 256, N)
    rng = np.random.default_rng(1)
    delta = RawDelta(rng.integers(-2000, 2001, N).astype(np.int32), 1)
    params = EncodeParams(
        clip=dp.norm(delta.values),
        scale=1 << 14,
        bits=8,
        width=16,
        dim=N,
        norm2_max=norm_bound(1 << 14, N),
        canaries=canary_positions(bytes(32), p.length, p.n_canaries),
    )
    ring = encode(delta, params, SEED)
    ring32 = ring.values.astype(np.uint32)
    masked = mask(ring, SEED, p.bits)
    total = np.zeros(p.length, np.uint16)
    fleet = [(bytes([i]) * 16, Secret(SEED)) for i in range(64)]
    stream_mb = 8
    stream = best_ms(lambda: masks.key_stream(stream_mb << 20, SEED))
    return {
        "key stream, GB/s (with one copy into Python)": (stream_mb << 20) / stream / 1e6,
        "clip, round, check, ms": best_ms(
            lambda: dp.encode(
                delta.values,
                clip=params.clip,
                scale=params.scale,
                bits=8,
                norm2_max=params.norm2_max,
                seed=SEED,
            )
        ),
        "RawDelta to RingVector, ms": best_ms(lambda: encode(delta, params, SEED)),
        "one mask added, W = 16, ms": best_ms(lambda: masks.expand(ring.values, [SEED], [1])),
        "one mask added, W = 32, ms": best_ms(lambda: masks.expand(ring32, [SEED], [1])),
        "RingVector to MaskedVector, ms": best_ms(lambda: mask(ring, SEED, p.bits)),
        "pack to 11 bits, ms": best_ms(lambda: masks.pack(ring.values, 11)),
        "leader adds one update of 16 bits, ms": best_ms(lambda: masks.add_packed(total, masked.payload, 16)),
        "helper's sum, ms a device": best_ms(lambda: helper_sum(fleet, p, bytes(32)), 3) / len(fleet),
    }


def libsodium_gb_s(n_bytes: int = 8 << 20) -> float:
    zeros = bytes(n_bytes)
    seal = nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt
    return n_bytes / best_ms(lambda: seal(zeros, None, bytes(12), SEED)) / 1e6


def main() -> None:
    result: dict[str, dict[str, float]] = {}
    for isa in range(lib.EFL_ISA_COUNT):
        if lib.efl_isa_select(isa) == 0:
            result[ffi.string(lib.efl_isa_name(isa)).decode()] = rows()
    yardstick = libsodium_gb_s()
    for figures in result.values():
        figures["key stream / libsodium ChaCha20-Poly1305"] = (
            figures["key stream, GB/s (with one copy into Python)"] / yardstick
        )
    if "--json" in sys.argv:
        print(json.dumps({"coordinates": N, "libsodium_gb_s": yardstick, "kernels": result}))
        return
    print(f"{N} coordinates, one thread; libsodium ChaCha20-Poly1305 of zeros: {yardstick:.2f} GB/s\n")
    print(f"{'':46}" + "".join(f"{name:>12}" for name in result))
    for row in next(iter(result.values())):
        print(f"{row:46}" + "".join(f"{figures[row]:12.2f}" for figures in result.values()))


if __name__ == "__main__":
    main()
