# SPDX-License-Identifier: Apache-2.0
"""The schema as a list of steps, each taken once, in order, never changed after a release.

`MIGRATIONS` is the one global order. A room that keeps tables of its own writes its steps into a
file here that is named after it and appends them to the list; a step that a release has carried
is history: change what it made by another step.
"""

from typing import Final

from metropolis.metal.store.migrations.access import ACCESS
from metropolis.metal.store.migrations.entities import ENTITIES
from metropolis.metal.store.migrations.ipam import IPAM
from metropolis.metal.store.migrations.masterdata import MASTERDATA
from metropolis.metal.store.migrations.messages import MESSAGES
from metropolis.metal.store.migrations.step import Migration

# Append only. The version of a database is how many of these it has seen.
MIGRATIONS: Final[tuple[Migration, ...]] = (
    ENTITIES,
    MESSAGES,
    IPAM,
    MASTERDATA,
    ACCESS,
)
SCHEMA_VERSION: Final = len(MIGRATIONS)

__all__ = ["MIGRATIONS", "SCHEMA_VERSION", "Migration"]
