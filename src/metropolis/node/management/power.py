# SPDX-License-Identifier: Apache-2.0
"""NodeManagement.Reboot and UpdateNode: they belong to nodes that boot a system image."""

import enum
from typing import NoReturn, Protocol

from metropolis.api import management_pb2
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    UnimplementedError,
)
from metropolis.rpc.peer import Peer
from metropolis.supervision import Logger

REASON = "this node runs in namespaces of another computer and boots no system image"


class NextBoot(enum.Enum):
    """What a machine starts next time."""

    NORMAL = "the confirmed system"
    ROLLBACK = "the other system"
    FIRMWARE_UI = "the firmware's set-up screen"


class MachinePower(Protocol):
    """What ends a machine."""

    @property
    def uses_tpm(self) -> bool:
        """Whether keys of this node are sealed to the state that the firmware measured."""
        ...

    async def choose_next_boot(self, choice: NextBoot) -> None:
        """Have the firmware start this next time.

        Raises:
            FailedPreconditionError: there is nothing to roll back to, or the firmware refuses.
            UnimplementedError: the firmware cannot do it.
        """
        ...

    def end(self, *, is_power_off: bool, reason: str) -> None:
        """Stop everything in order, and then restart or power off; returns at once."""
        ...


class PowerService:
    """Judges what is asked and passes it on; None is a node that is no machine."""

    def __init__(self, power: MachinePower | None, log: Logger) -> None:
        self._power = power
        self._log = log

    async def reboot(
        self, request: management_pb2.RebootRequest, peer: Peer
    ) -> management_pb2.RebootResponse:
        """End this machine; the answer comes first.

        Raises:
            UnimplementedError: the type is not set, or not in this build.
            FailedPreconditionError: the machine is in no state for it.
            InvalidArgumentError: type and next boot do not go together.
        """
        kinds = management_pb2.RebootRequest
        power = self._power
        if power is None:
            raise UnimplementedError(
                f"cannot reboot: {REASON}", remedy="Restart it with `metropolis stop` and `start`."
            )
        if request.type == kinds.TYPE_KEXEC:
            raise _no_kexec(uses_tpm=power.uses_tpm)
        if request.type not in {kinds.TYPE_FIRMWARE, kinds.TYPE_POWER_OFF}:
            raise UnimplementedError(
                "the type of the reboot is not set to a known one",
                remedy="Set type to TYPE_FIRMWARE or TYPE_POWER_OFF.",
            )
        is_power_off = request.type == kinds.TYPE_POWER_OFF
        choice = _next_boot(request.next_boot)
        await power.choose_next_boot(choice)
        who = peer.identity or "a user"
        verb = "Power off" if is_power_off else "Reboot"
        self._log.warning("%s requested by %s, then %s", verb, who, choice.value)
        power.end(is_power_off=is_power_off, reason=f"{verb.lower()} requested by {who}")
        return management_pb2.RebootResponse()


def _next_boot(number: management_pb2.RebootRequest.NextBoot.ValueType) -> NextBoot:
    kinds = management_pb2.RebootRequest
    choices = {
        kinds.NEXT_BOOT_START_NORMAL: NextBoot.NORMAL,
        kinds.NEXT_BOOT_START_ROLLBACK: NextBoot.ROLLBACK,
        kinds.NEXT_BOOT_START_FIRMWARE_UI: NextBoot.FIRMWARE_UI,
    }
    if number not in choices:
        raise InvalidArgumentError(
            f"next_boot {number} is not known", remedy="Use a newer node, or another next_boot."
        )
    return choices[number]


def _no_kexec(*, uses_tpm: bool) -> FailedPreconditionError | UnimplementedError:
    remedy = "Reboot through the firmware: leave --kexec out."
    if uses_tpm:
        return FailedPreconditionError(
            "kexec is refused with a TPM in use: its registers would describe the old kernel, and "
            "the new one could not open this node's disk",
            remedy=remedy,
        )
    return UnimplementedError("kexec is not in this build", remedy=remedy)


async def update_node(_request: management_pb2.UpdateNodeRequest, _peer: Peer) -> NoReturn:
    """Refuse, with the reason."""
    raise UnimplementedError(
        "cannot update: updates of system images are not in this build",
        remedy="Install the machine again with the new image, or restart the lab's checkout.",
    )
