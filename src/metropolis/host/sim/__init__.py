# SPDX-License-Identifier: Apache-2.0
"""A machine that does not exist: the verified fake of `metropolis.host.linux`.

Passes the same contract tests, and can do what no test dares to do to a real machine: lose power
in the middle of a write, run out of disk, live with a clock that is wrong. Every choice comes from
a generator that is handed in, so that one seed names one run. Time is the running loop's.

Refuses real time, real files, real programs, and anything that outlives a power cut except what
was durably written.

    SimHost ─── boot() ───▶ Host: clock, entropy, storage, ephemeral, processes, names
       │                            (one boot; dead after crash(), its writes go nowhere)
       └── what survives a crash: the storage disk, the hardware clock, the addresses

    clock      SimClock: wall time = epoch + loop time, with drift and steps
    disk       SimDisk: files; crash(), capacity, latency
    directory  SimDirectory: one boot's view of a disk
    processes  SimProcesses: programs that are coroutines
    names      SimNames: remembers what it was told
    network    SimLinks, SimDhcpSockets: cards, cables, segments, addresses that end
    machine    SimHost: all of it, with boot(), crash() and restart()
"""
