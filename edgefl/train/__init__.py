# SPDX-License-Identifier: Apache-2.0
"""int8 training on one device: Batch in, RawDelta out.

`Session` trains, `Forward` runs.  Refuses bad labels, rates and layers in one line.  Everything random comes
from the task's seed, so that a run repeats bit by bit.  Source: docs/training.md.
"""

from edgefl.model.forward import Forward, bias_exponents
from edgefl.train.fit import Session, Step
from edgefl.train.report import FitReport, LayerReport

__all__ = ["FitReport", "Forward", "LayerReport", "Session", "Step", "bias_exponents"]
