# SPDX-License-Identifier: Apache-2.0
"""Model updates: verify a Release, patches, the health gate's decision, the install state machine.  Pure."""
