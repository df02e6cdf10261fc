# SPDX-License-Identifier: Apache-2.0
"""From a private delta to ring integers with an exact norm bound; for the worker (numpy and the C core)."""
