# SPDX-License-Identifier: Apache-2.0
"""Commands of `metalctl` that are of one entity alone, imported when they are called."""
