# SPDX-License-Identifier: Apache-2.0
"""The C core seen from Python: the only package that imports cffi.

In: NumPy arrays and bytes.  Out: the same.  Refuses: anything the C core reports with a status, as an
exception of edgefl.errors.  Each module wraps one part: engine (forward and training), masks, dp.
"""

from edgefl.native._core import ffi, lib

lib.efl_init()

__all__ = ["ffi", "lib"]
