# SPDX-License-Identifier: Apache-2.0
"""Ways to another machine that are no protocol of ours, and why there was none."""

import os
import socket
import ssl
from typing import Any, Final

from metropolis.base.errors import MetropolisError
from metropolis.rpc.status import NotReachedError
from metropolis.rpc.transport import Endpoint

NETWORK_REMEDY: Final = "Check that the machine is up and that the network leads there."


async def dial_socks(proxy: str, endpoint: Endpoint) -> socket.socket:
    """Connect through a SOCKS5 proxy, given as `host:port`.

    Raises:
        OSError: the proxy refused, or is not reachable.
    """
    # Imported here: only the command line dials through a proxy.
    from python_socks import ProxyError  # noqa: PLC0415  # only who uses a proxy loads it
    from python_socks.async_.asyncio import Proxy  # noqa: PLC0415  # only who uses a proxy loads it

    try:
        connected: socket.socket = await Proxy.from_url(f"socks5://{proxy}").connect(
            dest_host=endpoint.host, dest_port=endpoint.tcp_port
        )
    except ProxyError as error:
        raise OSError(f"the proxy {proxy} refused: {error}") from error
    except OSError as error:
        raise OSError(f"the proxy {proxy} is not reachable: {error}") from error
    return connected


def not_reached(name: str, error: OSError) -> MetropolisError:
    """Explain why a connection does not stand. A refusal of ours is told as it is."""
    cause: Any = error.__cause__
    if isinstance(cause, MetropolisError):
        refusal = type(cause)(f"{name}: {cause}", remedy=cause.remedy)
        return refusal if not isinstance(cause, NotReachedError) else cause
    if error.errno is not None and not isinstance(error, ssl.SSLError):
        reason = os.strerror(error.errno)  # asyncio puts a sentence of its own into `strerror`
    else:
        reason = error.strerror or str(error) or type(error).__name__
    return NotReachedError(f"cannot reach {name}: {reason}", remedy=NETWORK_REMEDY)
