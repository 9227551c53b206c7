# SPDX-License-Identifier: Apache-2.0
"""The client of a real etcd (3.5 or newer), over our own stubs and one `rpc.Channel`.

Refuses retries: a write that failed may have taken effect, and only the caller knows what to do
about that. Every call has a deadline, and every call that needs a quorum carries the `hasleader`
header, so a member without quorum refuses at once and ends its watches instead of stalling.

    store       EtcdStore: keys, transactions, leases, status
    watch       EtcdWatch: batches of complete revisions, put together from fragments
    membership  EtcdMembership: members, learners, promotion
    messages    our nouns <-> etcd's messages
    errors      etcd's error texts -> errors that carry a remedy
"""
