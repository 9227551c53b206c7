# SPDX-License-Identifier: Apache-2.0
"""`metroctl node reboot` and `metroctl node poweroff`."""

import click

from metropolis.api.management_pb2 import RebootRequest
from metropolis.api.rpc_management import NodeManagement
from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl import nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.completions import complete_nodes
from metropolis.ctl.connection import Cluster
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.ctl.session import run
from metropolis.ctl.settings import Settings


@command("reboot")
@click.argument("node_id", shell_complete=complete_nodes)
@click.option("--kexec", is_flag=True, help="Straight into the next kernel, not the firmware.")
@click.option("--firmware", is_flag=True, help="Into the firmware's set-up screen.")
@click.option("--rollback", is_flag=True, help="Into the previous system.")
@click.pass_context
def reboot(
    ctx: click.Context, node_id: str, *, kexec: bool, firmware: bool, rollback: bool
) -> None:
    """Reboot a node."""
    if firmware and (kexec or rollback):
        other = "--kexec" if kexec else "--rollback"
        raise InvalidArgumentError(
            f"--firmware and {other} exclude each other", remedy="Leave one of them out."
        )
    request = RebootRequest(
        type=RebootRequest.TYPE_KEXEC if kexec else RebootRequest.TYPE_FIRMWARE,
        next_boot=RebootRequest.NEXT_BOOT_START_NORMAL,
    )
    if firmware:
        request.next_boot = RebootRequest.NEXT_BOOT_START_FIRMWARE_UI
    elif rollback:
        request.next_boot = RebootRequest.NEXT_BOOT_START_ROLLBACK
    _send(settings_of(ctx), node_id, request, "rebooted")


@command("poweroff")
@click.argument("node_id", shell_complete=complete_nodes)
@click.pass_context
def poweroff(ctx: click.Context, node_id: str) -> None:
    """Power a node off."""
    request = RebootRequest(type=RebootRequest.TYPE_POWER_OFF)
    _send(settings_of(ctx), node_id, request, "powered off")


def _send(settings: Settings, node_id: str, request: RebootRequest, verb: str) -> None:
    async def act(cluster: Cluster) -> None:
        node = await nodes.find_node(cluster.channel, node_id, timeout_s=cluster.timeout_s)
        async with cluster.dial_node(node) as channel:
            await channel.call(NodeManagement.REBOOT, request, timeout_s=cluster.timeout_s)
        say(f"Node {node.id} is being {verb}")

    run(settings, act)
