# SPDX-License-Identifier: Apache-2.0
"""Calls over a network that does not exist: the transport of the simulation.

Carries the same serialized bytes as gRPC, asks the same authenticator and the same verifier, caps
messages at the same size and turns errors into the same statuses, so that everything above it runs
unchanged. The network between is TCP as applications see it: bytes of one connection arrive in
order or the connection dies; nobody knows how far the other end got before it died.

    MemoryTransport ── dial, serve                         (one per node: it has the address)
         │
    channel.py   MemoryChannel: connects when first used ──┐
    server.py    MemoryServer: one task per call           │ frames.py: what they say to each other
         │                                                 │
    connection.py  Connection: two ends, two pipes in order ┘
         │
    network.py   MemoryNetwork: who reaches whom, how fast; splits, cuts, loss, resets, power

Invariants: every choice comes from the generator handed in; a split is noticed by both ends after
3 to 9 s (a ping every 6 s, 3 s to answer it) unless it heals before; a machine that lost power
says nothing, and answers old connections with a reset once it is back; loss delays, it does not
corrupt.

Refuses to know what is called.
"""
