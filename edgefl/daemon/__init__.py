# SPDX-License-Identifier: Apache-2.0
"""The device's processes: the supervisor and its children, the training worker and the installer."""
