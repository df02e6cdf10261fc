# SPDX-License-Identifier: Apache-2.0
"""`python -m server_min ...` is `edgefl-hub ...`."""

import sys

from server_min.cli import main

sys.exit(main())
