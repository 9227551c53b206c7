# SPDX-License-Identifier: Apache-2.0
"""NodeManagement.Reboot: what is asked of which machine, and what becomes of it."""

import asyncio
from typing import cast

import pytest

from metropolis.api.management_pb2 import RebootRequest
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    MetropolisError,
    UnimplementedError,
)
from metropolis.host.linux.clock import LinuxClock
from metropolis.node.management.power import NextBoot, PowerService
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.supervision import LogTree

OWNER = Peer(kind=PeerKind.USER, identity="owner")
NORMAL = RebootRequest.NEXT_BOOT_START_NORMAL
ROLLBACK = RebootRequest.NEXT_BOOT_START_ROLLBACK
SCREEN = RebootRequest.NEXT_BOOT_START_FIRMWARE_UI


class Machine:
    """Remembers what it was told; `refusal` is what its firmware says."""

    def __init__(self, *, uses_tpm: bool = True, refusal: MetropolisError | None = None) -> None:
        self.uses_tpm = uses_tpm
        self.told: list[object] = []
        self._refusal = refusal

    async def choose_next_boot(self, choice: NextBoot) -> None:
        if self._refusal is not None:
            raise self._refusal
        self.told.append(choice)

    def end(self, *, is_power_off: bool, reason: str) -> None:
        self.told.append((is_power_off, reason))


def ask(machine: Machine | None, request: RebootRequest) -> None:
    log = LogTree(clock=LinuxClock()).leveled("root")
    asyncio.run(PowerService(machine, log).reboot(request, OWNER))


@pytest.mark.parametrize(
    ("kind", "next_boot", "told"),
    [
        (
            RebootRequest.TYPE_FIRMWARE,
            NORMAL,
            [NextBoot.NORMAL, (False, "reboot requested by owner")],
        ),
        (
            RebootRequest.TYPE_FIRMWARE,
            ROLLBACK,
            [NextBoot.ROLLBACK, (False, "reboot requested by owner")],
        ),
        (
            RebootRequest.TYPE_FIRMWARE,
            SCREEN,
            [NextBoot.FIRMWARE_UI, (False, "reboot requested by owner")],
        ),
        (
            RebootRequest.TYPE_POWER_OFF,
            NORMAL,
            [NextBoot.NORMAL, (True, "power off requested by owner")],
        ),
    ],
)
def test_the_machine_ends_as_asked(
    kind: RebootRequest.Type.ValueType,
    next_boot: RebootRequest.NextBoot.ValueType,
    told: list[object],
) -> None:
    machine = Machine()
    ask(machine, RebootRequest(type=kind, next_boot=next_boot))
    assert machine.told == told


@pytest.mark.parametrize(
    ("machine", "request_", "error", "words"),
    [
        (
            None,
            RebootRequest(type=RebootRequest.TYPE_FIRMWARE),
            UnimplementedError,
            "boots no system image",
        ),
        (Machine(), RebootRequest(), UnimplementedError, "type of the reboot is not set"),
        (
            Machine(),
            RebootRequest(type=RebootRequest.TYPE_KEXEC),
            FailedPreconditionError,
            "with a TPM in use",
        ),
        (
            Machine(uses_tpm=False),
            RebootRequest(type=RebootRequest.TYPE_KEXEC),
            UnimplementedError,
            "kexec is not in",
        ),
        (
            Machine(),
            RebootRequest(
                type=RebootRequest.TYPE_FIRMWARE,
                next_boot=cast("RebootRequest.NextBoot.ValueType", 9),
            ),
            InvalidArgumentError,
            "next_boot 9",
        ),
        (
            Machine(refusal=FailedPreconditionError("slot B holds no system")),
            RebootRequest(type=RebootRequest.TYPE_FIRMWARE, next_boot=ROLLBACK),
            FailedPreconditionError,
            "slot B holds no system",
        ),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason_and_nothing_ends(
    machine: Machine | None, request_: RebootRequest, error: type[MetropolisError], words: str
) -> None:
    with pytest.raises(error, match=words):
        ask(machine, request_)
    assert machine is None or not machine.told
