# SPDX-License-Identifier: Apache-2.0
"""Time of encoding, masking, packing and summing 1 M coordinates, one thread, every kernel of this machine.

`python bench/masks.py [--json]`.  Best of several runs: other processes can only make it slower.  Yardsticks:
OpenSSL's ChaCha20 over zeros (XOR instead of add), and libsodium's ChaCha20-Poly1305 over zeros by PyNaCl
(it exposes no bare stream; with its MAC it is a lower bound of libsodium's ChaCha20).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from time import perf_counter

import nacl.bindings
import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import ChaCha20
from edgefl.native._core import ffi, lib

from edgefl.native import dp, masks
from edgefl.privacy.encode import EncodeParams, encode
from edgefl.secagg.canary import canary_positions
from edgefl.secagg.mask import mask
from edgefl.secagg.params import norm_bound, ring_params
from edgefl.secagg.secret import Secret
from edgefl.secagg.unmask import helper_sum
from edgefl.types import RawDelta

N = 1_000_000
CHUNK = 1 << 17  # bytes of key stream a call, in cache: page faults would hide the rate
STREAM = "key stream made and added, GB/s"
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
    chunk = np.zeros(CHUNK // 4, np.uint32)
    fleet = [(bytes([i]) * 16, Secret(SEED)) for i in range(64)]
    return {
        STREAM: CHUNK / best_ms(lambda: masks.expand(chunk, [SEED], [1]), 200) / 1e6,
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


def yardsticks() -> dict[str, float]:
    """Return GB/s of the other libraries."""
    zeros, out = bytes(CHUNK), bytearray(CHUNK)
    cipher = Cipher(ChaCha20(SEED, bytes(16)), None).encryptor()
    seal = nacl.bindings.crypto_aead_chacha20poly1305_ietf_encrypt
    work: dict[str, Callable[[], object]] = {
        "OpenSSL ChaCha20": lambda: cipher.update_into(zeros, out),
        "libsodium ChaCha20-Poly1305": lambda: seal(zeros, None, bytes(12), SEED),
    }
    return {name: CHUNK / best_ms(f, 200) / 1e6 for name, f in work.items()}


def main() -> None:
    result: dict[str, dict[str, float]] = {}
    for isa in range(lib.EFL_ISA_COUNT):
        if lib.efl_isa_select(isa) == 0:
            result[ffi.string(lib.efl_isa_name(isa)).decode()] = rows()
    others = yardsticks()
    for figures in result.values():
        for name, rate in others.items():
            figures[f"times the rate of {name}"] = figures[STREAM] / rate
    if "--json" in sys.argv:
        print(json.dumps({"coordinates": N, "yardsticks_gb_s": others, "kernels": result}))
        return
    print(f"{N} coordinates, one thread; " + ", ".join(f"{k} {v:.2f} GB/s" for k, v in others.items()) + "\n")
    print(f"{'':46}" + "".join(f"{name:>12}" for name in result))
    for row in next(iter(result.values())):
        print(f"{row:46}" + "".join(f"{figures[row]:12.2f}" for figures in result.values()))


if __name__ == "__main__":
    main()
