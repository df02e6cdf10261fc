# SPDX-License-Identifier: Apache-2.0
"""`python -m edgefl`: the same as the `edgefl` command."""

import sys

from edgefl.cli.main import main

sys.exit(main())
