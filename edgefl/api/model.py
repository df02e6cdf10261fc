# SPDX-License-Identifier: Apache-2.0
"""`edgefl.Model`: open, run and save an int8 .tflite model.

In: a path. Out: predictions; a file of the same length with trained weights. Refuses what
edgefl/model/read.py refuses. Invariant: predictions are those of LiteRT's default delegate, bit for bit.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Literal, overload

import numpy as np

from edgefl.api.files import read_file, write_file
from edgefl.errors import UsageError
from edgefl.model.border import give_output, real_output
from edgefl.model.fixed import RULES
from edgefl.model.flat import MAX_FILE_BYTES
from edgefl.model.forward import Forward
from edgefl.model.graph import Graph, Port
from edgefl.model.quantise import Samples, quantise
from edgefl.model.read import read_model


@dataclass(frozen=True)
class TensorInfo:
    """What goes in or comes out: real value = scale * (stored - zero_point); float32: of the int8 inside.

    shape has the batch dimension as the file has it (1); dtype is the file's own: "int8",
    "uint8", "float32", "int16", "int32".
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
    def open(cls, path: str | os.PathLike[str], requant: str = "xnnpack", target: int | str = 0) -> Model:
        """Open a .tflite file that computes in int8 or uint8.

        Parameters
        ----------
        path : path
            The file.
        requant : str
            Rounding rule of the forward pass. "xnnpack" is that of LiteRT's default delegate; "gemmlowp"
            that of TFLite Micro, CMSIS-NN and TFLite's reference kernels, and slower.
        target : int or str
            Position or name of the output that trains, if the model has several.

        Returns
        -------
        Model
            Ready to predict, train and save.

        Raises
        ------
        MissingInput, ModelError, UsageError
            No such file; a file that edgefl cannot run exactly; an unknown rule or output.
        """
        if requant not in RULES:
            raise UsageError(f"requant is {requant!r:.20}", hint=f"use one of {', '.join(RULES)}")
        graph = read_model(read_file(path, "model file", MAX_FILE_BYTES), target)
        graph.requant = requant
        return cls(graph)

    @property
    def graph(self) -> Graph:
        """The validated graph, with the current weights."""
        return self._graph

    @property
    def input(self) -> TensorInfo:
        """What the model takes; its first input if it has several."""
        return self.inputs[0]

    @property
    def output(self) -> TensorInfo:
        """What the model gives; the output that trains if it has several."""
        return self.outputs[self._graph.target]

    @property
    def inputs(self) -> tuple[TensorInfo, ...]:
        """All inputs in the file's order."""
        return tuple(self._info(port) for port in self._graph.inputs)

    @property
    def outputs(self) -> tuple[TensorInfo, ...]:
        """All outputs in the file's order."""
        return tuple(self._info(port) for port in self._graph.outputs)

    @overload
    def predict(self, x: Samples, *, values: Literal["logits"]) -> np.ndarray: ...
    @overload
    def predict(
        self, x: Samples, *, values: Literal["real", "stored"] = "real"
    ) -> np.ndarray | list[np.ndarray]: ...
    def predict(
        self, x: Samples, *, values: Literal["real", "stored", "logits"] = "real"
    ) -> np.ndarray | list[np.ndarray]:
        """Run the model.

        Parameters
        ----------
        x : ndarray of shape (n, ...), or one for each input as a list or by name
            Float values, quantised with the model's input scale and zero point (nearest even, clamped), or
            the model's own input dtype, taken as it is. One sample has the model's shape, up to ones.
        values : {"real", "stored", "logits"}
            "real": float32, scale * (stored - zero_point), e.g. probabilities after a SOFTMAX. "stored": as
            the file has them (int8, uint8, float32, int16 or int32). "logits": int8, the values before a
            final SOFTMAX, which the loss and the predicted class look at, of the output that trains.

        Returns
        -------
        ndarray, shape (n, ...), or a list of one for each output if the model has several
            In the output's shape, without its batch dimension.

        Raises
        ------
        DataError
            NaN, a wrong shape or dtype.
        """
        if values not in ("real", "stored", "logits"):
            raise UsageError(f"values is {values!r:.20}", hint='use "real", "stored" or "logits"')
        graph = self._graph
        quantised = quantise(graph, x)
        if values == "logits":
            return self.run_quantised(quantised, graph.logits)
        packed = self._engine().outputs(quantised)
        if len(graph.outputs) == 1:
            return self._result(graph.outputs[0], packed, values)
        ends = np.cumsum([graph.tensors[port.tensor].size for port in graph.outputs])
        parts = zip(graph.outputs, np.split(packed, ends[:-1], axis=1), strict=True)
        return [self._result(port, part, values) for port, part in parts]

    def _result(self, port: Port, stored: np.ndarray, values: str) -> np.ndarray:
        """Values of one output, int8 [n, size], as `predict` gives them."""
        tensor = self._graph.tensors[port.tensor]
        shaped = stored.reshape(len(stored), *tensor.sample_shape)
        give = give_output if values == "stored" else real_output
        return give(port, tensor, shaped)

    def run_quantised(self, x: np.ndarray, tensor: int) -> np.ndarray:
        """Compute a tensor of the graph from samples that `quantise` or `make_batch` made, int8 [n, ...]."""
        values = self._engine().run(x, tensor)
        return values.reshape(len(x), *self._graph.tensors[tensor].sample_shape)

    def _engine(self) -> Forward:
        if self._forward is None:
            self._forward = Forward(self._graph)
        return self._forward

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
        graph = read_model(data, self._graph.target)
        graph.requant = self._graph.requant
        self._forward = None
        self._graph = graph  # last: an interrupted call has changed nothing

    def _info(self, port: Port) -> TensorInfo:
        tensor = self._graph.tensors[port.tensor]
        scale, zero = (tensor.scale, tensor.zero) if port.dtype == "float32" else (port.scale, port.zero)
        return TensorInfo(port.name, tensor.file_shape, port.dtype, scale, zero)

    def __repr__(self) -> str:
        """Short description."""
        operators = len(self._graph.nodes)
        ends = (", ".join(str(t.shape) for t in side) for side in (self.inputs, self.outputs))
        return f"<edgefl.Model {' -> '.join(ends)}, {operators} operators>"
