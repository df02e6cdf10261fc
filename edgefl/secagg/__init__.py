# SPDX-License-Identifier: Apache-2.0
"""Secure aggregation: parameters, key derivation, masks, sealed reports, agreement on the accepted set.

Supervisor and hub state machines use params, canary, kdf, oneshot and agree (no numpy); mask is for the
worker and for the hubs' arithmetic.
"""
