# SPDX-License-Identifier: Apache-2.0
"""Every operation of the interface, as the modules of the entities offer them."""

from typing import Any, Final

from metropolis.metal.http import (
    audit,
    health,
    images,
    ips,
    layouts,
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
    *health.OPERATIONS,
    *images.OPERATIONS,
    *ips.OPERATIONS,
    *layouts.OPERATIONS,
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
