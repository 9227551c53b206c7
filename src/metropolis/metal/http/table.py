# SPDX-License-Identifier: Apache-2.0
"""Every operation of the interface, as the modules of the entities offer them."""

from typing import Any, Final

from metropolis.metal.http import (
    health,
    images,
    layouts,
    partitions,
    projects,
    size_image_constraints,
    size_reservations,
    sizes,
    tenants,
    version,
)
from metropolis.metal.http.operation import Operation

OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    *health.OPERATIONS,
    *images.OPERATIONS,
    *layouts.OPERATIONS,
    *partitions.OPERATIONS,
    *projects.OPERATIONS,
    *size_image_constraints.OPERATIONS,
    *size_reservations.OPERATIONS,
    *sizes.OPERATIONS,
    *tenants.OPERATIONS,
    *version.OPERATIONS,
)
