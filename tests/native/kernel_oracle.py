# SPDX-License-Identifier: Apache-2.0
"""Formulas of the convolution passes in int64, tap by tap; written for reading, not for speed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Shape:
    """Dimensions of one operator, named as in efl_dims."""

    n: int
    hi: int
    wi: int
    ci: int
    co: int
    kh: int
    kw: int
    sh: int
    sw: int
    dh: int
    dw: int
    pt: int
    pl: int
    pb: int = 0
    pr: int = 0
    groups: int = 1
    mult: int = 1

    @property
    def ho(self) -> int:
        return (self.hi + self.pt + self.pb - (self.kh - 1) * self.dh - 1) // self.sh + 1

    @property
    def wo(self) -> int:
        return (self.wi + self.pl + self.pr - (self.kw - 1) * self.dw - 1) // self.sw + 1

    def dims(self) -> dict[str, int]:
        """Fields of efl_dims."""
        names = "n hi wi ci ho wo co kh kw sh sw dh dw pt pl groups mult".split()
        return {name: getattr(self, name) for name in names}


def taps(s: Shape):
    """Each tap with the slices of the padded input that it reads."""
    for ky in range(s.kh):
        for kx in range(s.kw):
            rows = slice(ky * s.dh, ky * s.dh + (s.ho - 1) * s.sh + 1, s.sh)
            cols = slice(kx * s.dw, kx * s.dw + (s.wo - 1) * s.sw + 1, s.sw)
            yield ky, kx, (slice(None), rows, cols)


def padded(x: np.ndarray, s: Shape) -> np.ndarray:
    """x with zeros around it, in int64."""
    return np.pad(x.astype(np.int64), ((0, 0), (s.pt, s.pb), (s.pl, s.pr), (0, 0)))


def conv(x, e, w, s: Shape):
    """(sums, dx, dw) of a grouped convolution; x has no zero point; w [co, kh, kw, ci/groups]."""
    xp, e64, w64 = padded(x, s), e.astype(np.int64), w.astype(np.int64)
    acc, dxp, dw = np.zeros(e.shape, np.int64), np.zeros_like(xp), np.zeros(w.shape, np.int64)
    cig, cog = s.ci // s.groups, s.co // s.groups
    for ky, kx, at in taps(s):
        for g in range(s.groups):
            i, o = slice(g * cig, (g + 1) * cig), slice(g * cog, (g + 1) * cog)
            patch = xp[at][..., i]
            acc[..., o] += patch @ w64[o, ky, kx].T
            dxp[(*at, i)] += e64[..., o] @ w64[o, ky, kx]
            dw[o, ky, kx] = np.einsum("nyxo,nyxi->oi", e64[..., o], patch)
    return acc, crop(dxp, s), dw


def depthwise(x, e, w, s: Shape):
    """(sums, dx, dw) of a depthwise convolution; w [kh, kw, co], co = ci * mult."""
    xp, e64, w64 = padded(x, s), e.astype(np.int64), w.astype(np.int64)
    acc, dxp, dw = np.zeros(e.shape, np.int64), np.zeros_like(xp), np.zeros(w.shape, np.int64)
    for ky, kx, at in taps(s):
        patch = np.repeat(xp[at], s.mult, axis=-1)
        acc += patch * w64[ky, kx]
        back = (e64 * w64[ky, kx]).reshape(*e.shape[:3], s.ci, s.mult).sum(axis=-1)
        dxp[at] += back
        dw[ky, kx] = (e64 * patch).sum(axis=(0, 1, 2))
    return acc, crop(dxp, s), dw


def crop(dxp: np.ndarray, s: Shape) -> np.ndarray:
    """The part of a padded map that is the map."""
    return dxp[:, s.pt : s.pt + s.hi, s.pl : s.pl + s.wi]


def requantise(acc, mult, lo: int, hi: int, zero: int):
    """XNNPACK's rule: float32 product, clamp, round to nearest even."""
    v = acc.astype(np.float32) * mult.astype(np.float32)
    return (np.rint(np.clip(v, np.float32(lo - zero), np.float32(hi - zero))) + zero).astype(np.int8)
