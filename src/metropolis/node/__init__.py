# SPDX-License-Identifier: Apache-2.0
"""A node: process 1 of a machine that runs Metropolis, from power-on to serving its roles.

Refuses to know how a cluster decides (`metropolis.cluster`) and how a machine works
(`metropolis.host`): it finds out who it is, becomes part of a cluster, and then runs what the
cluster assigns to it.

What it knows before its disk is open is kept by `storage` and, where there is a TPM, by `sealing`;
the disk is `data_disk` over `luks`.

Invariants: every step of an enrolment can be killed and resumed, and never makes a second node;
a file on the storage has one owner, declared in `storage`; nothing runs outside the tree.

    root
    ├── enrolment          who am I: bootstrap | register | join, see `enrolment`
    ├── storage            gives the data partition's file system room before it is full
    ├── farewell           waits; wipes the machine when the cluster has taken it out of service
    └── role               what the cluster asks of me, see `roles`
        ├── controlplane   etcd member, its promotion; only with the ConsensusMember role
        ├── curator        7835: leads, or says who does
        ├── rolefetch      my roles, from disk first, then from the leader
        ├── statuspush     my address, version and boot id, to the leader
        ├── heartbeat      every 5 s
        ├── hosts          names of the other nodes, for etcd's peers; the cluster directory
        ├── farewell       says goodbye when this node is decommissioned
        ├── nodemgmt       7839: logs, introspection, reboot
        ├── metrics        7840: figures for Prometheus
        └── kubernetes     6444: says that Kubernetes is not in this build
"""
