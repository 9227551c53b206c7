# SPDX-License-Identifier: Apache-2.0
"""The books of addresses, prefixes and numbers.

Binary addresses sort as addresses do. `namespace` and `parent` are empty, not null, where there is
none, so that they can be part of keys. `mark` has 17 bytes: it may lie behind the last address.
"""

from typing import Final

from metropolis.metal.store.migrations.step import Migration

IPAM: Final = Migration(
    name="ipam",
    statements=(
        "CREATE TABLE ipam_namespace (name {text} PRIMARY KEY) {clustered}",
        "INSERT INTO ipam_namespace (name) VALUES ('')",
        """CREATE TABLE ipam_prefix (
            namespace {text} NOT NULL, cidr {text} NOT NULL, parent {text} NOT NULL,
            family {integer} NOT NULL, first {bytes} NOT NULL, last {bytes} NOT NULL,
            holds {text} NOT NULL, mark {bytes} NOT NULL,
            PRIMARY KEY (namespace, cidr)) {clustered}""",
        "CREATE INDEX ipam_prefix_tree ON ipam_prefix (namespace, parent, family, first)",
        """CREATE TABLE ipam_block (
            namespace {text} NOT NULL, prefix {text} NOT NULL, first {bytes} NOT NULL,
            bits {integer} NOT NULL,
            PRIMARY KEY (namespace, prefix, first)) {clustered}""",
        "CREATE INDEX ipam_block_fit ON ipam_block (namespace, prefix, bits DESC, first)",
        """CREATE TABLE ipam_address (
            namespace {text} NOT NULL, prefix {text} NOT NULL, address {bytes} NOT NULL,
            PRIMARY KEY (namespace, prefix, address)) {clustered}""",
        # A table of its own: whoever looks for a free address sees free ones only, whatever the
        # database knows or believes about how many there are.
        """CREATE TABLE ipam_free (
            namespace {text} NOT NULL, prefix {text} NOT NULL, address {bytes} NOT NULL,
            PRIMARY KEY (namespace, prefix, address)) {clustered}""",
        # What a statement of its own took, while it may be that its answer was lost.
        """CREATE TABLE ipam_claim (
            token {text} PRIMARY KEY, addresses {text} NOT NULL) {clustered}""",
        "CREATE TABLE ipam_pool (name {text} PRIMARY KEY, mark {integer} NOT NULL) {clustered}",
        """CREATE TABLE ipam_integer (
            pool {text} NOT NULL, value {integer} NOT NULL, holders {integer} NOT NULL,
            PRIMARY KEY (pool, value)) {clustered}""",
        "CREATE INDEX ipam_integer_free ON ipam_integer (pool, value) WHERE holders = 0",
    ),
)
