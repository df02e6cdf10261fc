# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """Folder with the large models, data and vectors; tests that need it skip without it."""
    root = Path(os.environ.get("EDGEFL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not (root / "data").is_dir():
        pytest.skip("needs the shared data folder beside the checkout (or EDGEFL_SHARED)")
    return root
