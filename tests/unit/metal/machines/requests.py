# SPDX-License-Identifier: Apache-2.0
"""Requests as the interface decodes them, for tests that call services."""

from typing import Any

import msgspec

from metropolis.metal.model.machine_request import MachineAllocateRequest
from unit.metal.machines.fleet import Fleet


def allocation_request(site: Fleet, **more: Any) -> MachineAllocateRequest:
    """A good request for an allocation."""
    return msgspec.convert(site.request(**more), MachineAllocateRequest)
