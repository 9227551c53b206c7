# SPDX-License-Identifier: Apache-2.0
"""The namespace driver: a machine is a process 1 with its own network, mounts, names and PIDs.

    keeper ── boot (outside: plugs the cable in, waits, reports the exit code)
                └── process 1 (inside: sets up mounts and eth0, then becomes the node's program)

Started by a user who is not root, the keeper becomes root of a user namespace first, and all of
these belong to that: nobody outside gains or loses anything.

What it is not: a security boundary. Nodes run as root on the host's kernel, or as that user, and
see the host's files, read-only. Their storage is a plain directory and they report it as INSECURE.
"""
