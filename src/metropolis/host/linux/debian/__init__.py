# SPDX-License-Identifier: Apache-2.0
"""Signed Debian packages through a private apt root: for set-up programs and the image builder.

Refuses unsigned packages, any change to this machine's own apt, dpkg or installed packages, and a
mirror of our own choosing: packages come from the mirror this machine already uses.

    mirror     which Debian mirrors this machine is configured for (METROPOLIS_DEBIAN_MIRROR wins)
    lock       images/debian-trixie.lock: name, version, architecture, SHA-256
    apt_root   apt-get with its own configuration, state and cache; signatures always checked
    packages   download, compare with the lock, unpack into .cache/debian/<name>_<version>
    checkout   where lock and cache are in the checkout that this code runs from

    apt sources ─▶ mirror ─▶ private apt root ─▶ .deb ─▶ SHA-256 = lock? ─▶ unpacked tree
                                 │                            │
                        Debian's archive key          no: a loud warning, and only a
                                                      version signed by Debian goes on

Invariants: a tree under .cache/debian is complete or absent (renamed into place); concurrent
callers wait for each other; what is cached needs no network. Only the standard library is used,
so this runs before any dependency is installed.
"""
