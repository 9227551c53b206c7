# SPDX-License-Identifier: Apache-2.0
"""A node that loses its power at every durable change of its storage, once at each.

Run as process 1 of a machine: `fragile_node.py ADDRESSES ARGUMENTS…`. On machines with one of
these addresses (comma separated) it writes the name of each place into the file CRASHES of the
storage and ends on the spot; at the next start it comes past that place. Other machines run the
node as it is.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from metropolis.api import common_pb2, private_pb2
from metropolis.api.enrolment_pb2 import EnrolmentRecord
from metropolis.host import Directory, Host
from metropolis.host.linux.machine import linux_host
from metropolis.node.__main__ import main
from metropolis.node.sealing.envelope import decode
from metropolis.node.storage import ENROLMENT_RECORD, LOCAL_ROLES, SEALED_CONFIGURATION

CRASHES = "crashes.txt"


class FragileDirectory:
    """Changes files as its twin does, and cuts the power before the record and after anything."""

    def __init__(self, twin: Directory, crashes: Path) -> None:
        self._twin = twin
        self._crashes = crashes
        self._passed = set(crashes.read_text().splitlines()) if crashes.exists() else set()

    async def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        place = f"writing {path} {_meaning(path, data)}".rstrip()
        await self._twin.write(path, data, mode=mode)
        self._pass(f"after {place}")

    async def overwrite(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        place = f"writing {path} {_meaning(path, data)}".rstrip()
        if path == ENROLMENT_RECORD.path:  # what the step did is done, and not written down
            self._pass(f"before {place}")
        if f"within {place}" not in self._passed:  # half of it is new when the power goes
            await self._twin.overwrite(path, data[: len(data) // 2], mode=mode)
            self._pass(f"within {place}")
        await self._twin.overwrite(path, data, mode=mode)
        self._pass(f"after {place}")

    async def remove(self, path: str) -> None:
        self._pass(f"before removing {path}")
        await self._twin.remove(path)
        self._pass(f"after removing {path}")

    async def remove_tree(self, path: str) -> None:
        await self._twin.remove_tree(path)
        self._pass(f"after removing {path}")

    async def free_bytes(self) -> int:
        return await self._twin.free_bytes()

    async def make_directory(self, path: str, *, mode: int = 0o700) -> None:
        await self._twin.make_directory(path, mode=mode)
        self._pass(f"after making {path}")

    async def read(self, path: str) -> bytes:
        return await self._twin.read(path)

    async def exists(self, path: str) -> bool:
        return await self._twin.exists(path)

    async def list(self, path: str) -> Sequence[str]:
        return await self._twin.list(path)

    def absolute(self, path: str) -> str:
        return self._twin.absolute(path)

    def _pass(self, place: str) -> None:
        if place not in self._passed:
            _cut_power(self._crashes, place)


def _meaning(path: str, data: bytes) -> str:
    """Tell apart what is written to one path at different times."""
    if path == ENROLMENT_RECORD.path:
        record = EnrolmentRecord.FromString(decode(path, data).body)
        return EnrolmentRecord.Step.Name(record.step)
    if path == SEALED_CONFIGURATION.path:
        sealed = private_pb2.SealedConfiguration.FromString(decode(path, data).body)
        return "with the CA" if sealed.cluster_ca else "without the CA"
    if path == LOCAL_ROLES.path:
        is_member = common_pb2.NodeRoles.FromString(data).HasField("consensus_member")
        return "of a member" if is_member else "of no member"
    return ""


def _cut_power(crashes: Path, place: str) -> NoReturn:
    with crashes.open("a") as file:
        file.write(f"{place}\n")
        file.flush()
        os.fsync(file.fileno())
    os._exit(137)  # with process 1, the kernel kills every process of the machine


def fragile_host(*, storage: Path, addresses: Sequence[str], **others: Path) -> Host:
    host = linux_host(
        storage=storage,
        addresses=addresses,
        ephemeral=others["ephemeral"],
        hosts_path=others["hosts_path"],
    )
    if not set(addresses) & set(sys.argv[1].split(",")):
        return host
    return replace(host, storage=FragileDirectory(host.storage, storage / CRASHES))


if __name__ == "__main__":
    sys.exit(main(sys.argv[2:], make_host=fragile_host))
