# SPDX-License-Identifier: Apache-2.0
"""`edgefl.Model`: open, run and save an int8 .tflite model.

In: a path. Out: predictions; a file of the same length with trained weights. Refuses what
edgefl/model/read.py refuses. Invariant: predictions are those of LiteRT's default delegate, bit for bit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edgefl.api.files import read_file, write_file
from edgefl.errors import UsageError
from edgefl.model.flat import MAX_FILE_BYTES
from edgefl.model.forward import Forward
from edgefl.model.graph import Graph
from edgefl.model.quantise import quantise
from edgefl.model.read import read_model


@dataclass(frozen=True)
class TensorInfo:
    """What goes in or comes out: real value = scale * (stored - zero_point).

    shape has the batch dimension as the file has it (1); dtype is the file's own, "int8" or "float32".
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


class Model:
    """An int8 model in memory. Make one with `Model.open`."""

    def __init__(self, graph: Graph) -> None:
        """Wrap a graph that `read_model` made."""
        self._graph = graph
        self._forward: Forward | None = None

    @classmethod
    def open(cls, path: str | os.PathLike[str], requant: str = "xnnpack") -> Model:
        """Open a full-integer int8 .tflite file.

        Parameters
        ----------
        path : path
            The file.
        requant : str
            Rounding rule. "xnnpack" is that of LiteRT's default delegate.

        Returns
        -------
        Model
            Ready to predict, train and save.

        Raises
        ------
        MissingInput, ModelError, UsageError
            No such file; a file that edgefl cannot run exactly; an unknown rule.
        """
        if requant != "xnnpack":
            raise UsageError(f"requant is {requant!r:.20}, this version has one rule", hint='use "xnnpack"')
        return cls(read_model(read_file(path, "model file", MAX_FILE_BYTES)))

    @property
    def graph(self) -> Graph:
        """The validated graph, with the current weights."""
        return self._graph

    @property
    def input(self) -> TensorInfo:
        """What the model takes."""
        return self._info(self._graph.input, self._graph.input_dtype)

    @property
    def output(self) -> TensorInfo:
        """What the model gives."""
        return self._info(self._graph.output, self._graph.output_dtype)

    def predict(self, x: np.ndarray, *, values: Literal["real", "stored", "logits"] = "real") -> np.ndarray:
        """Run the model.

        Parameters
        ----------
        x : ndarray, shape (n, ...)
            Float values, quantised with the model's input scale and zero point (nearest even, clamped), or
            the model's own input dtype, taken as it is. One sample has the model's shape, up to ones.
        values : {"real", "stored", "logits"}
            "real": float32, scale * (stored - zero_point), e.g. probabilities after a SOFTMAX. "stored": int8
            as the file defines them. "logits": int8, the values before a final SOFTMAX, which the loss and
            the predicted class look at.

        Returns
        -------
        ndarray, shape (n, ...)
            In the output's shape, without its batch dimension.

        Raises
        ------
        DataError
            NaN, a wrong shape or dtype.
        """
        if values not in ("real", "stored", "logits"):
            raise UsageError(f"values is {values!r:.20}", hint='use "real", "stored" or "logits"')
        graph = self._graph
        index = graph.logits if values == "logits" else graph.output
        stored = self.run_quantised(quantise(graph, x), index)
        if values != "real":
            return stored
        tensor = graph.tensors[index]
        real: np.ndarray = (stored.astype(np.float32) - np.float32(tensor.zero)) * np.float32(tensor.scale)
        return real

    def run_quantised(self, x: np.ndarray, tensor: int) -> np.ndarray:
        """Compute a tensor of the graph from samples that `quantise` or `make_batch` made, int8 [n, ...]."""
        if self._forward is None:
            self._forward = Forward(self._graph)
        return self._forward.run(x, tensor).reshape(len(x), *self._graph.tensors[tensor].sample_shape)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the model with its current weights, whole or not at all.

        Parameters
        ----------
        path : path
            Replaced if it exists; the new file loads wherever the original did.
        """
        write_file(path, self._graph.data)

    def replace_weights(self, data: bytes) -> None:
        """Take the weights of `data`, a file of the same model (`Trainer.fit` calls this)."""
        self._graph = read_model(data)
        self._forward = None

    def _info(self, index: int, dtype: str) -> TensorInfo:
        tensor = self._graph.tensors[index]
        return TensorInfo(tensor.name, tensor.file_shape, dtype, tensor.scale, tensor.zero)

    def __repr__(self) -> str:
        """Short description."""
        operators = len(self._graph.nodes)
        return f"<edgefl.Model {self.input.shape} -> {self.output.shape}, {operators} operators>"
