# SPDX-License-Identifier: Apache-2.0
"""Commands of `edgefl-hub`, one file a group."""
