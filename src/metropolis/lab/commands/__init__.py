# SPDX-License-Identifier: Apache-2.0
"""The commands of `metropolis`, one module each, imported when called."""
