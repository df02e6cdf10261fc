# SPDX-License-Identifier: Apache-2.0
"""The minimal aggregator: a leader and a helper hub that together sum masked updates and publish releases."""
