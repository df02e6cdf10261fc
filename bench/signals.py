# SPDX-License-Identifier: Apache-2.0
"""Features of recordings for bench/accuracy.py: log-mel maps of spoken digits, band spectra of a fan.

In: the arrays of ../shared/data (speech-fsdd, vibration-ceiling-fan).  Out: float32 features, labels and what
splits them.  NumPy only, so that the models' maker, the int8 runs and the fp32 runs see the same numbers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

FRAME, HOP, FRAMES, MELS = 256, 128, 48, 20
BANDS = 32  # of each axis
RATE = 8000


def mel_filters() -> np.ndarray:
    """Triangles between 100 Hz and 4 kHz, evenly spaced on the mel scale, float64 [FRAME/2 + 1, MELS]."""
    edges = np.linspace(2595 * np.log10(1 + 100 / 700), 2595 * np.log10(1 + 4000 / 700), MELS + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = np.arange(FRAME // 2 + 1) * RATE / FRAME
    rising = (bins[:, None] - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    falling = (hertz[2:] - bins[:, None]) / (hertz[2:] - hertz[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


def log_mel(wave: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Log-mel map of one recording, float32 [FRAMES, MELS, 1], mean 0; short ones end in silence."""
    samples = np.zeros(FRAME + HOP * (FRAMES - 1))
    part = wave[: len(samples)].astype(np.float64) / 32768
    samples[: len(part)] = part
    at = HOP * np.arange(FRAMES)[:, None] + np.arange(FRAME)
    power = np.abs(np.fft.rfft(samples[at] * np.hanning(FRAME))) ** 2
    logs = np.log(power @ filters + 1e-4)
    return ((logs - logs.mean()) / 4).astype(np.float32)[:, :, None]


def digits(shared: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give maps [n, FRAMES, MELS, 1], digits [n], names of speakers [n]."""
    packed = np.load(shared / "data/speech-fsdd/fsdd_8khz.npz")
    starts = np.concatenate([[0], np.cumsum(packed["length"])[:-1]])
    wave, filters = packed["x"], mel_filters()
    spans = zip(starts, packed["length"], strict=True)
    maps = [log_mel(wave[at : at + length], filters) for at, length in spans]
    return np.stack(maps), packed["y"].astype(np.int64), packed["speaker"]


def fan(shared: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Spectra [n, 3 * BANDS], names of classes [n], order in time [n]."""
    packed = np.load(shared / "data/vibration-ceiling-fan/ceiling_fan_acc.npz")
    wave = packed["x"].astype(np.float64) * float(packed["scale_g"])
    wave -= wave.mean(axis=1, keepdims=True)
    power = np.abs(np.fft.rfft(wave * np.hanning(wave.shape[1])[:, None], axis=1))[:, 1:97] ** 2
    bands = power.reshape(len(power), BANDS, 3, 3).mean(axis=2)  # three bins a band
    logs = np.log(bands + 1e-6).transpose(0, 2, 1).reshape(len(power), -1)
    return ((logs + 4) / 4).astype(np.float32), packed["classes"][packed["y"]], packed["seq"]
