# SPDX-License-Identifier: Apache-2.0
"""The outbox: messages by topic, and how far each consumer has read."""

from typing import Final

from metropolis.metal.store.migrations.step import Migration

MESSAGES: Final = Migration(
    name="messages",
    statements=(
        """CREATE TABLE outbox_topic (
            topic {text} PRIMARY KEY, last {integer} NOT NULL,
            floor {integer} NOT NULL DEFAULT 0) {clustered}""",
        """CREATE TABLE outbox (
            topic {text} NOT NULL, sequence {integer} NOT NULL, sent {integer} NOT NULL,
            payload {text} NOT NULL,
            PRIMARY KEY (topic, sequence)) {clustered}""",
        """CREATE TABLE consumer (
            topic {text} NOT NULL, name {text} NOT NULL, position {integer} NOT NULL,
            changed {integer} NOT NULL,
            PRIMARY KEY (topic, name)) {clustered}""",
    ),
)
