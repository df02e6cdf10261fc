# SPDX-License-Identifier: Apache-2.0
"""A device's part in a round: what it agrees to, the order of steps, from samples to a masked vector."""
