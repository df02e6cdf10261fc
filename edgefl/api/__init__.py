# SPDX-License-Identifier: Apache-2.0
"""The public classes and the code behind the commands on one model; opens and replaces files."""
