# SPDX-License-Identifier: Apache-2.0
"""`metroctl cluster get` and `metroctl cluster ticket`."""

import base64
import sys

import click

from metropolis.api.management_pb2 import GetClusterInfoResponse
from metropolis.ctl import configuration, decommission, files, nodes
from metropolis.ctl.command_line import command
from metropolis.ctl.connection import Cluster
from metropolis.ctl.documents import document_of
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import emit, quoted, say
from metropolis.ctl.session import run
from metropolis.pki.certificates import fingerprint


@command("get")
@click.pass_context
def cluster_get(ctx: click.Context) -> None:
    """Show domain, policies, CA and directory.

    The directory lists nodes of the control plane and their addresses.
    """
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> GetClusterInfoResponse:
        return await nodes.cluster_info(cluster.channel, timeout_s=cluster.timeout_s)

    info = run(settings, act)
    emit(
        settings,
        data=lambda: {
            **document_of(info),
            "ca_certificate_fingerprint": fingerprint(info.ca_certificate),
        },
        text=lambda: _text(info),
    )


def _text(info: GetClusterInfoResponse) -> str:
    config = info.cluster_configuration
    rules = configuration.find("kubernetes.node_labels_to_synchronize").read(config)
    lines = [
        ("Cluster domain", config.cluster_domain or "unknown"),
        ("CA fingerprint", fingerprint(info.ca_certificate)),
        ("TPM mode", configuration.tpm_mode_text(config)),
        ("Storage policy", configuration.storage_policy_text(config)),
        ("Labels for Kubernetes", quoted(rules) or "none"),
    ]
    for node in info.cluster_directory.nodes:
        addresses = ", ".join(address.host for address in node.addresses) or "no address"
        lines.append(("Directory", f"{node.id} {addresses}"))
    width = max(len(name) for name, _ in lines) + 3
    return "".join(f"{name:<{width}}{value}\n" for name, value in lines)


@command("ticket")
@click.argument("action", type=click.Choice(["rotate"]), required=False)
@click.option("--hex", "in_hex", is_flag=True, help="Hexadecimal instead of base64.")
@click.pass_context
def cluster_ticket(ctx: click.Context, action: str | None, *, in_hex: bool) -> None:
    """Print or replace the ticket that machines register with, in base64.

    Whoever holds it may ask to become a node; each must still be approved. With `rotate`, a new
    one is made and printed, and the old one is refused at once. Machines that have registered
    already can still be approved.
    """
    settings = settings_of(ctx)

    async def act(cluster: Cluster) -> bytes:
        if action == "rotate":
            return await decommission.rotate_ticket(cluster.channel, timeout_s=cluster.timeout_s)
        return await nodes.register_ticket(cluster.channel, timeout_s=cluster.timeout_s)

    ticket = run(settings, act)
    if action == "rotate":
        say("The old ticket admits nobody any more; this is the new one.")
    text = ticket.hex() if in_hex else base64.b64encode(ticket).decode("ascii")
    emit(settings, data={"ticket": text}, text=f"{text}\n", mode=files.PRIVATE)
    if settings.output_file is None and sys.stdout.isatty():
        say("This is a secret: clear it from the screen, and from the scrollback.")
