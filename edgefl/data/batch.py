# SPDX-License-Identifier: Apache-2.0
"""Arrays of samples and labels -> Batch in the model's input quantisation.

In: x [n, ...], float or in the model's own input dtype; y as the loss wants it. Out: Batch, x int8 [n,H,W,C].
Refuses NaN and infinities, targets that do not fit the model, shapes that fit only by accident, objects, and
integers that are not the model's own dtype. Invariant: a Batch is safe to hand to the C core.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from edgefl.model.graph import Graph
from edgefl.model.loss import check_target
from edgefl.model.quantise import Samples, quantise
from edgefl.types import Batch


def make_batch(
    graph: Graph,
    x: Samples,
    y: np.ndarray | None,
    loss: str = "softmax_ce",
    n_anchors: int = 1,
    release: Callable[[], None] = lambda: None,
) -> Batch:
    """Check samples with their labels or targets.

    Parameters
    ----------
    graph : Graph
        The model.
    x : ndarray of shape (n, ...), or one for each input as a sequence or by name
        Float values, quantised with the input's scale and zero point; or the file's own input dtype, taken as
        it is. The shape of one sample is the model's, up to dimensions of 1.
    y : ndarray or None
        Class of each sample, 0 .. classes - 1, or what another loss wants: edgefl.model.loss.check_target.
    loss : str
        A name of edgefl.model.loss.LOSSES.
    n_anchors : int
        Anchors of a cell, for "grid".
    release : callable
        As for `quantise`.

    Returns
    -------
    Batch
        x int8 [n,H,W,C] ([n, size of all inputs] if there are several), y int64 [n] (other losses:
        float32 or int8 [n, ...], or None).

    Raises
    ------
    DataError
        What is wrong, with the limit.
    """
    quantised = quantise(graph, x, release)
    checked = check_target(
        graph, loss, None if y is None else np.asarray(y), len(quantised), n_anchors=n_anchors
    )
    return Batch(x=quantised, y=checked)
