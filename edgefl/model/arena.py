# SPDX-License-Identifier: Apache-2.0
"""Places for tensors whose lifetimes are known, in one block of memory.

In: (size, first step, last step) of each block.  Out: offsets and the total.  Invariant: two blocks that live
at the same step never overlap.  Greedy by size, lowest free gap first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

ALIGN = 64


@dataclass
class Block:
    """Memory of `size` bytes, in use from step `born` to step `dies`, both included."""

    size: int
    born: int
    dies: int


def place_blocks(blocks: Sequence[Block]) -> tuple[list[int], int]:
    """Give each block an offset.

    Parameters
    ----------
    blocks : sequence of Block
        What has to be placed.

    Returns
    -------
    (list of int, int)
        Byte offsets, multiples of 64, and the bytes of the whole arena.
    """
    offsets = [0] * len(blocks)
    placed: list[int] = []
    for i in sorted(range(len(blocks)), key=lambda i: (-blocks[i].size, i)):
        block = blocks[i]
        others = sorted(
            (offsets[j], offsets[j] + blocks[j].size)
            for j in placed
            if blocks[j].born <= block.dies and block.born <= blocks[j].dies
        )
        at = 0
        for start, end in others:
            if start - at >= block.size:
                break
            at = max(at, -(-end // ALIGN) * ALIGN)
        offsets[i] = at
        placed.append(i)
    return offsets, max((o + b.size for o, b in zip(offsets, blocks, strict=True)), default=0)
