# SPDX-License-Identifier: Apache-2.0
"""Every kind of entity there is: what is indexed at the start, and checked in a backup."""

from typing import Any, Final

from metropolis.metal.access.tokens import TOKENS
from metropolis.metal.masterdata.model import PROJECT_MEMBERS, PROJECTS, TENANT_MEMBERS, TENANTS
from metropolis.metal.messages.subscribers import SUBSCRIPTIONS
from metropolis.metal.model.event import EVENT_HISTORIES, EVENTS
from metropolis.metal.model.image import IMAGES
from metropolis.metal.model.ip import IPS
from metropolis.metal.model.ipmi import CONSOLE_PASSWORDS, IPMIS
from metropolis.metal.model.layout import LAYOUTS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.model.partition import PARTITIONS
from metropolis.metal.model.remembered_allocation import REMEMBERED_ALLOCATIONS
from metropolis.metal.model.reservation import RESERVATIONS
from metropolis.metal.model.size import SIZES
from metropolis.metal.model.size_image_constraint import SIZE_IMAGE_CONSTRAINTS
from metropolis.metal.model.switch import SWITCH_STATUSES, SWITCHES
from metropolis.metal.store import Kind

KINDS: Final[tuple[Kind[Any], ...]] = (
    CONSOLE_PASSWORDS,
    EVENTS,
    EVENT_HISTORIES,
    IMAGES,
    IPMIS,
    IPS,
    LAYOUTS,
    MACHINES,
    NETWORKS,
    PARTITIONS,
    PROJECTS,
    PROJECT_MEMBERS,
    REMEMBERED_ALLOCATIONS,
    RESERVATIONS,
    SIZES,
    SIZE_IMAGE_CONSTRAINTS,
    SUBSCRIPTIONS,
    SWITCHES,
    SWITCH_STATUSES,
    TENANTS,
    TENANT_MEMBERS,
    TOKENS,
)
