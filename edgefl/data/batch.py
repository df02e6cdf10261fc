# SPDX-License-Identifier: Apache-2.0
"""Arrays of samples and labels -> Batch in the model's input quantisation.

In: x [n, ...], float or in the model's own input dtype; y integer labels [n]. Out: Batch, x int8 [n,H,W,C].
Refuses NaN and infinities, labels outside the model's classes, shapes that fit only by accident, objects, and
integers that are not the model's own dtype. Invariant: a Batch is safe to hand to the C core.
"""

from __future__ import annotations

import numpy as np

from edgefl.errors import DataError
from edgefl.model.graph import Graph
from edgefl.model.quantise import Samples, quantise
from edgefl.types import Batch


def make_batch(graph: Graph, x: Samples, y: np.ndarray) -> Batch:
    """Check samples with their labels.

    Parameters
    ----------
    graph : Graph
        The model.
    x : ndarray of shape (n, ...), or one for each input as a sequence or by name
        Float values, quantised with the input's scale and zero point; or the file's own input dtype, taken as
        it is. The shape of one sample is the model's, up to dimensions of 1.
    y : ndarray of integers, shape (n,)
        Class of each sample, 0 .. classes - 1.

    Returns
    -------
    Batch
        x int8 [n,H,W,C] ([n, size of all inputs] if there are several), y int64 [n].

    Raises
    ------
    DataError
        What is wrong, with the limit.
    """
    quantised = quantise(graph, x)
    labels = _check_labels(y, graph.tensors[graph.logits].size)
    if len(labels) != len(quantised):
        raise DataError(
            f"x has {len(quantised)} samples and y {len(labels)} labels; one label for each is needed"
        )
    return Batch(x=quantised, y=labels)


def _check_labels(y: np.ndarray, n_classes: int) -> np.ndarray:
    y = np.asarray(y)
    if y.dtype.kind not in "iu":
        raise DataError(f"y is {y.dtype}, integer class labels are needed")
    if y.ndim != 1:
        raise DataError(f"y has shape {list(y.shape)}, one label for each sample is needed: [n]")
    if y.size and not 0 <= int(y.min()) <= int(y.max()) < n_classes:
        raise DataError(
            f"y holds labels {int(y.min())}..{int(y.max())}, this model has classes 0..{n_classes - 1}"
        )
    return y.astype(np.int64)
