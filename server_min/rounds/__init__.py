# SPDX-License-Identifier: Apache-2.0
"""Rounds of the leader: a pure state machine, one file a phase; driver.py does the I/O."""
