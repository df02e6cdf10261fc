# SPDX-License-Identifier: Apache-2.0
"""What travels between devices and hubs: canonical CBOR, messages, envelopes, request signatures; no I/O."""
