# SPDX-License-Identifier: Apache-2.0
"""What machines say over gRPC while they boot, are installed and live (`api.v1`).

    Dhcp ─► Boot ─► Register ─► Wait ═══ keep-alives ═══► end of stream: allocated
                                                                  │ read the allocation over REST,
                                                                  ▼ install
                            EventService.Send (any time)        Report

    service      the methods, thin over `services/`
    messages     their protobuf messages as our structs
    server       both of them, and those of `messages/`, on one port over mutual TLS
    authority    certificates for whoever has no authority yet

Refuses: memory. That a machine waits and that it was allocated is in the database; a stream only
tells it sooner. Any replica serves any machine, and a machine that asks again is answered again.
"""
