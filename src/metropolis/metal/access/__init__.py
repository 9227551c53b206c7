# SPDX-License-Identifier: Apache-2.0
"""Who calls, and what they may do: HMAC, OIDC and tokens of our own, roles and permissions."""
