# SPDX-License-Identifier: Apache-2.0
"""How to log in at a BMC: put into a message when it is delivered, and never stored with it."""

from typing import Any, Final

import msgspec

from metropolis.metal.model.ipmi import IPMIS, NEVER, Ipmi, MachineIPMI
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.store import Reader

SUPERUSER: Final = "root"


async def with_credentials(
    reader: Reader, payload: bytes, *, partition_id: str, superuser_password: str
) -> bytes:
    """Return a message as the BMC agent of a partition gets it.

    A machine that is not in the partition any more is that agent's affair no longer: then the
    message stays as it is.

    Args:
        superuser_password: For a BMC that nobody has reported a user of; empty when there is none.
    """
    event: dict[str, Any] = msgspec.json.decode(payload)
    command = event.get("cmd")
    if not command:
        return payload
    machine = await reader.lookup(MACHINES, command["target"])
    if machine is None or machine.value.partition_id != partition_id:
        return payload
    stored = await reader.lookup(IPMIS, machine.id)
    bmc = Ipmi(id=machine.id, last_updated=NEVER) if stored is None else stored.value
    if not bmc.user and superuser_password:
        bmc = msgspec.structs.replace(bmc, user=SUPERUSER, password=superuser_password)
    command["ipmi"] = MachineIPMI.of(bmc, with_secrets=True)
    return msgspec.json.encode(event)
