# SPDX-License-Identifier: Apache-2.0
"""How a command prints its result."""

from __future__ import annotations

import argparse
import json


def show(args: argparse.Namespace, value: object, text: str) -> None:
    """Print `value` with --json, else `text`."""
    print(json.dumps(value) if args.json else text, flush=True)
