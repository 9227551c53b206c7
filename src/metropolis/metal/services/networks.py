# SPDX-License-Identifier: Apache-2.0
"""Networks: create, cut from another, change, find, delete."""

from metropolis.metal.model.machine_network import MachineNetwork
from metropolis.metal.rules.machine_networks import AttachPlan
from metropolis.metal.services.machine_networks import attach_machine, detach_machine

__all__ = ["AttachPlan", "MachineNetwork", "attach_machine", "detach_machine"]
