# SPDX-License-Identifier: Apache-2.0
"""Machines as namespaces of this kernel."""

import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from metropolis.host import ProcessSpec
from metropolis.lab import network
from metropolis.lab.driver import Cable
from metropolis.lab.leftovers import marker
from metropolis.lab.machine import Wiring
from metropolis.lab.model import Rack
from metropolis.lab.namespace import boot
from metropolis.lab.state import ClusterDirectory
from metropolis.supervision import Context

_PASSED_ON: Final = ("METROPOLIS_", "LANG", "LC_")
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class NamespaceDriver:
    """Makes machines that are processes 1 of their own namespaces."""

    def __init__(self, rack: Rack, directory: ClusterDirectory) -> None:
        self._rack = rack
        self._directory = directory

    def is_prepared(self, number: int) -> bool:
        """Whether a machine has been told what to be; before that it stays off."""
        return (self._directory.storage(number) / "esp/metropolis/parameters.pb").exists()

    def wiring(self, number: int, cable: Callable[[], Cable]) -> Wiring:
        """How to make a machine."""
        return Wiring(spec=lambda start: self._spec(number, start, cable()))

    def services(self) -> Mapping[str, Callable[[Context], Awaitable[None]]]:
        """None: machines are told their addresses."""
        return {}

    def readdressed(self, rack: Rack) -> None:
        """The next start of a machine tells it its address."""
        self._rack = rack

    def _spec(self, number: int, start: int, cable: Cable) -> ProcessSpec:
        environment = {
            **{name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)},
            "PATH": os.environ.get("PATH", _PATH),
            "HOME": "/",
            "TMPDIR": str(boot.TEMPORARY),
            "PYTHONUNBUFFERED": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # the host's files are read-only in there
            **marker(self._directory),
        }
        # fmt: off
        arguments = [
            "--storage", str(boot.STORAGE),
            "--ephemeral", str(boot.EPHEMERAL),
            "--address", self._rack.address(number),
            "--hosts-file", str(boot.HOSTS),
        ]
        # fmt: on
        spec = boot.BootSpec(
            number=number,
            address=self._rack.address(number),
            port=network.port_name(number, start=start),
            part=cable.part,
            is_link_up=cable.is_up,
            host_name=f"{self._rack.name}-{number}",
            storage=str(self._directory.storage(number)),
            hidden=str(self._directory.path),
            argv=(*self._rack.program, *arguments),
            environment=environment,
        )
        argv = (sys.executable, "-m", "metropolis.lab.namespace.boot", spec.to_argument())
        return ProcessSpec(argv=argv, environment=environment)
