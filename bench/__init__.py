# SPDX-License-Identifier: Apache-2.0
"""Benchmarks: `make bench`. Figures, not tests: compare ratios and CPU time between two trees.

Each module has `measure()`: name -> (value, unit, target). A target is an upper bound, except for
units that end in "/s", where it is a lower one; None means that there is none.
"""
