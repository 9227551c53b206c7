# SPDX-License-Identifier: Apache-2.0
"""NodeManagement.Reboot on virtual machines: a node restarts in order and is back."""

import asyncio
import time

import pytest

from e2e.vm.machines import Trio
from metropolis.api.management_pb2 import RebootRequest
from metropolis.api.rpc_management import NodeManagement
from metropolis.base.errors import (
    FailedPreconditionError,
    MetropolisError,
    UnimplementedError,
)

pytestmark = pytest.mark.timeout(600)  # the first test waits for the image and the launch

BACK_S = 60.0  # a reboot, to a heartbeat, where nothing but this runs
PATIENCE = 2.0  # tests share the computer
NODE = 2


async def ask(trio: Trio, request: RebootRequest) -> None:
    node = (await trio.nodes())[NODE]
    async with trio.connected() as connection, connection.dial_node(node) as channel:
        await channel.call(NodeManagement.REBOOT, request, timeout_s=20)


def test_a_node_that_is_told_to_reboot_ends_in_order_and_joins_again(trio: Trio) -> None:
    async def scenario() -> None:
        moment = time.time()
        console = trio.console(NODE)
        await ask(trio, RebootRequest(type=RebootRequest.TYPE_FIRMWARE))
        await console.wait_for("This machine starts again: reboot requested by owner")
        await console.wait_for('starting Boot.* "Metropolis A"')
        await trio.heartbeat_after(NODE, moment + 1, timeout_s=PATIENCE * BACK_S)
        await trio.bring_up()

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("request_", "error", "words"),
    [
        (RebootRequest(), UnimplementedError, "type of the reboot is not set"),
        (
            RebootRequest(type=RebootRequest.TYPE_KEXEC),
            FailedPreconditionError,
            "kexec is refused with a TPM in use",
        ),
        (
            RebootRequest(
                type=RebootRequest.TYPE_FIRMWARE,
                next_boot=RebootRequest.NEXT_BOOT_START_ROLLBACK,
            ),
            FailedPreconditionError,
            "slot B holds no system to go back to",
        ),
    ],
)
def test_what_a_machine_cannot_do_is_refused_and_it_stays_on(
    trio: Trio, request_: RebootRequest, error: type[MetropolisError], words: str
) -> None:
    with pytest.raises(error, match=words):
        asyncio.run(ask(trio, request_))
    assert asyncio.run(trio.cluster.status())[NODE].power == "on"
