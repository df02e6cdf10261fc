# SPDX-License-Identifier: Apache-2.0
"""Samples: arrays and npz bytes from outside -> Batch. Opens no files."""
