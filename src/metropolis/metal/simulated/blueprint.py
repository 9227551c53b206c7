# SPDX-License-Identifier: Apache-2.0
"""What a simulated machine is made of, and how it describes itself."""

import uuid
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from metropolis.api import metal_boot_pb2 as pb

GIB: Final = 2**30
HAMMER_VERSION: Final = "v0.14.0"
LANES: Final = 4  # of a port; ports are called by their first one
FIRST_PORT: Final = 3  # the ones before have cables in the example
_NAMESPACE: Final = uuid.UUID("6a0c4f4a-54a5-4c6d-9f5b-3b5f6f0f5c11")


@dataclass(frozen=True, slots=True, kw_only=True)
class Blueprint:
    """One machine.

    Attributes:
        leaves: The two switches that it is plugged into.
        port: Its port at both of them.
        bmc_password: What its BMC wants to hear.
    """

    machine_id: str
    partition_id: str
    leaves: tuple[str, str]
    port: str
    bmc_address: str
    bmc_password: str = field(repr=False)

    def registration(self) -> pb.BootServiceRegisterRequest:
        """Return what it says of itself: a machine of 16 cores, 128 GiB and two NVMe disks."""
        serial = self.machine_id[:8].upper()
        return pb.BootServiceRegisterRequest(
            uuid=self.machine_id,
            partition_id=self.partition_id,
            metal_hammer_version=HAMMER_VERSION,
            bios=pb.MachineBIOS(version="2.4", vendor="Metropolis", date="11/20/2026"),
            hardware=pb.MachineHardware(
                memory=128 * GIB,
                cpus=[
                    pb.MachineCPU(vendor="Metropolis", model="Simulated", cores=8, threads=16)
                    for _ in range(2)
                ],
                disks=[
                    pb.MachineBlockDevice(name=f"/dev/nvme{number}n1", size=960 * 10**9)
                    for number in range(2)
                ],
                nics=[self._nic(number, leaf) for number, leaf in enumerate(self.leaves)],
            ),
            ipmi=pb.MachineIPMI(
                address=self.bmc_address,
                mac=self._mac("bmc"),
                user="metal",
                password=self.bmc_password,
                interface="lanplus",
                bmc_version="1.0",
                power_state="ON",
                fru=pb.MachineFRU(
                    board_mfg="Metropolis",
                    board_part_number="SIM-1",
                    board_mfg_serial=f"SB{serial}",
                    chassis_part_serial=f"SC{serial}",
                    product_manufacturer="Metropolis",
                    product_serial=f"SP{serial}",
                ),
            ),
        )

    def _nic(self, number: int, leaf: str) -> pb.MachineNic:
        mac = self._mac(leaf)
        neighbor = pb.MachineNic(name=self.port, identifier=self.port, hostname=leaf)
        return pb.MachineNic(mac=mac, name=f"eth{number}", identifier=mac, neighbors=[neighbor])

    def _mac(self, of: str) -> str:
        digest = sha256(f"{self.machine_id} {of}".encode()).digest()
        return ":".join(f"{byte:02x}" for byte in (0x02, *digest[:5]))


def blueprint(number: int, *, partition_id: str, racks: list[tuple[str, str]]) -> Blueprint:
    """Return the n-th machine of a partition: racks are filled in turn, port by port."""
    slot, rack = divmod(number, len(racks))
    key = f"{partition_id} {number}"
    return Blueprint(
        machine_id=str(uuid.uuid5(_NAMESPACE, key)),
        partition_id=partition_id,
        leaves=racks[rack],
        port=f"Ethernet{(FIRST_PORT + slot) * LANES}",
        bmc_address=f"10.254.{number // 200}.{number % 200 + 1}:623",
        bmc_password=sha256(key.encode()).hexdigest()[:16],
    )
