# SPDX-License-Identifier: Apache-2.0
"""Makes bench/resnet8_head_fp32.tflite: LiteRT's way of on-device training, for bench/engine.py to race.

`python bench/head_model.py RESNET8_INT8.tflite` with TensorFlow and tflite installed.  In: the int8 model.
Out: the same network with dequantised fp32 weights and a signature `train(x, y) -> loss` that trains the
dense head by SGD; only built-in operators, so that every LiteRT runs it.  The convolutions are constants:
the signature API trains no convolution without Flex kernels.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import tensorflow as tf
from peernet import float_layers

from edgefl.model.graph import Act, Op
from edgefl.model.read import read_model

OUT = Path(__file__).resolve().parent / "resnet8_head_fp32.tflite"
RATE = 0.01


class HeadTrainer(tf.Module):
    """The network with a trainable dense head."""

    def __init__(self, data: bytes) -> None:
        super().__init__()
        self.graph = read_model(data)
        self.layers = float_layers(self.graph)
        head = self.layers[self.graph.nodes[-2].param]
        self.w = tf.Variable(head.w.T, name="w")
        self.b = tf.Variable(head.b, name="b")

    def features(self, x: tf.Tensor) -> tf.Tensor:
        """Everything before the head."""
        values = {self.graph.input: x}
        for node in self.graph.nodes[:-2]:
            a = values[node.inputs[0]]
            if node.kind is Op.CONV2D:
                layer = self.layers[node.param]
                kernel = tf.constant(layer.w.transpose(1, 2, 3, 0))
                a = tf.nn.conv2d(a, kernel, node.stride, "SAME") + layer.b
            elif node.kind is Op.ADD:
                a = a + values[node.inputs[1]]
            elif node.kind in (Op.AVGPOOL, Op.MEAN):
                a = tf.reduce_mean(a, (1, 2), keepdims=True)
            elif node.kind is Op.COPY:
                a = tf.reshape(a, (1, -1))
            else:
                raise SystemExit(f"unexpected {node.kind.name}")
            values[node.output] = tf.nn.relu(a) if node.act is Act.RELU else a
        return tf.reshape(a, (1, -1))

    @tf.function(
        input_signature=[tf.TensorSpec((1, 32, 32, 3), tf.float32), tf.TensorSpec((1, 10), tf.float32)]
    )
    def train(self, x: tf.Tensor, y: tf.Tensor) -> dict[str, tf.Tensor]:
        """One step of SGD on one sample, softmax cross-entropy."""
        f = self.features(x)
        p = tf.nn.softmax(tf.matmul(f, self.w) + self.b)
        error = p - y
        self.w.assign_sub(RATE * tf.matmul(f, error, transpose_a=True))
        self.b.assign_sub(RATE * error[0])
        return {"loss": -tf.reduce_sum(y * tf.math.log(p + 1e-7))}


def main() -> None:
    module = HeadTrainer(Path(sys.argv[1]).read_bytes())
    with tempfile.TemporaryDirectory() as folder:
        tf.saved_model.save(module, folder, signatures={"train": module.train})
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.experimental_enable_resource_variables = True
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        OUT.write_bytes(converter.convert())
    print(f"{OUT.name}: {OUT.stat().st_size} bytes")


main()
