# SPDX-License-Identifier: Apache-2.0
"""The network of a machine: chooses a configuration, and runs what it takes."""

from functools import partial
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api import configuration_pb2, net_pb2
from metropolis.base.errors import DataLossError, InvalidArgumentError, MetropolisError
from metropolis.node.network.announce import announce
from metropolis.node.network.automatic import automatic
from metropolis.node.network.configuration import NetworkConfiguration
from metropolis.node.network.configuration_check import read_configuration
from metropolis.node.network.edges import NetworkEdges
from metropolis.node.network.kernel_settings import EARLY, LATE, write_settings
from metropolis.node.network.publication import resolver
from metropolis.node.network.static import static
from metropolis.node.storage import NETWORK_CONFIGURATION, PARAMETERS
from metropolis.supervision import Context

_REMEDY: Final = "Give the node a correct network configuration; it uses {} until then."


async def network(ctx: Context, *, edges: NetworkEdges) -> None:
    """Give the machine a network."""
    write_settings(EARLY, settings=edges.settings, log=ctx.log)
    configuration = await choose_configuration(ctx, edges)
    ctx.run("resolver", partial(resolver, edges=edges))
    ctx.run("announce", partial(announce, edges=edges))
    if configuration is None:
        ctx.run("automatic", partial(automatic, edges=edges))
    else:
        ctx.run("static", partial(static, edges=edges, configuration=configuration))
    ctx.healthy()
    await edges.status.wait_for(lambda status: status is not None)
    write_settings(LATE, settings=edges.settings, log=ctx.log)
    await ctx.wait_cancelled()


async def choose_configuration(ctx: Context, edges: NetworkEdges) -> NetworkConfiguration | None:
    """Return what to configure; None for DHCP everywhere.

    The node parameters' configuration wins and is saved; one that cannot work is neither used nor
    saved. A machine is never without any network because of what a file says.
    """
    given = await _given(ctx, edges)
    if given is not None:
        await edges.storage.write(NETWORK_CONFIGURATION, given[0])
        return given[1]
    try:
        data = await edges.storage.read(NETWORK_CONFIGURATION)
        if data is None:
            return None
        return read_configuration(net_pb2.Net.FromString(data))
    except (InvalidArgumentError, DataLossError, DecodeError) as error:
        ctx.log.error("The saved %s. %s", _told(error), _REMEDY.format("DHCP"))  # noqa: TRY400  # no fault of ours
        return None


async def _given(ctx: Context, edges: NetworkEdges) -> tuple[bytes, NetworkConfiguration] | None:
    """Return the configuration in the node parameters, as bytes and as values, if it is good."""
    try:
        data = await edges.storage.read(PARAMETERS)
        parameters = configuration_pb2.NodeParameters.FromString(data or b"")
    except (MetropolisError, DecodeError):
        return None  # the enrolment tells
    if not parameters.HasField("network_config"):
        return None
    net = parameters.network_config
    try:
        return net.SerializeToString(deterministic=True), read_configuration(net)
    except InvalidArgumentError as error:
        ctx.log.error("The given %s. %s", _told(error), _REMEDY.format("what was saved, or DHCP"))  # noqa: TRY400  # no fault of ours
        return None


def _told(error: Exception) -> str:
    if isinstance(error, DecodeError):
        return "network configuration cannot be decoded"
    return str(error)
