# SPDX-License-Identifier: Apache-2.0
"""Every series of /metrics/core, written down once: what is not here cannot be exported."""

from dataclasses import dataclass
from typing import Final

from metropolis.formats.exposition import Family, Kind, Sample


@dataclass(frozen=True, slots=True)
class Series:
    """A name and what its numbers mean. `labels` are all that its samples carry."""

    name: str
    kind: Kind
    text: str
    labels: tuple[str, ...] = ()

    def of(self, *samples: Sample) -> Family:
        """Return the family with these samples."""
        return Family(self.name, self.text, self.kind, samples)

    def one(self, value: float) -> Family:
        """Return the family with a single number without labels."""
        return self.of(Sample(value))


_C, _G, _H = Kind.COUNTER, Kind.GAUGE, Kind.HISTOGRAM

BUILD = Series(
    "metropolis_build_info",
    _G,
    "Version of the node's system image, or of its program where there is none; always 1.",
    ("version", "variant"),
)
NODE = Series("metropolis_node_info", _G, "Which node this is; always 1.", ("node_id",))
ROLE = Series("metropolis_node_role", _G, "Whether the node has a role (1) or not (0).", ("role",))
MILESTONE = Series(
    "metropolis_node_milestone_seconds",
    _G,
    "Seconds from the start of the node's program, or of the kernel where the program is process "
    "1, to each step that was reached: kernel to trees on a machine, then enrolled, connected, "
    "consensus, heard.",
    ("milestone",),
)
TREE_STATE = Series(
    "monogon_supervisor_dn_state_total",
    _G,
    "Whether a runnable is in a state (1) or not (0).",
    ("dn", "state"),
)
TREE_TRANSITION = Series(
    "monogon_supervisor_dn_state_transition_count",
    _C,
    "How often a runnable went from one state to another; its very first state counts as one "
    "after NODE_STATE_DEAD.",
    ("dn", "old_state", "new_state"),
)
RPC_CALLS = Series(
    "metropolis_rpc_server_calls_total",
    _C,
    "Calls that have ended, by code; a method that nobody serves has the name (unknown).",
    ("service", "method", "code"),
)
RPC_SECONDS = Series(
    "metropolis_rpc_server_call_seconds",
    _H,
    "How long calls with one request and one response took, to the millisecond.",
    ("service", "method"),
)
RPC_IN_FLIGHT = Series(
    "metropolis_rpc_server_calls_in_flight",
    _G,
    "Calls that have begun and not ended: streams, mostly.",
    ("service", "method"),
)
RPC_CONNECTIONS = Series(
    "metropolis_rpc_server_connections", _G, "Open connections of the node's gRPC ports."
)
RPC_REFUSED = Series(
    "metropolis_rpc_server_refused_handshakes_total",
    _C,
    "Connections that ended before the TLS handshake did.",
)
MEMBER = Series(
    "metropolis_consensus_member", _G, "Whether this node has a consensus member that votes."
)
MEMBER_ANSWERS = Series(
    "metropolis_consensus_answers", _G, "Whether that member answers; only where there is one."
)
MEMBER_LEADS = Series("metropolis_consensus_leader", _G, "Whether that member leads the others.")
MEMBER_HAS_LEADER = Series(
    "metropolis_consensus_has_leader", _G, "Whether that member knows who leads: 0, no majority."
)
RAFT_TERM = Series("metropolis_consensus_raft_term", _C, "How often members have elected.")
RAFT_INDEX = Series("metropolis_consensus_raft_index", _C, "How far that member has come.")
REVISION = Series("metropolis_consensus_revision", _C, "Revision of the cluster's state.")
DATABASE = Series("metropolis_consensus_database_bytes", _G, "Size of that member's database.")
COMPLAINTS = Series(
    "metropolis_consensus_complaints", _G, "What that member complains of, say a full disk: count."
)
LEADS = Series("metropolis_cluster_leads", _G, "Whether this node leads the cluster.")
LEADER_KNOWN = Series(
    "metropolis_cluster_leader_known", _G, "Whether this node knows who leads the cluster."
)
LEADER_SILENCE = Series(
    "metropolis_cluster_leader_silence_seconds",
    _G,
    "Since when the leader has not said which users are admitted; absent before it first did.",
)
HEARTBEAT_AGE = Series(
    "metropolis_heartbeat_age_seconds",
    _G,
    "Since when the leader has not answered a heartbeat; absent before it first did.",
)
NODES = Series(
    "metropolis_cluster_nodes", _G, "Nodes of the cluster as this one knows it.", ("state",)
)
STORAGE_SIZE = Series("metropolis_storage_size_bytes", _G, "Size of the node's data partition.")
STORAGE_FREE = Series("metropolis_storage_free_bytes", _G, "What can still be written there.")
CERTIFICATE_FROM = Series(
    "metropolis_certificate_not_before_timestamp_seconds",
    _G,
    "Since when a certificate of this node is valid.",
    ("certificate",),
)
CERTIFICATE_UNTIL = Series(
    "metropolis_certificate_not_after_timestamp_seconds",
    _G,
    "Until when a certificate of this node is valid.",
    ("certificate",),
)
CPU = Series("process_cpu_seconds_total", _C, "CPU time of the node's program.")
RESIDENT = Series("process_resident_memory_bytes", _G, "Its memory that is in RAM.")
VIRTUAL = Series("process_virtual_memory_bytes", _G, "Its address space.")
THREADS = Series("process_threads", _G, "Its threads.")
OPEN_FILES = Series("process_open_fds", _G, "Its open file descriptors.")
OPEN_FILES_MAX = Series("process_max_fds", _G, "How many it may open.")
STARTED = Series("process_start_time_seconds", _G, "When it was started, in unixtime.")

SERIES: Final = tuple(each for each in list(globals().values()) if isinstance(each, Series))
