# SPDX-License-Identifier: Apache-2.0
"""Which steps a database still needs."""

from collections.abc import Sequence

from metropolis.base.errors import FailedPreconditionError
from metropolis.metal.store.migrations import Migration


def check_version(version: int, migrations: Sequence[Migration]) -> None:
    """Refuse a database that a newer release has written.

    Raises:
        FailedPreconditionError: its schema is newer than any we know.
    """
    if version > len(migrations):
        raise FailedPreconditionError(
            f"the database has schema version {version}, this program knows {len(migrations)}",
            remedy="Use the release that wrote it or a newer one, or restore an older backup"
            " into an empty database.",
        )


def pending(version: int, migrations: Sequence[Migration]) -> Sequence[Migration]:
    """Return the steps that a database of this version has not seen."""
    return migrations[version:]
