# SPDX-License-Identifier: Apache-2.0
"""NodeDebugService: kernel traces, and truthful refusals of what needs Kubernetes."""

import re
from collections.abc import Sequence
from typing import Final, NoReturn

from metropolis.api import debug_pb2 as wire
from metropolis.base.errors import AbortedError, InvalidArgumentError, UnimplementedError
from metropolis.host import KernelTracer
from metropolis.rpc.channel import ServerStream
from metropolis.rpc.peer import Peer
from metropolis.supervision import Logger

FUNCTIONS_MAX: Final = 64
_NAME: Final = re.compile(r"[a-z0-9_]{1,128}")

TraceStream = ServerStream[wire.TraceRequest, wire.TraceEvent]
LoadStream = ServerStream[wire.ImagePart, wire.LoadImageResponse]


class DebugService:
    """Answers the owner."""

    def __init__(self, tracer: KernelTracer, log: Logger) -> None:
        self._tracer = tracer
        self._log = log
        self._is_tracing = False

    async def trace(self, stream: TraceStream) -> None:
        """Stream a trace until the caller leaves; one at a time."""
        request = await stream.receive()
        assert request is not None
        names = (request.tracer, *request.function_filter, *request.graph_function_filter)
        _check_names(names)
        if self._is_tracing:
            raise AbortedError(
                "somebody traces already: the kernel has one tracer", remedy="Wait for its end."
            )
        self._is_tracing = True
        try:
            self._log.warning("Tracing the kernel (%s): the machine is slower", request.tracer)
            async with self._tracer.trace(
                request.tracer,
                functions=list(request.function_filter),
                graph_functions=list(request.graph_function_filter),
            ) as lines:
                async for line in lines:
                    await stream.send(wire.TraceEvent(raw_line=line))
        finally:
            self._is_tracing = False

    async def load_image(self, _stream: LoadStream) -> NoReturn:
        """Refuse: nothing here runs containers."""
        raise UnimplementedError(
            "no container image can be loaded: there is no Kubernetes in this build"
        )


async def get_debug_kubeconfig(_request: wire.GetDebugKubeconfigRequest, _peer: Peer) -> NoReturn:
    """Refuse: there is no cluster to make credentials for."""
    raise UnimplementedError("no kubeconfig can be made: there is no Kubernetes in this build")


def _check_names(names: Sequence[str]) -> None:
    if len(names) > FUNCTIONS_MAX:
        raise InvalidArgumentError(
            f"more than {FUNCTIONS_MAX} names", remedy="Trace what calls them instead."
        )
    for name in names:
        if not _NAME.fullmatch(name):
            raise InvalidArgumentError(
                f"{name[:64]!r} is no name of a tracer or function",
                remedy="Names are of a-z, 0-9 and _.",
            )
