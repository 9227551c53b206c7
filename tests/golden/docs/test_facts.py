# SPDX-License-Identifier: Apache-2.0
"""Numbers that the pages repeat from the code."""

import pytest

from golden.docs.pages import HANDBOOK, prose, read
from metropolis.base import names, ports
from metropolis.base.ids import PUBLIC_KEY_BYTES, is_node_id
from metropolis.cluster import filters, gate, sync
from metropolis.cluster.planner import directory, health
from metropolis.cluster.services import aaa
from metropolis.consensus import election
from metropolis.ctl import offers, ownership, settings
from metropolis.ctl.commands.takeownership import OWNED
from metropolis.ctl.metal import provisioning
from metropolis.ctl.metal.commands import machine_console
from metropolis.lab import launch, leftovers, model
from metropolis.node.enrolment import register
from metropolis.node.management import logs
from metropolis.node.roles import heartbeat
from metropolis.pki import tickets
from metropolis.rpc.limits import Limits
from metropolis.supervision import journal, lines, log_text, process, reader, tree
from metropolis.supervision import names as dn_names

FACTS = (
    # page, phrase as it must stand there
    (
        "node-runnables-and-logging",
        (
            f"before it starts again: {tree.BACKOFF_FIRST_S:g} s, "
            f"then {tree.BACKOFF_FACTOR:g} times as long each time, "
            f"spread by {tree.BACKOFF_JITTER:.0%} in both directions, "
            f"at most {tree.BACKOFF_MAX_S:g} s. Only {tree.HEALTHY_RESET_S:g} s of unbroken health"
        ),
    ),
    (
        "node-runnables-and-logging",
        (
            f"still runs after {tree.STUCK_S:g} s is named in the log of `{tree.LOG_DN}`, "
            f"together with what it waits for, and again every {tree.STUCK_AGAIN_S:g} s"
        ),
    ),
    ("node-runnables-and-logging", f"A name is 1 to {dn_names.NAME_LENGTH_MAX} of"),
    ("node-runnables-and-logging", f"and SIGKILL {process.GRACE_S:g} s later"),
    ("node-runnables-and-logging", f"at most {lines.RAW_LINE_BYTES_MAX} bytes of it"),
    ("node-runnables-and-logging", f"the name takes {log_text.DN_COLUMNS} columns"),
    (
        "node-runnables-and-logging",
        (
            f"At most {journal.PER_DN_MAX:,} entries per DN, {journal.ENTRIES_MAX:,} and "
            f"{journal.BYTES_MAX >> 20} MiB of text in all"
        ),
    ),
    ("node-runnables-and-logging", f"more than {reader.QUEUE_MAX} entries behind"),
    ("cluster", f"on port {ports.CONSENSUS_TCP_PORT}, under an authority of their own"),
    ("cluster", f"lives on a lease of {election.LEASE_TTL_S} s"),
    ("cluster", f"makes a read fail after {gate.WAIT_S_MAX:g} s"),
    ("cluster", f"the leader makes the role follow, within {sync.INTERVAL_S:g} s"),
    ("cluster", f"every {health.HEARTBEAT_INTERVAL_S:g} s; retried after {heartbeat.RETRY_S:g} s"),
    ("cluster", f"not heard for {health.HEARTBEAT_TIMEOUT_S:g} s is HEARTBEAT_TIMEOUT"),
    ("cluster", f"A node has at most {names.LABELS_PER_NODE_MAX} labels"),
    ("cluster", f"have at most {names.LABEL_PART_CHARS_MAX} letters"),
    ("cluster-api", f"up to {directory.NODES_MAX} nodes with addresses"),
    ("cluster-api", f"At most {filters.FILTER_BYTES_MAX} bytes"),
    ("cluster-api", f"Nothing asked within {aaa.FIRST_MESSAGE_S_MAX:g} s"),
    ("cluster-api", f"INVALID_ARGUMENT: more than {logs.FILTERS_MAX} filters"),
    ("cluster-api", f"| {ports.CURATOR_TCP_PORT} | every node"),
    ("cluster-api", f"| {ports.NODE_MANAGEMENT_TCP_PORT} | every node"),
    ("cluster-api", f"| {ports.KUBERNETES_API_WRAPPED_TCP_PORT} | every node"),
    ("identity-and-authentication", f"A handshake may take {Limits().handshake_s:g} s"),
    ("identity-and-authentication", f"the first {PUBLIC_KEY_BYTES // 2} bytes of its public key"),
    ("identity-and-authentication", f"*register ticket* ({tickets.TICKET_BYTES} bytes, 32 of"),
    ("metroctl", f"A call waits {settings.DEFAULT_TIMEOUT_S:g} s for an answer"),
    ("metalctl", f"waits {offers.TIMEOUT_S:g} s at most"),
    ("metalctl", f"for {provisioning.TIMEOUT_S / 60:g} minutes"),
    ("metalctl", f"to port {machine_console.CONSOLE_TCP_PORT} of the API's host"),
    ("launch-locally", f"1 to {model.NODES_MAX} nodes, 3 if you say nothing"),
    ("launch-locally", f"After {launch.LAUNCH_TIMEOUT_S:g} s it gives up"),
    ("launch-locally", f"A machine that ends {launch.BOOTS_MAX} times"),
    ("launch-locally", f"at port {model.PROXY_TCP_PORT} if that is free"),
    ("launch-locally", f"the variable `{leftovers.VARIABLE}`"),
)


@pytest.mark.parametrize(("page", "phrase"), FACTS)
def test_a_page_says_what_the_code_says(page: str, phrase: str) -> None:
    text = " ".join(prose(HANDBOOK / f"{page}.md").split())
    assert phrase in text


def test_an_unapproved_machine_asks_as_often_as_explain_promises() -> None:
    assert register.COMMIT_RETRY_S == 1.0  # "it tries every second"
    assert "`CommitNode` with the cluster's half of the disk key, every second" in " ".join(
        prose(HANDBOOK / "identity-and-authentication.md").split()
    )


def test_every_port_that_the_lab_lets_through_is_named() -> None:
    page = prose(HANDBOOK / "launch-locally.md")
    assert all(f"{port} (" in page for port in ports.CLIENT_TCP_PORTS)


def test_the_demo_shows_messages_that_exist_and_ids_that_could() -> None:
    demo = read(HANDBOOK / "demo-cluster.md")
    assert OWNED in demo
    assert ownership.__doc__ is not None
    ids = [word for word in demo.replace("`", " ").split() if word.startswith("metropolis-")]
    assert len(ids) > 20
    assert all(is_node_id(word.rstrip(".,:;")) for word in ids)
