# SPDX-License-Identifier: Apache-2.0
"""The demo's ECG beats: packed MIT-BIH records to model inputs, one patient a device.

In: data/ecg_beats.npz, made by bench/ecg_model.py (data/README.md says from what).  Out: int8 [n, 1, 180, 3]
in the model's input quantisation, labels 0 N, 1 S, 2 V.  A device trains on the first four fifths of its
record in time, the last fifth tests; no device holds a beat of the unseen patients.  Refuses files of another
format.  Needs numpy only.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edgefl.errors import DataError, UsageError

CLASSES = ("N", "S", "V")
PRETRAIN_RECORDS = (118, 201, 207, 223)
DEVICE_RECORDS = (106, 109, 112, 203, 208, 209, 215, 220)
UNSEEN_RECORDS = (101, 108, 114, 115, 116, 119, 122, 124, 205, 230)
DEVICES = (2, 64)  # a sum of fewer than two updates hides nothing

DATA = Path(__file__).with_name("data")
MODEL_FILE = DATA / "ecg_int8.tflite"
BEATS_FILE = DATA / "ecg_beats.npz"

PACKED_MV = 0.04  # one step of a packed sample: 8 counts of the recorder's 200 a millivolt
INPUT_SCALE = 0.02  # of the model's input tensor, zero point 0: -2.56..2.54 mV, higher peaks saturate
RR_HZ = 360  # RR intervals are stored in ticks of the recorder's clock
# A doubled RR interval counts like 2 mV. Measured after 15 rounds, mean of four pretrained models:
# own tails 70 with 1.0, 75 with 2.0 (class S learns sooner); unseen patients 70 and 74.
RR_GAIN = 2.0


@dataclass(frozen=True)
class Beats:
    """Beats of one or more records, in time order within a record.

    x: int8 [n, 1, 180, 3] (the beat, RR before, RR after).  y: int64 [n], 0 N, 1 S, 2 V.  record: int16 [n].
    """

    x: NDArray[np.int8]
    y: NDArray[np.int64]
    record: NDArray[np.int16]

    def __len__(self) -> int:
        """Return the number of beats."""
        return len(self.y)

    def take(self, index: slice | NDArray[np.intp]) -> Beats:
        """Return the beats at `index`."""
        return Beats(self.x[index], self.y[index], self.record[index])


def model_input(beats: NDArray[np.int8], rr: NDArray[np.uint16], mean_rr: float) -> NDArray[np.int8]:
    """Join beats and their RR intervals into model inputs.

    Parameters
    ----------
    beats : int8 [n, 180], steps of `PACKED_MV`
    rr : uint16 [n, 2], the intervals before and after each beat, ticks of 1/360 s
    mean_rr : mean interval of the record, in the same ticks

    Returns
    -------
    int8 [n, 1, 180, 3], steps of `INPUT_SCALE`; the RR channels are constant over a beat: rr/mean - 1,
    clipped to -1..1, times `RR_GAIN`.
    """
    ratio = np.clip(rr.astype(np.float64) / mean_rr - 1.0, -1.0, 1.0)
    x = np.empty((len(beats), 1, beats.shape[1], 3), np.int8)
    x[:, 0, :, 0] = np.clip(beats.astype(np.int16) * round(PACKED_MV / INPUT_SCALE), -128, 127)
    x[:, 0, :, 1:] = np.rint(ratio * RR_GAIN / INPUT_SCALE)[:, None, :]
    return x


def load_beats(records: tuple[int, ...], path: Path = BEATS_FILE) -> Beats:
    """Unpack the beats of `records`, in that order.

    Raises
    ------
    DataError
        If the file is not a packed beat file or lacks one of the records.
    """
    with np.load(path, allow_pickle=False) as packed:
        if set(packed.files) != {"delta", "label", "record", "rr", "mean_rr_record", "mean_rr"}:
            raise DataError(f"{path.name} is not a packed beat file", hint="make it with bench/ecg_model.py")
        delta, label, record, rr = packed["delta"], packed["label"], packed["record"], packed["rr"]
        mean = dict(zip(packed["mean_rr_record"].tolist(), packed["mean_rr"].tolist(), strict=True))
    parts = []
    for number in records:
        here = record == number
        if not here.any():
            raise DataError(f"{path.name} holds no record {number}", hint="make it with bench/ecg_model.py")
        # Differences were taken modulo 256, so a running int8 sum modulo 256 restores every sample.
        beats = np.cumsum(delta[here], axis=1, dtype=np.int8)
        parts.append((model_input(beats, rr[here], mean[number]), label[here].astype(np.int64), record[here]))
    return Beats(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def pack_beats(
    beats: NDArray[np.int8], label: NDArray[np.int8], record: NDArray[np.int16], rr: NDArray[np.uint16]
) -> dict[str, NDArray[np.generic]]:
    """Return the arrays of a packed file without `mean_rr*`; `load_beats` is the inverse."""
    delta = beats.copy()
    delta[:, 1:] = beats[:, 1:] - beats[:, :-1]  # modulo 256 on purpose: int8 wraps, the sum wraps back
    return {"delta": delta, "label": label.astype(np.int8), "record": record.astype(np.int16), "rr": rr}


def calibration() -> NDArray[np.int8]:
    """Return the 256 calibration inputs: beats of the records that the model was pretrained on."""
    return load_beats(PRETRAIN_RECORDS).x


def unseen() -> Beats:
    """Return every third beat of the ten patients that no device holds."""
    return load_beats(UNSEEN_RECORDS)


def split_devices(n_devices: int) -> Iterator[tuple[Beats, Beats]]:
    """Yield (training beats, test beats) for each of `n_devices` devices.

    Up to eight devices hold one record each; more split the records in time, as evenly as they go, so that
    every beat is on exactly one device.  A device's test beats are the last fifth of what it holds.

    Raises
    ------
    UsageError
        If `n_devices` is not in 2..64.
    """
    low, high = DEVICES
    if not low <= n_devices <= high:
        raise UsageError(f"--devices {n_devices} is outside {low}..{high}", hint="a sum needs two devices")
    all_beats = load_beats(DEVICE_RECORDS)
    n_records = min(n_devices, len(DEVICE_RECORDS))
    for i, number in enumerate(DEVICE_RECORDS[:n_records]):
        n_parts = n_devices // n_records + (i < n_devices % n_records)
        for part in np.array_split(np.flatnonzero(all_beats.record == number), n_parts):
            cut = len(part) * 4 // 5
            yield all_beats.take(part[:cut]), all_beats.take(part[cut:])
