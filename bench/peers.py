# SPDX-License-Identifier: Apache-2.0
"""The programs that bench/engine.py races against: one step of each.

In: Graph, samples.  Out: callables.  What is not installed is reported as Missing, never left out in silence
and never estimated.  Versions: bench/peer_env.py.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from peernet import onnx_net, torch_net

from edgefl.model.graph import Graph

RATE = 1e-4


class Missing(Exception):
    """A peer that is not installed here; the message says which and why."""


def peer_version(name: str) -> str:
    """Installed version, or Missing."""
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        raise Missing(f"{name} is not installed in this environment") from None


def litert(data: bytes | Path, threads: int = 1) -> Any:
    """Make an interpreter of ai-edge-litert with its default delegate."""
    peer_version("ai-edge-litert")
    from ai_edge_litert.interpreter import Interpreter

    source = {"model_path": str(data)} if isinstance(data, Path) else {"model_content": data}
    interpreter = Interpreter(**source, num_threads=threads)
    interpreter.allocate_tensors()
    return interpreter


def torch_step(
    graph: Graph, x: np.ndarray, y: np.ndarray, *, threads: int, channels_last: bool
) -> Callable[[], object]:
    """Prepare one step of SGD on all of x (float NHWC, y int64), eager mode."""
    peer_version("torch")
    import torch

    torch.set_num_threads(threads)
    net = torch_net(graph).train()
    layout = torch.channels_last if channels_last else torch.contiguous_format
    net = net.to(memory_format=layout)
    inputs = torch.from_numpy(x.transpose(0, 3, 1, 2).copy()).contiguous(memory_format=layout)
    labels = torch.from_numpy(y.astype(np.int64))
    optimiser = torch.optim.SGD(net.parameters(), lr=RATE)

    def step() -> None:
        optimiser.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(net(inputs), labels).backward()
        optimiser.step()

    return step


def ort_step(graph: Graph, x: np.ndarray, y: np.ndarray, *, threads: int) -> Callable[[], object]:
    """Do the same with onnxruntime-training."""
    peer_version("onnxruntime-training")
    peer_version("onnx")
    peer_version("torch")
    import onnxruntime
    from onnxruntime.training import artifacts
    from onnxruntime.training.api import CheckpointState, Module, Optimizer

    model = onnx_net(graph)
    with tempfile.TemporaryDirectory() as folder:
        artifacts.generate_artifacts(
            model,
            requires_grad=[t.name for t in model.graph.initializer],
            loss=artifacts.LossType.CrossEntropyLoss,
            optimizer=artifacts.OptimType.SGD,
            artifact_directory=folder,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        options.inter_op_num_threads = 1
        state = CheckpointState.load_checkpoint(f"{folder}/checkpoint")
        module = Module(f"{folder}/training_model.onnx", state, device="cpu", session_options=options)
        optimiser = Optimizer(f"{folder}/optimizer_model.onnx", module)
    optimiser.set_learning_rate(RATE)
    module.train()
    inputs = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    labels = y.astype(np.int64)

    def step() -> None:
        module(inputs, labels)
        optimiser.step()
        module.lazy_reset_grad()

    return step


def litert_head_step(model: Path, x: np.ndarray, y: np.ndarray) -> Callable[[], object]:
    """Prepare one call of the train signature of bench/resnet8_head_fp32.tflite."""
    runner = litert(model).get_signature_runner("train")
    target = np.zeros((1, 10), np.float32)
    target[0, int(y[0])] = 1
    return lambda: runner(x=x, y=target)
