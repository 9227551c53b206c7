# SPDX-License-Identifier: Apache-2.0
"""How a hypervisor gives a machine that waits its node parameters: a port of virtio-serial.

The port's name says that somebody will. What is said once somebody is at its other end:

    machine     "waiting for node parameters", a line, once a second
    hypervisor  length in bytes (4 bytes, little-endian), NodeParameters
    machine     "taken", a line: they are on the disk; or "refused: …", and it waits again
"""

from typing import Final

PORT_NAME: Final = "dev.monogon.metropolis.parameters"
LENGTH_BYTES: Final = 4
WAITING: Final = b"waiting for node parameters\n"
TAKEN: Final = b"taken\n"
REFUSED: Final = b"refused: "
