# SPDX-License-Identifier: Apache-2.0
"""The packed beats: what is in them, how devices share them, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgefl.demo import beats
from edgefl.errors import DataError, UsageError


def test_package_data_stays_under_a_megabyte_and_a_half() -> None:
    assert sum(p.stat().st_size for p in beats.DATA.iterdir()) <= 1_500_000


def test_no_patient_is_in_two_sets() -> None:
    sets = [set(beats.PRETRAIN_RECORDS), set(beats.DEVICE_RECORDS), set(beats.UNSEEN_RECORDS)]
    assert len(set().union(*sets)) == sum(map(len, sets)) == 22


def test_packing_restores_every_sample_even_when_differences_wrap() -> None:
    original = np.random.default_rng(1).integers(-128, 128, (40, 180)).astype(np.int8)
    packed = beats.pack_beats(
        original, np.zeros(40, np.int8), np.full(40, 7, np.int16), np.full((40, 2), 300, np.uint16)
    )
    assert np.array_equal(np.cumsum(packed["delta"], axis=1, dtype=np.int8), original)


def test_model_input_scales_beat_and_intervals() -> None:
    one = np.array([[0, 10, -10, 100, -100]], np.int8)
    x = beats.model_input(one, np.array([[300, 150]], np.uint16), 300.0)
    assert x.shape == (1, 1, 5, 3) and x.dtype == np.int8
    assert x[0, 0, :, 0].tolist() == [0, 20, -20, 127, -128]  # 0.04 mV steps to 0.02, saturated
    assert set(x[0, 0, :, 1].tolist()) == {0} and set(x[0, 0, :, 2].tolist()) == {-50}


def test_long_and_missing_intervals_are_clipped() -> None:
    x = beats.model_input(np.zeros((1, 4), np.int8), np.array([[36000, 0]], np.uint16), 300.0)
    assert x[0, 0, 0].tolist() == [0, 100, -100]


def test_eight_devices_hold_one_record_each_first_four_fifths_train() -> None:
    devices = list(beats.split_devices(8))
    assert [int(train.record[0]) for train, _ in devices] == list(beats.DEVICE_RECORDS)
    whole = beats.load_beats(beats.DEVICE_RECORDS)
    for (train, test), number in zip(devices, beats.DEVICE_RECORDS, strict=True):
        assert set(train.record.tolist()) == set(test.record.tolist()) == {number}
        joined = np.concatenate([train.x, test.x])
        assert np.array_equal(joined, whole.x[whole.record == number])
        assert len(train) == len(joined) * 4 // 5


@pytest.mark.parametrize("n", [2, 3, 9, 20, 64])
def test_any_number_of_devices_shares_every_beat_once(n: int) -> None:
    devices = list(beats.split_devices(n))
    assert len(devices) == n
    total = sum(len(train) + len(test) for train, test in devices)
    assert total == len(beats.load_beats(beats.DEVICE_RECORDS[: min(n, 8)]))
    assert all(len(train) > 0 and len(test) > 0 for train, test in devices)


@pytest.mark.parametrize("n", [1, 0, -1, 65])
def test_impossible_number_of_devices_is_refused(n: int) -> None:
    with pytest.raises(UsageError, match=r"outside 2\.\.64"):
        list(beats.split_devices(n))


def test_unseen_and_calibration_have_the_documented_sizes() -> None:
    assert np.bincount(beats.unseen().y).tolist() == [6687, 22, 238]
    assert beats.calibration().shape == (256, 1, 180, 3)


def test_unknown_record_and_foreign_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no record 999"):
        beats.load_beats((999,))
    np.savez(tmp_path / "other.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="not a packed beat file"):
        beats.load_beats((106,), tmp_path / "other.npz")


def test_packed_beats_are_the_source_rounded(shared: Path) -> None:
    with np.load(shared / "data" / "ecg-mitbih" / "mitbih_beats_DS1.npz") as source:
        here = (source["record"] == 208) & (source["y"] < 3)
        x, y = source["x"][here], source["y"][here]
    packed = beats.load_beats((208,))
    assert np.array_equal(packed.y, y)
    assert np.array_equal(packed.x[:, 0, :, 0], np.clip(2 * np.rint(x / 8), -128, 127).astype(np.int8))
