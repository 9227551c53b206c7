# SPDX-License-Identifier: Apache-2.0
"""The rack's DHCP and name server: dnsmasq, for the rack's network alone.

Every machine gets the address that the rack planned for its network card. Names do not exist in
there, and it says so at once.
"""

import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from metropolis.host import Processes, ProcessSpec
from metropolis.lab import network
from metropolis.lab.model import NETWORK, OPERATOR_ADDRESS, Rack
from metropolis.lab.state import ClusterDirectory
from metropolis.supervision import Context

PROGRAM: Final = "dnsmasq"
LEASE_S: Final = 600
_HOSTS: Final = "dhcp-hosts"
_LEASES: Final = "dhcp-leases"


def arguments(directory: Path) -> Sequence[str]:
    """Spell the command. Pure."""
    # fmt: off
    return (
        PROGRAM,
        "--no-daemon",  # and so without another user, or a process id file
        "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--no-poll",
        "--bind-dynamic", f"--interface={network.bridge_name(0)[:-1]}*",
        "--address=/#/",
        f"--dhcp-range={NETWORK.network_address},static,{NETWORK.netmask},{LEASE_S}",
        f"--dhcp-hostsfile={directory / _HOSTS}", f"--dhcp-leasefile={directory / _LEASES}",
        f"--dhcp-option=option:dns-server,{OPERATOR_ADDRESS}",
        f"--dhcp-option=option:router,{OPERATOR_ADDRESS}",
        "--dhcp-authoritative", "--no-ping",
    )
    # fmt: on


def hosts(rack: Rack) -> str:
    """Which card gets which address, as dnsmasq reads it. Pure."""
    return "".join(
        f"{network.mac(number)},{rack.address(number)},{LEASE_S}\n" for number in rack.numbers
    )


class DhcpServer:
    """The server as a runnable. A new rack is taken notice of at once."""

    def __init__(
        self,
        rack: Rack,
        directory: ClusterDirectory,
        processes: Processes,
        *,
        environment: Mapping[str, str],
    ) -> None:
        self._directory = directory
        self._processes = processes
        self._environment = environment
        self._pid: int | None = None
        self.serve(rack)

    def serve(self, rack: Rack) -> None:
        """Give out these addresses from now on."""
        text = hosts(rack)
        (self._directory.path / _HOSTS).write_text(text, encoding="ascii")
        if self._pid is not None:
            os.kill(self._pid, signal.SIGHUP)

    async def run(self, ctx: Context) -> None:
        """Serve until cancelled; the tree starts it again when it ends."""
        process = await self._processes.spawn(
            ProcessSpec(argv=arguments(self._directory.path), environment=self._environment)
        )
        self._pid = process.pid
        ctx.healthy()
        try:
            while (item := await process.receive_line()) is not None:
                ctx.log.info("%s", item[1].decode("utf-8", "replace"))
        finally:
            self._pid = None
            process.kill()
            await process.wait()
        raise RuntimeError("dnsmasq ended")
