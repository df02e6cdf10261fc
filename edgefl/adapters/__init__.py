# SPDX-License-Identifier: Apache-2.0
"""The edge of the program: network, disk, clock, entropy, certificates and plugins."""
