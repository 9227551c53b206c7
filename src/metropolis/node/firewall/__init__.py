# SPDX-License-Identifier: Apache-2.0
"""The packet filter of a machine: what reaches its ports from outside.

Refuses by default. Open are the documented ports of this build and nothing else; replies to what
the machine itself asked come back, and the ICMP that the Internet does not work without.

Invariants: the rules are loaded as a whole or not at all, and before the first address is taken;
what is open is one list in `metropolis.base.ports`, from which the handbook's table is drawn, too.
DHCP needs no open port: its client listens below the filter.

    rules (pure) ──▶ nft, through standard input ──▶ kernel ──▶ is_closed ──▶ network
"""
