# SPDX-License-Identifier: Apache-2.0
"""The C core against the oracle, bit for bit, on random models and real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracle.forward import run
from oracle.step import Oracle
from tinymodel import random_net

from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.read import read_model
from edgefl.train.fit import Session
from edgefl.types import Batch


def samples(graph: Graph, n: int, seed: int) -> np.ndarray:
    """Random int8 inputs."""
    return (
        np.random.default_rng(seed)
        .integers(-128, 128, (n, *graph.tensors[graph.input].shape))
        .astype(np.int8)
    )


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 30), st.integers(1, 20), st.booleans())
def test_forward_random_model_equals_oracle(seed: int, n: int, unsigned: bool) -> None:
    graph = read_model(random_net(seed, unsigned=unsigned))
    x = samples(graph, n, seed)
    np.testing.assert_array_equal(Forward(graph).run(x), run(graph, x)[graph.output].reshape(n, -1))


def train_both(
    graph: Graph,
    layers: str,
    x: np.ndarray,
    y: np.ndarray,
    *,
    lr: float,
    batch: int,
    micro: int,
    **more: object,
) -> tuple[str, str]:
    """Hash of the trained vector, from the C core and from the oracle, after two epochs."""
    weights = more.get("class_weights")
    session = Session(
        graph, layers=layers, lr=lr, batch_size=batch, micro_batch=micro, seed=3, round=2, **more
    )
    session.fit(Batch(x=x, y=y), epochs=2)
    oracle = Oracle(
        graph,
        layers,
        lr=lr,
        seed=3,
        round_=2,
        step_cap=float(more.get("step_cap", 0.003)),
        class_weights=None if weights is None else np.asarray(weights, np.float32),
    )
    state = oracle.fit(x, y, epochs=2, batch=batch, micro_batch=micro)
    exponents = session.exponents
    np.testing.assert_array_equal(session.delta().values, oracle.delta(exponents))
    return session.trained_sha256(), state.sha256()


@settings(max_examples=160, deadline=None, derandomize=True)
@given(
    st.integers(0, 1 << 30),
    st.sampled_from(["all", "bias+head", "head", "last:2"]),
    st.sampled_from([0.3, 0.03, 0.003, 0.0001]),
    st.sampled_from([(7, 7), (8, 3), (5, 1)]),
    st.sampled_from([0.003, 0.1]),
    st.booleans(),
    st.booleans(),
)
def test_train_random_model_equals_oracle(
    seed: int,
    layers: str,
    lr: float,
    sizes: tuple[int, int],
    step_cap: float,
    weighted: bool,
    unsigned: bool,
) -> None:
    graph = read_model(random_net(seed, unsigned=unsigned))
    layers = "all" if layers == "last:2" and len(graph.params) < 2 else layers
    x = samples(graph, 17, seed)
    y = np.random.default_rng(seed).integers(0, 5, 17)
    more = dict(class_weights=[1.0, 0.5, 3.0, 1.0, 2.0]) if weighted else {}
    ours, theirs = train_both(
        graph, layers, x, y, lr=lr, batch=sizes[0], micro=sizes[1], step_cap=step_cap, **more
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("name", "layers", "lr", "steps"),
    [
        ("mlperf-tiny/kws_ref_model_int8", "all", 0.003, 2),
        ("mlperf-tiny/kws_ref_model_int8", "bias+head", 0.01, 2),
        ("tinymaix/mnist_dw_q", "all", 0.01, 4),
        ("tinymaix/mnist_resnet_q", "last:3", 0.01, 3),
        ("tinymaix/cifar10_q", "all", 0.001, 1),
        ("tflite-micro/micro_speech_quantized", "all", 0.01, 3),
        ("misc/arrhythmia_mlp_int8", "all", 0.1, 8),
        ("ambiq/ecg_arrhythmia_int8", "all", 0.001, 1),
        ("ai-edge-quantizer/conv_fc_mnist_srq_a8w8", "all", 0.01, 2),
        ("coral/mobilenet_v1_0.25_128_quant", "last:3", 0.01, 1),
    ],
)
def test_train_real_model_equals_oracle(name: str, layers: str, lr: float, steps: int, shared: Path) -> None:
    graph = read_model((shared / "data/models" / f"{name}.tflite").read_bytes())
    x = samples(graph, 24, 1)
    y = np.random.default_rng(1).integers(0, graph.tensors[graph.logits].size, 24)
    session = Session(graph, layers=layers, lr=lr, batch_size=10, micro_batch=4, seed=1)
    session.fit(Batch(x=x, y=y), epochs=3, max_steps=steps)
    oracle = Oracle(graph, layers, lr=lr, seed=1)
    state = oracle.fit(x, y, epochs=3, batch=10, micro_batch=4, max_steps=steps)
    assert session.trained_sha256() == state.sha256()


@pytest.mark.parametrize(
    "fault", ["forward rounds down", "shift truncates", "mask forgotten", "pad value ignored"]
)
def test_planted_fault_is_noticed(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison can fail: each fault in the oracle shows on at least one of ten random models."""
    import oracle.backward as backward
    import oracle.forward as forward
    import oracle.numbers as numbers

    if fault == "forward rounds down":
        monkeypatch.setattr(forward, "rne", np.floor)
    elif fault == "shift truncates":
        monkeypatch.setattr(numbers, "rne_shift", lambda x, s: x >> s if s > 0 else x)
    elif fault == "mask forgotten":
        monkeypatch.setattr(backward, "_mask", lambda graph, node, error, y: error)
    else:
        plain = backward.patches
        monkeypatch.setattr(backward, "patches", lambda x, node, out, fill: plain(x, node, out, fill or 1))
    noticed = 0
    for seed in range(10):
        graph = read_model(random_net(seed))
        x, y = samples(graph, 8, seed), np.arange(8) % 5
        try:
            ours, theirs = train_both(graph, "all", x, y, lr=0.03, batch=4, micro=4)
            noticed += ours != theirs
        except AssertionError:
            noticed += 1
    assert noticed > 0
