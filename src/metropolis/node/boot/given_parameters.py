# SPDX-License-Identifier: Apache-2.0
"""Node parameters that come from the hypervisor, by QEMU's fw_cfg, instead of the ESP.

Only a machine that is part of no cluster listens: nobody measures what comes this way.
"""

from pathlib import Path
from typing import Final

from metropolis.node.storage import (
    ENROLMENT_RECORD,
    PARAMETERS,
    SEALED_CONFIGURATION,
    NodeStorage,
)

FW_CFG: Final = Path(
    "/sys/firmware/qemu_fw_cfg/by_name/opt/dev.monogon.metropolis/parameters.pb/raw"
)
FW_CFG_PLACES: Final = (
    FW_CFG,
    Path("/sys/firmware/qemu_fw_cfg/by_name/dev.monogon.metropolis/parameters.pb/raw"),
)


async def take_given_parameters(
    storage: NodeStorage, *, places: tuple[Path, ...] = FW_CFG_PLACES
) -> str:
    """Put given parameters where the enrolment finds them; return what was done, if anything."""
    data = next((read for place in places if (read := _read(place)) is not None), None)
    if data is None:
        return ""
    for place in (SEALED_CONFIGURATION, ENROLMENT_RECORD):
        if await storage.directory.exists(place.path):
            return "Node parameters of the hypervisor are ignored: this machine has its own"
    if await storage.read(PARAMETERS) == data:
        return ""
    await storage.write(PARAMETERS, data)
    return "Node parameters taken from the hypervisor"


def _read(place: Path) -> bytes | None:
    try:
        return place.read_bytes()
    except OSError:
        return None
