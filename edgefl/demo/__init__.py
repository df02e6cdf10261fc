# SPDX-License-Identifier: Apache-2.0
"""`edgefl demo`: two hubs and a small fleet of real ECG records on one machine, as in production."""
