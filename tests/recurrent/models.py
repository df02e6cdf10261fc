# SPDX-License-Identifier: Apache-2.0
"""Random .tflite files with an LSTM or SVDF layer, grown on tinymodel's Net."""

from __future__ import annotations

import numpy as np
from tinymodel import Net

TANH, RELU = 4, 1


def add_lstm(
    net: Net,
    cells: int,
    *,
    cell_bits: float = 12,
    clip: float = 0.0,
    spread: float = 1.0,
    slots: dict[int, int] | None = None,
    **options: object,
) -> Net:
    """UNIDIRECTIONAL_SEQUENCE_LSTM on [1, steps, values]; `spread` widens what reaches the gates.

    slots: inputs of the operator to replace, -1 for none.
    """
    rng, f, (_, steps, depth) = net.rng, net.f, net.shape
    s_h, z_h = np.float32(rng.uniform(0.006, 0.009)), int(rng.integers(-3, 4))

    def weights(rows: int, terms: int, s_x: np.float32) -> tuple[int, np.float32]:
        # sums of `terms` products, about 60 * 40 * sqrt(terms) each, become about `spread` in real units
        scale = np.float32(spread * rng.uniform(0.5, 2) / (60 * 40 * np.sqrt(terms) * float(s_x)))
        q = rng.integers(-127, 128, (rows, terms)).astype(np.int8)
        return f.tensor((rows, terms), scale=scale, data=q), scale

    ins = [weights(cells, depth, net.scale) for _ in range(4)]
    backs = [weights(cells, cells, s_h) for _ in range(4)]
    biases = []
    for _, scale in ins:
        b = rng.normal(0, 0.5 / float(net.scale * scale), cells).astype(np.int32)
        biases.append(f.tensor((cells,), "int32", scale=net.scale * scale, data=b))
    hidden = f.tensor((1, cells), scale=s_h, zero=z_h, IsVariable=True)
    cell = f.tensor((1, cells), "int16", scale=np.float32(2.0**-cell_bits), IsVariable=True)
    scratch = [f.tensor((0,), "float32") for _ in range(4)] + [f.tensor((0,), scale=s_h, zero=z_h)]
    at = net.at
    y = net._result((1, steps, cells), s_h, z_h)
    inputs = [at, *(w for w, _ in ins), *(w for w, _ in backs), -1, -1, -1, *biases, -1, -1, hidden, cell]
    inputs += [-1] * 4
    for slot, tensor in (slots or {}).items():
        inputs[slot] = tensor
    numbers = dict(FusedActivationFunction=TANH, CellClip=clip, TimeMajor=False)
    f.op("UNIDIRECTIONAL_SEQUENCE_LSTM", inputs, [y], intermediates=scratch, **(numbers | options))
    net.at = y
    return net


def add_svdf(
    net: Net,
    units: int,
    *,
    rank: int = 1,
    memory: int = 4,
    bias: bool = True,
    slots: dict[int, int] | None = None,
    **options: object,
) -> Net:
    """SVDF with an int16 state on [1, values]; slots: inputs of the operator to replace, -1 for none."""
    rng, f, filters = net.rng, net.f, units * rank
    depth = int(np.prod(net.shape))
    s_f, s_t, s_m = np.float32(0.004), np.float32(0.002), np.float32(float(net.scale) * 0.004 * 8)
    feature = f.tensor(
        (filters, depth), scale=s_f, data=rng.integers(-127, 128, (filters, depth)).astype("i1")
    )
    taps = rng.integers(-32767, 32768, (filters, memory)).astype("<i2")
    time = f.tensor((filters, memory), "int16", scale=s_t, data=taps)
    b = -1
    if bias:
        b = f.tensor((units,), "int32", scale=s_m * s_t, data=rng.integers(-1000, 1000, units).astype("<i4"))
    state = f.tensor((1, filters * memory), "int16", scale=s_m, IsVariable=True)
    at = net.at
    s_y = np.float32(float(s_m) * float(s_t) * 1e7 * np.sqrt(rank * memory * depth) / 20)
    y = net._result((1, units), s_y, -128)
    inputs = [at, feature, time, b, state]
    for slot, tensor in (slots or {}).items():
        inputs[slot] = tensor
    f.op("SVDF", inputs, [y], **(dict(Rank=rank, FusedActivationFunction=RELU) | options))
    net.at = y
    return net


def random_lstm(seed: int) -> bytes:
    """[dense or conv,] LSTM, dense head; sizes, cell scale, clip and gate spread from the seed."""
    rng = np.random.default_rng(seed)
    steps, depth = int(rng.integers(1, 9)), int(rng.integers(1, 20))
    net = Net((1, steps, depth), rng, scale=float(rng.uniform(0.01, 0.06)), zero=int(rng.integers(-128, 128)))
    bits = int(rng.integers(9, 16))
    clip = float(rng.choice([0.0, 0.0, 0.25, 1.0, 10.0]))
    add_lstm(net, int(rng.integers(1, 18)), cell_bits=bits, clip=clip, spread=float(rng.choice([0.5, 2, 12])))
    if rng.random() < 0.3:
        add_lstm(net, int(rng.integers(1, 9)))
    net.dense(5)
    if rng.random() < 0.5:
        net.softmax()
    return net.build()
