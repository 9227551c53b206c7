# SPDX-License-Identifier: Apache-2.0
"""The vocabulary every room shares: errors that carry a remedy, typed ids, ports, names.

Refuses: I/O, clocks, anything of ours above it. Everything here is a value or a pure function.

    errors   MetropolisError and one class per gRPC status it becomes
    ids      NodeId and friends
    ports    the documented TCP and UDP ports of a node
    names    rules for labels and cluster domains
"""
