# SPDX-License-Identifier: Apache-2.0
"""Make the two models of bench/accuracy.py that nobody publishes: spoken digits, an autoencoder of a fan.

In: the shared folder.  Out: bench/models/digits_int8.tflite, trained on three speakers, and
bench/models/fan_autoencoder_int8.tflite, trained on a fan without weight that is off or turns slowly.  Runs
with TensorFlow; fixed seeds and one thread.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "bench")]
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import signals  # noqa: E402
import tensorflow as tf  # noqa: E402
from cases import NEW_SPEAKER, fan_parts  # noqa: E402
from tensorflow.keras import layers  # noqa: E402

MODELS = ROOT / "bench" / "models"


def convert(model, calibration: np.ndarray) -> bytes:
    """Give the full-integer file."""
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([x[None]] for x in calibration)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def digits_model(shared: Path) -> bytes:
    """Three convolutions and a dense head, 11 000 parameters."""
    x, y, speaker = signals.digits(shared)
    known = speaker != NEW_SPEAKER
    model = tf.keras.Sequential([layers.Input(x.shape[1:])])
    for filters, stride in ((16, 2), (24, 2), (32, 1)):
        model.add(layers.Conv2D(filters, 3, stride, padding="same", use_bias=False))
        model.add(layers.BatchNormalization())
        model.add(layers.ReLU())
    model.add(layers.AveragePooling2D((12, 5)))
    model.add(layers.Lambda(lambda t: tf.reshape(t, (-1, 32))))
    model.add(layers.Dense(10))
    model.compile("adam", tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(x[known], y[known], batch_size=32, epochs=40, verbose=2)
    return convert(model, x[known][::3])


def fan_model(shared: Path) -> bytes:
    """96 - 32 - 8 - 32 - 96."""
    x = fan_parts(shared)["pretrain"]
    model = tf.keras.Sequential([layers.Input(x.shape[1:])])
    for width in (32, 8, 32):
        model.add(layers.Dense(width, activation="relu"))
    model.add(layers.Dense(x.shape[1]))
    model.compile("adam", "mse")
    model.fit(x, x, batch_size=32, epochs=150, verbose=2)
    seen = np.concatenate([fan_parts(shared)[name] for name in ("pretrain", "train")])
    return convert(model, seen[::3])  # the int8 ranges must hold the higher speeds too


def main() -> None:
    """Train and convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path)
    shared = parser.parse_args().shared
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    MODELS.mkdir(exist_ok=True)
    for name, make in (("digits_int8", digits_model), ("fan_autoencoder_int8", fan_model)):
        tf.keras.utils.set_random_seed(1)
        (MODELS / f"{name}.tflite").write_bytes(make(shared))


if __name__ == "__main__":
    main()
