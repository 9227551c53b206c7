# SPDX-License-Identifier: Apache-2.0
"""Messages as documents of JSON and YAML, see `printing` for their form. Pure."""

from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message

from metropolis.api.management_pb2 import Node
from metropolis.ctl.tables import was_heard


def document_of(message: Message) -> dict[str, Any]:
    """Convert any message."""
    document: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return document


def node_document(node: Node) -> dict[str, Any]:
    """Convert a node; a heartbeat that was never heard is null, not a time of 292 years."""
    document = document_of(node)
    if not was_heard(node):
        document["time_since_heartbeat"] = None
    return document
