# SPDX-License-Identifier: Apache-2.0
"""Places for tensors whose lifetimes are known, in one block of memory.

In: (size, first step, last step) of each block.  Out: offsets and the total.  Invariant: two blocks that live
at the same step never overlap.  Greedy, lowest free gap first, in three orders, of which the best counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    orders: tuple[Callable[[Block], tuple[int, int]], ...] = (
        lambda b: (-b.size, b.born),
        lambda b: (b.born - b.dies, -b.size),
        lambda b: (b.born, -b.size),
    )
    least = max((_alive(blocks, b.born) for b in blocks), default=0)
    best: tuple[list[int], int] = ([], -1)
    for order in orders:
        offsets, total = _place(blocks, sorted(range(len(blocks)), key=lambda i: (order(blocks[i]), i)))
        if best[1] < 0 or total < best[1]:
            best = offsets, total
        if total <= least:
            break
    return best


def _alive(blocks: Sequence[Block], step: int) -> int:
    """Bytes that no arrangement can do without at this step."""
    return sum(b.size for b in blocks if b.born <= step <= b.dies)


def _place(blocks: Sequence[Block], order: Sequence[int]) -> tuple[list[int], int]:
    """Give each block in turn the lowest gap that it fits into."""
    offsets = [0] * len(blocks)
    placed: list[int] = []
    for i in order:
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
