# SPDX-License-Identifier: Apache-2.0
"""The real machine. The only package that may use ctypes, fcntl, subprocess or raw sockets.

Refuses policy, as all of `host` does: a file is written durably or not at all, a program runs or
does not, and nothing is retried. Every class here passes the contract tests of its simulated twin.

    clock         LinuxClock: CLOCK_MONOTONIC, CLOCK_REALTIME
    entropy       LinuxEntropy: getrandom
    directory     LinuxDirectory: temp file, fsync, rename, fsync of the directory
    processes     LinuxProcesses: own session, death with the parent, output line by line
    names         LinuxNames: host name, hosts file
    machine       linux_host(): all of them as one Host
    programs      one-shot tools and file locks for set-up programs, outside the event loop
    capabilities  what this machine lets us do, found out by doing it

                 loop thread                        executor threads
    Directory    path checks ───────────────────▶   open, write, fsync, rename
    Processes    fork, pidfd, pipes (add_reader)    -

Invariants:
  * A program never outlives its leader's reaping nor the thread that started it: PR_SET_PDEATHSIG
    kills it when we die, its process group is killed when it does. So programs are only started
    from the loop's thread, which lives as long as the process.
  * Nothing is left a zombie, whether somebody waits for it or not.
"""
