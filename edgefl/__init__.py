# SPDX-License-Identifier: Apache-2.0
"""edgefl: federated learning on small Linux boards with ordinary int8 .tflite models.

`edgefl.Model` opens, runs and saves a model, `edgefl.Trainer` trains it in int8.  Importing edgefl imports
nothing else: the supervisor process stays without numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgefl.api.model import Model as Model
    from edgefl.api.trainer import Trainer as Trainer

__version__ = "0.1.0"
__all__ = ["Model", "Trainer", "__version__"]

_LAZY = {"Model": "edgefl.api.model", "Trainer": "edgefl.api.trainer"}


def __getattr__(name: str) -> object:
    """Import a public class at its first use."""
    if name not in _LAZY:
        raise AttributeError(f"module 'edgefl' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_LAZY[name]), name)
