# SPDX-License-Identifier: Apache-2.0
"""Metropolis: a fleet of machines as one self-managed, API-driven, secure cluster.

The rooms, lowest first, are listed in ARCHITECTURE.md; each room's docstring is its page.
"""

__version__ = "0.1.0"
