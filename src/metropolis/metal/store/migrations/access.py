# SPDX-License-Identifier: Apache-2.0
"""The tables of `access` and `audit`: signatures that were used, and what was done by whom."""

from typing import Final

from metropolis.metal.store.migrations.step import Migration

ACCESS: Final = Migration(
    name="used signatures and audit traces",
    statements=(
        """CREATE TABLE used_signature (
            digest {bytes} NOT NULL PRIMARY KEY,
            expires_us {integer} NOT NULL
        ) {clustered}""",
        "CREATE INDEX used_signature_expiry ON used_signature (expires_us)",
        """CREATE TABLE audit_trace (
            timestamp_us {integer} NOT NULL,
            id {text} NOT NULL,
            rqid {text} NOT NULL,
            type {text} NOT NULL,
            component {text} NOT NULL,
            email {text} NOT NULL,
            tenant {text} NOT NULL,
            project {text} NOT NULL,
            detail {text} NOT NULL,
            phase {text} NOT NULL,
            path {text} NOT NULL,
            forwarded_for {text} NOT NULL,
            remote_addr {text} NOT NULL,
            status_code {integer} NOT NULL,
            body {text} NOT NULL,
            error {text} NOT NULL,
            PRIMARY KEY (timestamp_us, id)
        ) {clustered}""",
        "CREATE INDEX audit_trace_request ON audit_trace (rqid, timestamp_us)",
    ),
)
