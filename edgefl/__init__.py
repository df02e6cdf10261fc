# SPDX-License-Identifier: Apache-2.0
"""edgefl: federated learning on small Linux boards with ordinary int8 .tflite models.

`edgefl.Model` opens, runs and saves a model, `edgefl.Trainer` trains it in int8.  Importing edgefl imports
nothing else: the supervisor process stays without numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgefl.api import Model, Trainer

__version__ = "0.1.0"
__all__ = ["Model", "Trainer", "__version__"]


def __getattr__(name: str) -> object:
    """Import the public classes at first use."""
    if name in ("Model", "Trainer"):
        from edgefl import api

        return getattr(api, name)
    raise AttributeError(f"module 'edgefl' has no attribute {name!r}")
