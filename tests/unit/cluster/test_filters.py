# SPDX-License-Identifier: Apache-2.0
"""Which nodes a CEL expression selects, and what hostile expressions get."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api.common_pb2 import NODE_STATE_NEW, NODE_STATE_UP
from metropolis.api.management_pb2 import Node
from metropolis.base.errors import InvalidArgumentError
from metropolis.cluster.filters import FILTER_BYTES_MAX, compile_filter


def node() -> Node:
    made = Node(id="metropolis-1", state=NODE_STATE_UP, health=Node.HEALTH_HEALTHY)
    made.roles.kubernetes_worker.SetInParent()
    made.time_since_heartbeat.FromSeconds(3)
    return made


@pytest.mark.parametrize(
    ("text", "is_match"),
    [
        ("node.state == NODE_STATE_UP", True),
        ("node.state == NODE_STATE_NEW", False),
        ("node.state == NodeState.NODE_STATE_UP", True),
        ("node.state == metropolis.proto.common.NodeState.NODE_STATE_UP", True),
        ("node.health == HEALTH_HEALTHY", True),
        ("node.health == Node.Health.HEALTH_UNKNOWN", False),
        ("has(node.roles.kubernetes_worker)", True),
        ("has(node.roles.kubernetes_controller)", False),
        ("node.time_since_heartbeat < duration('6s')", True),
        ("node.time_since_heartbeat < duration('2s')", False),
        ('node.id == "metropolis-1"', True),
        ('node.id=="metropolis-2" || has(node.roles.kubernetes_worker)', True),
        ('node.status.external_address == "x"', False),
        ("node.id.startsWith('metropolis-') && !has(node.status)", True),
        ("node.id.matches('^(m+e+)+t.*[0-9]$')", True),
        ("dyn(node.state) == 3", True),
    ],
)
def test_an_expression_selects_nodes(text: str, is_match: bool) -> None:
    assert compile_filter(text).matches(node()) is is_match


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "node.",
        "1 +",
        "node.id",
        "'true'",
        "node.state",
        "node.stat == NODE_STATE_UP",
        "node.state == NODE_STATE_UPP",
        "node.state == 'UP'",
        "nodes.state == NODE_STATE_UP",
        "[1, 2].exists(x, x == 1)",
        "[1].map(x, x) == [1]",
        "node.labels.pairs.all(p, p.key == 'a')",
        "'a' + 'b' == 'ab'",
        "true && \x00",
        "(" * 200 + "true" + ")" * 200,
        "node.id == '" + "x" * FILTER_BYTES_MAX + "'",
        "é" * FILTER_BYTES_MAX,
    ],
)
def test_what_is_no_condition_is_a_bad_request(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        compile_filter(text).matches(node())
    assert caught.value.remedy
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "text",
    ["1 / 0 == 1", "node.labels.pairs[0].key == 'a'", "dyn(node.id)", "node.id.matches('(')"],
)
def test_what_fails_for_a_node_is_a_bad_request(text: str) -> None:
    with pytest.raises(InvalidArgumentError):
        compile_filter(text).matches(Node(state=NODE_STATE_NEW))


def test_an_expression_is_compiled_once() -> None:
    assert compile_filter("node.id == 'once'") is compile_filter("node.id == 'once'")


TOKENS = st.lists(
    st.sampled_from(
        ["node", ".state", ".id", "==", "NODE_STATE_UP", "'x'", "(", ")", "&&", "||", "!", "has",
         "duration", "1", "-", "[", "]", "{", "}", ":", "?", ",", "<", "in", "dyn", "size", "*"]
    ),
    max_size=30,
)  # fmt: skip


@given(TOKENS.map(" ".join) | st.text(max_size=80))
def test_no_text_does_anything_but_select_or_be_refused(text: str) -> None:
    with suppress(InvalidArgumentError):
        assert compile_filter(text).matches(node()) in {True, False}
