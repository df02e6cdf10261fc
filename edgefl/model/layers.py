# SPDX-License-Identifier: Apache-2.0
"""Layer selections: which weights and biases a name like "last:2" or "ops:4b,7" means.

In: Graph and text.  Out: for each parameter whether its weights and its bias are meant.  Refuses operators
that hold no weights or lead to no loss.  Invariant: the meaning depends on the file alone, so that all
devices of a task train the same vector; "auto" is therefore no selection here (edgefl/train/auto.py turns it
into an explicit one).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from edgefl.errors import UsageError
from edgefl.model.graph import Graph

EXPLICIT = "ops:"
_ITEM = re.compile(r"(0|[1-9][0-9]{0,5})(b?)", re.ASCII)


class Wanted(NamedTuple):
    """What of one operator is to train."""

    weights: bool
    bias: bool


def wanted_params(graph: Graph, layers: str, trainable: Sequence[int]) -> dict[int, Wanted]:
    """Params of a selection.

    Parameters
    ----------
    graph : Graph
        The model.
    layers : str
        "head", "bias+head", "last:K", "all", or "ops:" and operators of the file in ascending order, with a
        "b" where only the bias trains: "ops:4b,7,9".
    trainable : sequence of int
        Params that lead to the loss, in file order.

    Returns
    -------
    dict
        Param -> what of it is meant, in file order; buffers may still be frozen because they are shared.

    Raises
    ------
    UsageError
        Not one of these; K or an operator is out of range.
    """
    if layers.startswith(EXPLICIT):
        return _listed(graph, layers, trainable)
    operators = _by_operator(graph, trainable)
    first_weight, first_bias = _starts(layers, len(operators))
    return {
        p: Wanted(i >= first_weight, i >= first_bias)
        for i, params in enumerate(operators.values())
        for p in params
        if i >= first_bias
    }


def _by_operator(graph: Graph, trainable: Sequence[int]) -> dict[int, list[int]]:
    """Params of each operator of the file; an LSTM has eight."""
    found: dict[int, list[int]] = {}
    for p in trainable:
        found.setdefault(graph.params[p].op_index, []).append(p)
    return found


def explicit_layers(graph: Graph, wanted: Mapping[int, Wanted]) -> str:
    """Write a selection as "ops:..."; biases go with the weights of their operator."""
    meant = [p for p, w in sorted(wanted.items()) if w.weights or w.bias]
    items = (
        f"{index}{'' if any(wanted[p].weights for p in params) else 'b'}"
        for index, params in _by_operator(graph, meant).items()
    )
    return EXPLICIT + ",".join(items)


def _starts(layers: str, n_ops: int) -> tuple[int, int]:
    """First operator whose weights train, and first operator whose bias trains."""
    if layers == "all":
        return 0, 0
    if layers == "head":
        return n_ops - 1, n_ops - 1
    if layers == "bias+head":
        return n_ops - 1, 0
    name, _, count = layers.partition(":")
    if name != "last" or not (count.isascii() and count.isdigit()):
        raise UsageError(
            f"layers is {layers!r:.40}", hint='use "head", "bias+head", "last:K", "all" or "ops:4b,7,9"'
        )
    if len(count) > 6 or not 1 <= int(count) <= n_ops:
        raise UsageError(f"layers is {layers!r:.40}, this model trains {n_ops} operators with weights")
    return n_ops - int(count), n_ops - int(count)


def _listed(graph: Graph, layers: str, trainable: Sequence[int]) -> dict[int, Wanted]:
    operators = _by_operator(graph, trainable)
    wanted: dict[int, Wanted] = {}
    last = -1
    for item in layers[len(EXPLICIT) :].split(","):
        match = _ITEM.fullmatch(item)
        if not match:
            raise UsageError(f"layers is {layers!r:.40}", hint='list operators like "ops:4b,7,9"')
        index, only_bias = int(match[1]), bool(match[2])
        if index <= last:
            raise UsageError(
                f"layers names operator {index} after {last}; name each once, in the file's order"
            )
        if index not in operators:
            raise UsageError(
                f"layers names operator {index}, which has no weights that lead to the loss",
                hint=f"those of this model are {_ranges(operators)}",
            )
        last = index
        wanted.update(dict.fromkeys(operators[index], Wanted(not only_bias, True)))
    return wanted


def _ranges(numbers: Iterable[int]) -> str:
    text = ", ".join(str(n) for n in sorted(numbers))
    return text if len(text) <= 60 else text[:57].rsplit(",", 1)[0] + ", ..."
