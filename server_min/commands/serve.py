# SPDX-License-Identifier: Apache-2.0
"""`edgefl-hub serve`: run a leader or a helper until TERM."""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Coroutine

from edgefl.errors import EdgeflError
from server_min.config import load_hub
from server_min.serve import configure_log
from server_min.store import open_store


def serve(args: argparse.Namespace) -> int:
    """Run the hub; does not return while it serves."""
    hub = load_hub(args.dir, "helper" if args.helper else None)
    hub.pinned_partner  # noqa: B018  (refuses a hub that is not paired)
    configure_log(hub.toml.hub.log_level)
    store = open_store(hub.folder)
    main: Coroutine[None, None, None]
    if hub.toml.hub.role == "leader":
        from server_min.leader import serve_leader

        main = serve_leader(hub, store)
    else:
        from server_min.helper_app import serve_helper

        main = serve_helper(hub, store)
    code = 0
    try:
        asyncio.new_event_loop().run_until_complete(main)
    except EdgeflError as error:
        print(f"edgefl-hub: {error}", file=sys.stderr)
        code = error.exit_code
    finally:
        store.close()
    # Granian's threads may wait for idle clients; all that must last is in the store.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
