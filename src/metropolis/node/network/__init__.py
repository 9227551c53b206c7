# SPDX-License-Identifier: Apache-2.0
"""The network of a machine: devices, addresses, routes, name servers.

Refuses to open a port: the firewall is closed before the first address is taken.

Invariants: a configuration that cannot work is refused, whole, with the name of every wrong field,
and never keeps a machine off the network: the last good one is used, or DHCP. Whatever is awaited
is said in one sentence on the console. At any time there is one external address.

    parameters.pb ─▶ choose ─▶ static  ─┬─ apply    devices, bonds, VLANs, addresses, routes
    ESP, saved ────▶   │                └─ dhcp     interfaces that ask for it
                       └─────▶ automatic ─ dhcp     every Ethernet device; the first that answers
                                             │
                              NetworkStatus ◀┴─▶ resolv.conf
"""
