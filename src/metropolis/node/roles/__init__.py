# SPDX-License-Identifier: Apache-2.0
"""The role server: runs what the cluster assigned to this node.

Its parts share watchable values and never call each other (`edges`): who enrols sets `identity`,
who fetches roles sets `roles` and `intent`, who runs the consensus sets `consensus`; the others
wait for the values they need.

    identity ──▶ connection ──▶ rolefetch ──▶ roles ──▶ intent ──▶ controlplane ──▶ consensus
                     │                                                                 │
                     ├──▶ heartbeat, statuspush ◀──────────────────────────────────────┤
                     ├──▶ hosts, access (who may call this node's own servers)         ▼
                     ├──▶ nodemgmt, kubernetes, backups (copies of the leader's)    curator
                     └──▶ farewell ──▶ must_wipe: everything stops, `metropolis.node.farewell`
"""
