# SPDX-License-Identifier: Apache-2.0
"""Whole models in the C core against the stored outputs of LiteRT's default delegate, at tolerance 0."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefl.api.model import Model
from edgefl.model.read import read_model

MODELS = {
    "ai-edge-quantizer": ["conv_fc_mnist_srq_a8w8"],
    "ambiq": ["ecg_arrhythmia_int8"],
    "coral": ["keras_lstm_mnist_ptq", "mobilenet_v1_0.25_128_quant", "mobilenet_v1_0.5_160_quant"],
    "misc": ["arrhythmia_mlp_int8"],
    "mlperf-tiny": ["kws_ref_model_int8", "resnet8_int8"],
    "nxp": ["yolo_face_detect_int8"],
    "tflite-micro": [
        "hello_world_int8",
        "keyword_scrambled",
        "micro_speech_lstm",
        "micro_speech_quantized",
        "simple_add_model",
        "trained_lstm_int8",
    ],
    "tinyengine": ["ptq_mnist_lenet-300-100"],
    "tinymaix": ["cifar10_q", "mbnet96_0.25_q", "mnist_dw_q", "mnist_resnet_q", "mnist_valid_q"],
}


@pytest.mark.parametrize("name", [f"{folder}/{name}" for folder, names in MODELS.items() for name in names])
def test_predict_real_model_equals_litert(name: str, shared: Path) -> None:
    golden = np.load(shared / "data/model-golden/litert_golden.npz")
    model = Model(read_model((shared / "data/models" / f"{name}.tflite").read_bytes()))
    key = name.split("/")[1]
    given = [golden[f"{key}/in{i}"][:, 0] for i in range(len(model.inputs))]
    stored = model.predict(given if len(given) > 1 else given[0], values="stored")
    for i, ours in enumerate(stored if isinstance(stored, list) else [stored]):
        theirs = golden[f"{key}/xnn_out{i}"]
        ours, theirs = ours.reshape(len(theirs), -1), theirs.reshape(len(theirs), -1)
        assert ours.dtype == theirs.dtype
        if ours.dtype == np.float32:  # LOG_SOFTMAX behind the body
            np.testing.assert_allclose(ours, theirs, atol=2e-7)
        else:
            np.testing.assert_array_equal(ours, theirs)
