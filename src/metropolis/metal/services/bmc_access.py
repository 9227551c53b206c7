# SPDX-License-Identifier: Apache-2.0
"""How to log in at the BMC of a machine: for its partition's BMC agent, and nobody else."""

from typing import Final

import msgspec

from metropolis.metal.model.ipmi import IPMIS, MachineIPMI
from metropolis.metal.store import Reader

SUPERUSER: Final = "root"


async def bmc_access(
    reader: Reader, machine_id: str, *, superuser_password: str
) -> MachineIPMI | None:
    """Return a BMC with its credentials; None when none was ever heard of.

    Args:
        superuser_password: Of every BMC that has no user of ours yet; empty when there is none.
    """
    found = await reader.lookup(IPMIS, machine_id)
    if found is None or not found.value.address:
        return None
    access = MachineIPMI.of(found.value, with_secrets=True)
    if not access.user and superuser_password:
        return msgspec.structs.replace(access, user=SUPERUSER, password=superuser_password)
    return access
