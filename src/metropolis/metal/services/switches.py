# SPDX-License-Identifier: Apache-2.0
"""Switches: register, replace, change, find, delete."""

from metropolis.metal.services.connections import (
    connect_machine,
    disconnect_machine,
    set_machine_vrf,
)

__all__ = ["connect_machine", "disconnect_machine", "set_machine_vrf"]
