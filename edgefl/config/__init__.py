# SPDX-License-Identifier: Apache-2.0
"""Configuration: dataclasses, one a TOML table, that feed the strict loader and the example file alike."""
