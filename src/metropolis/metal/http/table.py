# SPDX-License-Identifier: Apache-2.0
"""Every operation of the interface, as the modules of the entities offer them."""

from typing import Any, Final

from metropolis.metal.http import (
    audit,
    firewalls,
    firmware,
    health,
    images,
    ips,
    layouts,
    machine_commands,
    machine_ipmi,
    machine_issues,
    machines,
    networks,
    partitions,
    projects,
    size_image_constraints,
    size_reservations,
    sizes,
    switches,
    tenants,
    tokens,
    users,
    version,
    vpn,
)
from metropolis.metal.http.operation import Operation

OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    *audit.OPERATIONS,
    *firewalls.OPERATIONS,
    *firmware.OPERATIONS,
    *health.OPERATIONS,
    *images.OPERATIONS,
    *ips.OPERATIONS,
    *layouts.OPERATIONS,
    *machine_commands.OPERATIONS,
    *machine_ipmi.OPERATIONS,
    *machine_issues.OPERATIONS,
    *machines.OPERATIONS,
    *networks.OPERATIONS,
    *partitions.OPERATIONS,
    *projects.OPERATIONS,
    *size_image_constraints.OPERATIONS,
    *size_reservations.OPERATIONS,
    *sizes.OPERATIONS,
    *switches.OPERATIONS,
    *tenants.OPERATIONS,
    *tokens.OPERATIONS,
    *users.OPERATIONS,
    *version.OPERATIONS,
    *vpn.OPERATIONS,
)
