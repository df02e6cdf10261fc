# SPDX-License-Identifier: Apache-2.0
"""Arguments and files that commands on a model and samples share.

In: paths. Out: arrays. Refuses files that are not sound .npz, in one line. Invariant: numpy is imported only
when a command runs.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from mmap import mmap

    import numpy as np

MAX_DATA_BYTES = 1 << 30
LOSSES = ("softmax_ce", "bce", "mse", "kl", "grid")  # of edgefl.model.loss, which imports numpy
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
LAYERS_HELP = "head, bias+head, last:K, all, auto, or operators like ops:4b,7 (b: the bias only)"


def add_model_and_data(parser: argparse.ArgumentParser) -> None:
    """MODEL, --data, --loss, --anchors, --target, --json."""
    parser.add_argument("model", metavar="MODEL", help="int8 .tflite file")
    text = "samples: arrays x [n, ...] and y, which the loss says (mse without y: x is its own target)"
    parser.add_argument("--data", required=True, metavar="F.npz", help=text)
    text = "what counts: classes, yes or no for each output, values, a teacher's probabilities, boxes"
    parser.add_argument("--loss", choices=LOSSES, default="softmax_ce", help=f"{text} (softmax_ce)")
    text = "grid: width and height of each anchor in 0..1 of the image, output after output (one: 1,1)"
    parser.add_argument("--anchors", type=pairs, metavar="W,H,..", help=text)
    add_target(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def add_budget(parser: argparse.ArgumentParser) -> None:
    """--memory-budget."""
    text = "most bytes that training may hold, K or M are 1024 and 1048576"
    parser.add_argument("--memory-budget", type=size, metavar="512K", help=text)


def size(text: str) -> int:
    """Bytes: a number, perhaps with K, M or G behind it."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if (
        not (number.isascii() and number.isdigit() and len(number) < 16)
        or unit not in _UNITS
        or not int(number)
    ):
        raise argparse.ArgumentTypeError(f"{text!r:.40} is no size like 65536, 512K or 2M")
    return int(number) * _UNITS[unit]


def add_target(parser: argparse.ArgumentParser) -> None:
    """--target."""
    text = "name or position of the output that counts, if the model has several (0)"
    parser.add_argument("--target", type=_position, default=0, metavar="OUTPUT", help=text)


def numbers(text: str) -> list[float]:
    """Numbers with commas between them."""
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r:.40} is not a list of numbers like 1,4,2") from None


def pairs(text: str) -> list[list[float]]:
    """Pairs of numbers, all with commas between them."""
    flat = numbers(text)
    if len(flat) % 2:
        raise argparse.ArgumentTypeError(f"{text!r:.40} has no height for its last width")
    return [flat[i : i + 2] for i in range(0, len(flat), 2)]


def _position(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 6 else text


def read_samples(path: str, loss: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Arrays x and y of an .npz file; y may be missing for "mse"."""
    from edgefl.api.files import read_file

    return _arrays(read_file(path, "data file", MAX_DATA_BYTES), loss)


def map_samples(path: str, loss: str) -> tuple[np.ndarray, np.ndarray | None, Callable[[], None]]:
    """Read as `read_samples` does, but leave x in the file where it is not compressed.

    The function that comes third takes the pages looked at so far out of this process.
    """
    from edgefl.api.files import map_file, pages_giver

    data = map_file(path, "data file", MAX_DATA_BYTES)
    release = pages_giver(data)
    x, y = _arrays(data, loss, release)
    return x, y, release


def _arrays(
    data: bytes | mmap, loss: str, release: Callable[[], None] = lambda: None
) -> tuple[np.ndarray, np.ndarray | None]:
    from edgefl.data.npz import read_npz

    names, optional = (("x",), ("y",)) if loss == "mse" else (("x", "y"), ())
    arrays = read_npz(data, names, optional, views=("x",), release=release)
    return arrays["x"], arrays.get("y")
