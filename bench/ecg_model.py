# SPDX-License-Identifier: Apache-2.0
"""Make the demo's package data: pack MIT-BIH beats, pretrain the int8 model with TensorFlow, convert it.

In: the folder with mitbih_beats_DS1.npz (edgefl/demo/data/README.md says how it was cut from the database).
Out: edgefl/demo/data/ecg_beats.npz and ecg_int8.tflite.  Runs with TensorFlow; the demo itself needs neither
this script nor TensorFlow.  Seeds are fixed and one thread is used: one version gives the same files again.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402

from edgefl.demo import beats as demo  # noqa: E402

N_CALIBRATION = 256
UNSEEN_STRIDE = 3  # every third beat of an unseen patient: the package stays under 1.5 MB
COUNTS_PER_STEP = 8  # of the recorder's 200 counts a millivolt


def read_source(folder: Path) -> dict[str, np.ndarray]:
    """Return the N, S and V beats as int8 steps of 0.04 mV, with label, record and RR in ticks of 1/360 s."""
    with np.load(folder / "mitbih_beats_DS1.npz") as z:
        keep = z["y"] < len(demo.CLASSES)
        return {
            "beats": np.clip(np.rint(z["x"][keep] / COUNTS_PER_STEP), -128, 127).astype(np.int8),
            "label": z["y"][keep],
            "record": z["record"][keep],
            "rr": np.rint(z["rr"][keep] * demo.RR_HZ).astype(np.uint16),
        }


def mean_rr(source: dict[str, np.ndarray]) -> dict[int, float]:
    """Return each record's mean RR interval in ticks."""
    return {int(r): float(source["rr"][source["record"] == r, 0].mean()) for r in np.unique(source["record"])}


def write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write a compressed .npz whose bytes depend on the arrays only (fixed dates, zlib level 9)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as z:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            np.lib.format.write_array(buffer, np.ascontiguousarray(array), allow_pickle=False)
            z.writestr(zipfile.ZipInfo(f"{name}.npy"), buffer.getvalue(), zipfile.ZIP_DEFLATED, 9)


def pack(source: dict[str, np.ndarray], seed: int) -> None:
    """Write ecg_beats.npz: device records whole, every third unseen beat, 256 random pretraining beats."""
    record, means = source["record"], mean_rr(source)
    pool = np.flatnonzero(np.isin(record, demo.PRETRAIN_RECORDS))
    index = np.concatenate(
        [np.flatnonzero(record == r) for r in demo.DEVICE_RECORDS]
        + [np.flatnonzero(record == r)[::UNSEEN_STRIDE] for r in demo.UNSEEN_RECORDS]
        + [np.sort(np.random.default_rng(seed).choice(pool, N_CALIBRATION, replace=False))]
    )
    arrays = demo.pack_beats(*(source[k][index] for k in ("beats", "label", "record", "rr")))
    arrays["mean_rr_record"] = np.array(sorted(means), np.int16)
    arrays["mean_rr"] = np.array([means[r] for r in sorted(means)])
    write_npz(demo.BEATS_FILE, arrays)


def pretraining_set(source: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return int8 inputs and labels of all beats of the pretraining records."""
    x, y = [], []
    for r in demo.PRETRAIN_RECORDS:
        here = source["record"] == r
        x.append(demo.model_input(source["beats"][here], source["rr"][here], mean_rr(source)[r]))
        y.append(source["label"][here])
    return np.concatenate(x), np.concatenate(y)


def train(x: np.ndarray, y: np.ndarray, seed: int, epochs: int):
    """Return the float model: three convolutions over time (1xN Conv2D) and two dense layers."""
    import tensorflow as tf
    from tensorflow.keras import layers

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
    tf.keras.utils.set_random_seed(seed)

    def block(n_filters: int, width: int, stride: int) -> list:
        conv = layers.Conv2D(n_filters, (1, width), (1, stride), padding="same", activation="relu")
        return [conv, layers.MaxPool2D((1, 2))]

    model = tf.keras.Sequential(
        [
            layers.Input((1, 180, 3)),
            *block(16, 9, 4),
            *block(32, 5, 1),
            *block(40, 5, 1),
            # A reshape to a constant shape; Flatten would add SHAPE, STRIDED_SLICE and PACK to the file.
            layers.Lambda(lambda t: tf.reshape(t, (-1, 200))),
            layers.Dense(40, activation="relu"),
            layers.Dense(len(demo.CLASSES)),
        ]
    )
    assert model.count_params() == 17_643
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf.keras.optimizers.Adam(1e-3), loss)
    model.fit(x.astype(np.float32) * demo.INPUT_SCALE, y, batch_size=64, epochs=epochs, verbose=2)
    return model


def convert(model, calibration: np.ndarray) -> bytes:
    """Return the full-integer .tflite: int8 input with scale 0.02 and zero point 0, int8 logits."""
    import tensorflow as tf

    # The highest and the deepest peak go to the ends of int8: the converter then takes exactly this scale.
    calibration = calibration.copy()
    calibration.flat[calibration.argmax()], calibration.flat[calibration.argmin()] = 127, -128

    def samples():
        for x in calibration:
            yield [x[None].astype(np.float32) * demo.INPUT_SCALE]

    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = samples
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    # tflite-runtime 2.14 has no per-channel FULLY_CONNECTED.
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return converter.convert()


def main() -> None:
    """Pack, train, convert."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="folder with mitbih_beats_DS1.npz")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=10)
    args = parser.parse_args()
    source = read_source(args.data)
    demo.DATA.mkdir(exist_ok=True)
    pack(source, args.seed)
    model = train(*pretraining_set(source), args.seed, args.epochs)
    demo.MODEL_FILE.write_bytes(convert(model, demo.calibration()))
    for path in (demo.BEATS_FILE, demo.MODEL_FILE):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
