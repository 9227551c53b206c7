# SPDX-License-Identifier: Apache-2.0
"""The operator's tools: parse, call the API, print. `metroctl` is here, `metalctl` in `metal`.

Refuses server internals: it knows the wire contracts and the certificates, nothing of how a
cluster works inside. Whatever it can do, any other client of the API can do as well.

    program      what both tools are: one table of commands, imported when they are called
    metroctl     the program that operates clusters
    metal        `metalctl`, the program that operates bare metal
    contexts     which cluster, and where its keys are
    credentials  the owner's key and certificate, the pinned CA
    connection   a channel to the leader, channels to single nodes
    ownership    first contact: trust the CA, fetch the owner's certificate
    user_login   being another user: log in by password, renew; its files: `user_credentials`
    owner_rotation  another key becomes the owner's, whatever is interrupted
    nodes        list, approve, roles, labels, delete: plain functions that return messages
    decommission follows a decommission from leader to leader; replaces the ticket
    members      who votes, and how many may fail
    explanation  why a node is not ready
    dashboard    all of it on one page of a terminal
    tables       nodes as people read them
    offers       how a shell that completes is answered, by both tools
    printing     table, wide, JSON and YAML on stdout; talk on stderr

What a command needs is imported with it: `--help`, completion of names and the handling of
contexts load neither protobuf nor TLS.

      arguments ──▶ Settings ──▶ Context ──▶ connection ──▶ API
                                                 │
      stdout: data  ◀── tables, printing ◀── messages
      stderr: talk, error: … / remedy: …      exit: 0 done, 1 fix it, 2 try again

Invariants: data goes to stdout and talk to stderr; keys are created with mode 0600 and never
printed; every error that leaves the program has a remedy; nothing waits without saying for what.
"""
