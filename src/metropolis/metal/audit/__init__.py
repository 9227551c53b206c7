# SPDX-License-Identifier: Apache-2.0
"""Who did what, when, and what came of it: two rows for every call that changes something.

    request ─▶ row "request" ─▶ the change ─▶ row "response", same request id
               (not written:                 (status, error, what was answered)
                the call is refused)

Secrets are struck out before a row is written. Rows are kept for two weeks.
"""
