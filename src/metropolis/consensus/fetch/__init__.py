# SPDX-License-Identifier: Apache-2.0
"""Where the real etcd comes from: Debian's package, see `metropolis.host.linux.debian`.

    binary     etcd_binary(): the program to run (METROPOLIS_ETCD wins)

Refuses to touch the network unless it is told to fetch. Only the standard library is used, so this
runs before any dependency is installed: `python -m metropolis.consensus.fetch`.
"""
