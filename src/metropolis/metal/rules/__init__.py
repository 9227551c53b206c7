# SPDX-License-Identifier: Apache-2.0
"""Metal's decisions, without clock, store or network: tables and functions of values alone."""
