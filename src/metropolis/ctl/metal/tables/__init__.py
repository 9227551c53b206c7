# SPDX-License-Identifier: Apache-2.0
"""Tables of entities: JSON of the API to headers and rows. Pure."""
