# SPDX-License-Identifier: Apache-2.0
r"""DHCPv4 (RFC 2131, 2132, 3396, 3442, 4039): the client's side.

    message    BOOTP messages and their options, as bytes
    packet     IPv4 and UDP around a message, as bytes
    lease      what a server grants, judged
    client     the state machine

    DISCOVERING ──OFFER──▶ REQUESTING ──ACK──▶ BOUND ──T1──▶ RENEWING ──T2──▶ REBINDING
      ▲  ▲                     │                ▲               │ACK             │ACK
      │  └──── NAK, silence ───┘                └───────────────┴────────────────┘
      └──────────────── NAK, expiry: the address is given up ───┴────────────────┘

Departures from RFC 2131, each on purpose:

* Back-off is 1.4 s doubling to 30 s (300 s while an address is held), +-20 %: a machine boots
  within seconds of the network, and leases of seconds, as in test networks, survive a lost packet.
* A cable that was pulled and put back makes us ask all servers (REBINDING) whether the lease still
  holds, instead of INIT-REBOOT: the same question, with the address in use meanwhile.
* A server whose offer came to nothing (NAK, silence) is asked again only when no other answers.
* Nothing is declined or released: an address that is in use twice is the kernel's to notice, and
  a machine that reboots wants the same address again.
"""
