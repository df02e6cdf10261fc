# SPDX-License-Identifier: Apache-2.0
"""Commands on one model file: `edgefl eval`, `edgefl train`, `edgefl model inspect`.

In: arguments. Out: tables or JSON on stdout, progress on stderr if it is a terminal. Refuses bad files and
numbers in one line. Invariant: numpy is imported only when a command runs.
"""

from __future__ import annotations

from edgefl.cli.main import Commands


def register(commands: Commands) -> None:
    """Add the commands of this group."""
