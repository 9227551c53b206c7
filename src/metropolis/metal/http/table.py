# SPDX-License-Identifier: Apache-2.0
"""Every operation of the interface, as the modules of the entities offer them."""

from typing import Any, Final

from metropolis.metal.http import health, projects, tenants, version
from metropolis.metal.http.operation import Operation

OPERATIONS: Final[tuple[Operation[Any, Any], ...]] = (
    *health.OPERATIONS,
    *projects.OPERATIONS,
    *tenants.OPERATIONS,
    *version.OPERATIONS,
)
