# SPDX-License-Identifier: Apache-2.0
"""The commands, one subject per module. Nothing is imported before its command is called."""
