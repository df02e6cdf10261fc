# SPDX-License-Identifier: Apache-2.0
"""The reader: real models, the parser corpus, damaged files, and files that are sound but not ours."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tflite
from hypothesis import given, settings
from hypothesis import strategies as st
from tinymodel import FlatFile, Net, small_cnn

from edgefl.errors import ModelError
from edgefl.model.graph import Act, Op
from edgefl.model.read import read_model

SUPPORTED = {
    "ambiq/ecg_arrhythmia_int8": 111,
    "ai-edge-quantizer/conv_fc_mnist_srq_a8w8": 6,
    "coral/keras_lstm_mnist_ptq": 6,
    "coral/mobilenet_v1_0.25_128_quant": 31,
    "coral/mobilenet_v2_1.0_224_quant": 66,
    "misc/arrhythmia_mlp_int8": 6,
    "mlperf-tiny/kws_ref_model_int8": 13,
    "mlperf-tiny/resnet8_int8": 16,
    "nxp/yolo_face_detect_int8": 57,
    "tflite-micro/hello_world_int8": 3,
    "tflite-micro/micro_speech_lstm": 4,
    "tflite-micro/keyword_scrambled": 12,
    "tflite-micro/micro_speech_quantized": 4,
    "tflite-micro/trained_lstm_int8": 4,
    "tflite-micro/simple_add_model": 1,
    "tinyengine/ptq_mnist_lenet-300-100": 4,
    "tinymaix/cifar10_q": 6,
    "tinymaix/mbnet96_0.25_q": 32,
    "tinymaix/mnist_dw_q": 7,
    "tinymaix/mnist_resnet_q": 8,
    "tinymaix/mnist_valid_q": 6,
}
REFUSED = {
    "ai-edge-quantizer/mnist_quantized": r"operator 0 \(DEQUANTIZE\) turns int8 weights .* hybrid model",
    "misc/fan_low_autoencoder_fp32": r"operator 0 \(FULLY_CONNECTED\) computes in float32",
    "mlperf-tiny/kws_ref_model_fp32": r"operator 0 \(CONV_2D\) has int8 weights .* hybrid model; quantise",
    "mlperf-tiny/resnet8_fp32": r"operator 0 \(CONV_2D\) computes in float32; quantise",
    "tflite-micro/audio_preprocessor_int8": r"operator 0 \(CUSTOM\(SignalWindow\)\) is not supported",
    "tflite-micro/trained_lstm": r"operator 0 \(UNIDIRECTIONAL_SEQUENCE_LSTM\) computes in float32",
}


def refusal(data: bytes) -> str:
    """The one line with which the reader refuses."""
    with pytest.raises(ModelError) as caught:
        read_model(data)
    text = str(caught.value)
    assert text and "\n" not in text and len(text) < 400
    return text


@pytest.mark.parametrize("name", SUPPORTED)
def test_read_real_model_gives_its_graph(name: str, shared: Path) -> None:
    graph = read_model((shared / "data/models" / f"{name}.tflite").read_bytes())
    assert len(graph.nodes) == SUPPORTED[name]
    assert not any(p.shared or p.bias_shared for p in graph.params)


@pytest.mark.parametrize("name", REFUSED)
def test_read_unsupported_real_model_is_refused_by_name(name: str, shared: Path) -> None:
    import re

    assert re.search(REFUSED[name], refusal((shared / "data/models" / f"{name}.tflite").read_bytes()))


def test_read_operator_code_in_the_newer_field_only() -> None:
    data = small_cnn()
    code = tflite.Model.GetRootAs(data, 0).OperatorCodes(0)
    changed = bytearray(data)
    changed[code._tab.Pos + code._tab.Offset(4)] = 0  # the old field, as some writers leave it
    assert read_model(bytes(changed)).nodes[0].kind is read_model(data).nodes[0].kind is Op.CONV2D


def test_read_parser_corpus_loads_or_refuses_in_one_line(shared: Path) -> None:
    files = sorted(p for p in (shared / "data/models/parser-corpus").rglob("*") if p.is_file())
    assert len(files) == 147
    loaded = 0
    for path in files:
        try:
            read_model(path.read_bytes())
            loaded += 1
        except ModelError as error:
            assert "\n" not in str(error)
    assert loaded >= 1


def test_read_kws_has_the_documented_geometry(shared: Path) -> None:
    graph = read_model((shared / "data/models/mlperf-tiny/kws_ref_model_int8.tflite").read_bytes())
    stem = graph.nodes[0]
    assert (stem.kind, stem.kernel, stem.stride, stem.pad) == (Op.CONV2D, (10, 4), (2, 2), (4, 5, 1, 1))
    assert (stem.act, graph.nodes[1].kind, graph.nodes[1].mult) == (Act.RELU, Op.DWCONV2D, 1)
    assert graph.tensors[graph.input].shape == (49, 10, 1)
    assert graph.tensors[graph.logits].shape == (1, 1, 12)
    param = graph.params[0]
    assert graph.data[param.weight_offset : param.weight_offset + param.q.size] == param.q.tobytes()
    assert param.scales.shape == (64,) and graph.params[-1].scales.shape == (1,)


def test_read_micro_speech_takes_the_multiplier_from_the_shapes(shared: Path) -> None:
    graph = read_model((shared / "data/models/tflite-micro/micro_speech_quantized.tflite").read_bytes())
    assert graph.nodes[1].mult == 8


def test_read_shape_arithmetic_is_left_out_and_the_logits_found(shared: Path) -> None:
    graph = read_model((shared / "data/models/tinymaix/mbnet96_0.25_q.tflite").read_bytes())
    assert graph.nodes[-1].kind is Op.COPY and graph.tensors[graph.logits].shape == (1, 1, 1000)
    assert graph.logits != graph.output


def test_read_tiny_model_matches_what_was_written() -> None:
    graph = read_model(small_cnn())
    kinds = [n.kind for n in graph.nodes]
    assert kinds == [Op.CONV2D, Op.CONV2D, Op.ADD, Op.DWCONV2D, Op.MEAN, Op.DENSE, Op.SOFTMAX]
    assert graph.nodes[3].pad == (0, 1, 0, 1)
    assert [p.q.shape for p in graph.params] == [(6, 3, 3, 3), (6, 3, 3, 6), (3, 3, 6), (4, 6)]


def test_read_float_borders_are_taken_off() -> None:
    net = Net((1, 4, 4, 2), np.random.default_rng(0)).conv(3).mean().dense(2)
    graph = read_model(net.build_float_io())
    assert [p.dtype for p in (*graph.inputs, *graph.outputs)] == ["float32", "float32"]
    assert [n.kind for n in graph.nodes] == [Op.CONV2D, Op.MEAN, Op.DENSE]


def test_read_every_truncation_is_refused() -> None:
    data = small_cnn()
    for n in range(len(data)):
        refusal(data[:n])


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 7)), min_size=1, max_size=4))
def test_read_bit_flips_load_or_refuse(flips: list[tuple[int, int]]) -> None:
    data = bytearray(small_cnn())
    for position, bit in flips:
        data[position % len(data)] ^= 1 << bit
    try:
        read_model(bytes(data))
    except ModelError as error:
        assert "\n" not in str(error)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(0, 1 << 20), st.sampled_from([0, 1, 0x7F, 0xFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF]))
def test_read_overwritten_words_load_or_refuse(position: int, word: int) -> None:
    data = bytearray(small_cnn())
    at = position % (len(data) - 4) & ~3
    data[at : at + 4] = word.to_bytes(4, "little")
    try:
        read_model(bytes(data))
    except ModelError as error:
        assert "\n" not in str(error)


def test_read_bit_flips_of_a_real_file_load_or_refuse(shared: Path) -> None:
    data = (shared / "data/models/mlperf-tiny/kws_ref_model_int8.tflite").read_bytes()
    rng = np.random.default_rng(7)
    for _ in range(300):
        broken = bytearray(data)
        broken[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            read_model(bytes(broken))
        except ModelError as error:
            assert "\n" not in str(error)


def one_dense(**changes: object) -> bytes:
    """A dense layer of 3 inputs and 2 outputs, with one thing changed."""
    f = FlatFile()
    x = f.tensor(
        changes.get("x_shape", (1, 3)), scale=changes.get("x_scale", 0.1), zero=changes.get("x_zero", 0)
    )
    q = np.array(changes.get("q", [[1, 2, 3], [4, 5, 6]]), np.int8)
    w = f.tensor(q.shape, scale=changes.get("w_scale", 0.01), zero=changes.get("w_zero", 0), data=q)
    b = np.array(changes.get("b", [7, 8]), np.int32)
    bias = f.tensor(b.shape, "int32", scale=changes.get("b_scale", 0.001), data=b)
    y = f.tensor(changes.get("y_shape", (1, 2)), scale=changes.get("y_scale", 0.05))
    inputs = changes.get("inputs", [x, w, bias])
    f.op(str(changes.get("op", "FULLY_CONNECTED")), inputs, [y], **changes.get("options", {}))
    return f.finish([x], changes.get("outputs", [y]), subgraphs=changes.get("subgraphs", 1))


def test_read_one_dense_loads() -> None:
    param = read_model(one_dense()).params[0]
    assert param.b.tolist() == [7, 8] and param.qmin == -127
    assert read_model(one_dense(q=[[-128, 0, 0], [0, 0, 0]])).params[0].qmin == -128


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (dict(x_scale=0.0), "scale above 0"),
        (dict(x_scale=np.inf), "scale above 0"),
        (dict(x_scale=np.nan), "scale above 0"),
        (dict(x_zero=128), "zero point that int8 holds"),
        (dict(w_zero=3), "zero points 0"),
        (dict(w_scale=-1.0), "scales above 0"),
        (dict(w_scale=[0.01, 0.01, 0.01]), "with 1 or 2 scales"),
        (dict(b_scale=0.5), "bias scale"),
        (dict(b=[1, 2, 3]), "3 biases for 2 outputs"),
        (dict(b=[1, 2**31 - 1]), "bias so large"),
        (dict(y_scale=1e-9), "256 or more"),
        (dict(y_scale=1e-38, x_scale=1e30, w_scale=1e20, b_scale=None), "256 or more"),
        (dict(x_scale=1e-38, w_scale=1e-38, b_scale=None), "of 0"),
        (dict(x_shape=(2, 3)), "batch 1"),
        (dict(x_shape=(1, 4)), "for 4 inputs"),
        (dict(y_shape=(1, 3)), "declares the result"),
        (dict(inputs=[0, 1, 9]), "names tensor 9 of 4"),
        (dict(inputs=[3, 1, 2]), "writes|before it is computed"),
        (dict(inputs=[]), "has no input 0"),
        (dict(options=dict(FusedActivationFunction=4)), "fused activation 4"),
        (dict(options=dict(WeightsFormat=1)), "shuffled"),
        (dict(op="FLOOR"), r"operator 0 \(FLOOR\) is not supported"),
        (dict(subgraphs=2), "2 subgraphs"),
        (dict(outputs=[3, 3]), "two outputs"),
        (dict(outputs=[0]), "computed by no operator"),
        (dict(outputs=[1]), "computed by no operator"),
        (dict(outputs=[]), "no outputs"),
    ],
)
def test_read_unsound_dense_is_refused(changes: dict[str, object], expected: str) -> None:
    import re

    assert re.search(expected, refusal(one_dense(**changes)))


def test_read_shared_weights_are_marked_frozen() -> None:
    f = FlatFile()
    x = f.tensor((1, 3), scale=0.1)
    w = f.tensor((3, 3), scale=0.01, data=np.eye(3, dtype=np.int8))
    y = f.tensor((1, 3), scale=0.1)
    z = f.tensor((1, 3), scale=0.1)
    f.op("FULLY_CONNECTED", [x, w, -1], [y])
    f.op("FULLY_CONNECTED", [y, w, -1], [z])
    assert [p.shared for p in read_model(f.finish([x], [z])).params] == [True, True]


def test_read_weights_of_two_tensors_on_one_buffer_are_marked_frozen() -> None:
    f = FlatFile()
    x = f.tensor((1, 3), scale=0.1)
    w = f.tensor((3, 3), scale=0.01, data=np.eye(3, dtype=np.int8))
    again = f.tensor((3, 3), scale=0.01, buffer=1)
    y = f.tensor((1, 3), scale=0.1)
    z = f.tensor((1, 3), scale=0.1)
    f.op("FULLY_CONNECTED", [x, w, -1], [y])
    f.op("FULLY_CONNECTED", [y, again, -1], [z])
    assert [p.shared for p in read_model(f.finish([x], [z])).params] == [True, True]


def test_read_softmax_in_the_middle_freezes_what_it_depends_on() -> None:
    net = Net((1, 4), np.random.default_rng(0)).dense(3).softmax().dense(2)
    assert read_model(net.build()).trainable() == [1]


def test_read_unused_result_is_refused() -> None:
    net = Net((1, 4), np.random.default_rng(0))
    side = net.mark()
    net.dense(3)
    net.back_to(side)
    assert "operator 0: its result is never used" in refusal(net.dense(2).build())


def test_read_long_sums_are_refused() -> None:
    net = Net((1, 40000), np.random.default_rng(0)).dense(2)
    assert "limit is 32768" in refusal(net.build())


def test_read_not_a_model_is_refused() -> None:
    for data in (b"", b"TFL3", bytes(100), b"\x1c\0\0\0TFL3" + bytes(8), b"PK\3\4" * 50):
        refusal(data)


def test_read_one_large_vector_named_by_many_tensors_costs_its_size_once() -> None:
    """4 000 tensors that name the same 8 MB of scales: views, not 32 GB of copies."""
    import tracemalloc

    f = FlatFile()
    shared = f.quantization(np.full(1 << 20, 0.1, np.float32))
    x = f.tensor((1, 3), quantization=shared)
    for _ in range(4000):
        f.tensor((1, 3), quantization=shared)
    y = f.tensor((1, 3), scale=0.1)
    f.op("RESHAPE", [x], [y])
    data = f.finish([x], [y])
    tracemalloc.start()
    refusal(data)
    assert tracemalloc.get_traced_memory()[1] < 16 << 20
    tracemalloc.stop()


def test_read_more_weights_than_the_limit_are_refused() -> None:
    """A chain of layers that share one large tensor: small file, endless work."""
    f = FlatFile()
    q = np.ones((4096, 4096), np.int8)
    w = f.tensor(q.shape, scale=0.01, data=q)
    at = x = f.tensor((1, 4096), scale=0.1)
    for _ in range(6):
        y = f.tensor((1, 4096), scale=0.1)
        f.op("FULLY_CONNECTED", [at, w, -1], [y])
        at = y
    assert "operator 4" in refusal(f.finish([x], [at]))


def test_read_too_many_operands_are_refused() -> None:
    f = FlatFile()
    x, y = f.tensor((1, 3), scale=0.1), f.tensor((1, 3), scale=0.1)
    f.op("ADD", [x] * 300, [y])
    assert "limit is 256" in refusal(f.finish([x], [y]))


@pytest.mark.parametrize("scales", [(3e38, 1e-38), (1e-38, 3e38), (1.0, 1e-6)])
def test_read_mean_with_absurd_scales_is_refused(scales: tuple[float, float]) -> None:
    """Found by fuzzing: the ratio overflowed to infinity, and infinity times zero reached the C core."""
    f = FlatFile()
    x, y = f.tensor((1, 4, 4, 2), scale=scales[0]), f.tensor((1, 2), scale=scales[1])
    axes = f.tensor((2,), "int32", data=np.array([1, 2], np.int32))
    f.op("MEAN", [x, axes], [y], KeepDims=False)
    assert "outside 2^-16..2^8" in refusal(f.finish([x], [y]))
