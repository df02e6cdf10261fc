# SPDX-License-Identifier: Apache-2.0
"""Fixtures for mask and packing tests: every kernel that this machine runs, in one process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from edgefl.native._core import ffi, lib

ISAS = [isa for isa in range(lib.EFL_ISA_COUNT) if lib.efl_isa_supported() >> isa & 1]


@pytest.fixture(params=ISAS, ids=lambda isa: ffi.string(lib.efl_isa_name(isa)).decode())
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    before = lib.efl_isa_current()
    assert lib.efl_isa_select(request.param) == 0
    yield ffi.string(lib.efl_isa_name(request.param)).decode()
    assert lib.efl_isa_select(before) == 0
