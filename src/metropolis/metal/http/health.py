# SPDX-License-Identifier: Apache-2.0
"""`GET /v1/health`: whether the parts answer; open to everybody, 500 when one does not."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from metropolis.base.errors import InvalidArgumentError, MetropolisError
from metropolis.metal.backup.schedule import is_failing
from metropolis.metal.http.operation import Call, Nothing, Operation, Reply, Role
from metropolis.metal.site import Site
from metropolis.metal.store import Reader

HEALTHY: Final = "healthy"
DEGRADED: Final = "degraded"
UNHEALTHY: Final = "unhealthy"
PATIENCE_S: Final = 5.0


class HealthResponse(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How one service is, and how those are that it is made of."""

    status: str
    message: str
    services: Mapping[str, "HealthResponse"] = msgspec.field(
        default_factory=dict[str, "HealthResponse"]
    )


class HealthQuery(msgspec.Struct, frozen=True, kw_only=True):
    """Which service to look at; all of them when empty."""

    service: str | None = None


async def _database(site: Site) -> str:
    async def look(reader: Reader) -> int:
        return await reader.revision()

    await site.store.read(look)
    trouble = site.store.trouble
    return f"changes were not kept in the last minutes: {trouble}" if trouble else ""


async def _backup(site: Site) -> str:
    if not await site.store.read(lambda reader: is_failing(reader, site.clock.wall())):
        return ""
    return "the last scheduled backup failed; the log of the replica that tried says why"


# The three services that clients know are one program here; each is as well as its database.
# Each returns what is wrong with it although it serves, and raises when it does not serve.
SERVICES: Final[Mapping[str, Callable[[Site], Awaitable[str]]]] = {
    "backup": _backup,
    "database": _database,
    "ipam": _database,
    "masterdata-api": _database,
}


async def _judge(site: Site, service: str) -> HealthResponse:
    try:
        async with asyncio.timeout(PATIENCE_S):
            complaint = await SERVICES[service](site)
    except TimeoutError:
        return HealthResponse(status=UNHEALTHY, message=f"no answer within {PATIENCE_S:.0f} s")
    except MetropolisError as error:
        return HealthResponse(status=UNHEALTHY, message=str(error))
    return HealthResponse(status=DEGRADED if complaint else HEALTHY, message=complaint)


async def _health(call: Call[Nothing, HealthQuery]) -> Reply:
    wanted = call.query.service
    if wanted and wanted not in SERVICES:
        raise InvalidArgumentError(
            f"there is no service {wanted[:64]!r}", remedy=f"Ask for one of {', '.join(SERVICES)}."
        )
    names = [wanted] if wanted else list(SERVICES)
    async with asyncio.TaskGroup() as group:
        judged = {name: group.create_task(_judge(call.site, name)) for name in names}
    services = {name: task.result() for name, task in judged.items()}
    ill = [name for name, each in services.items() if each.status != HEALTHY]
    is_down = any(each.status == UNHEALTHY for each in services.values())
    answer = HealthResponse(
        status=UNHEALTHY if is_down else DEGRADED if ill else HEALTHY,
        message=f"not well: {', '.join(ill)}" if ill else "",
        services=services,
    )
    return Reply(value=answer, status=500 if is_down else 200)


OPERATIONS: Final = (
    Operation[Nothing, HealthQuery](
        id="health",
        method="GET",
        path="/v1/health",
        role=Role.NONE,
        summary="perform a healthcheck",
        handle=_health,
        query=HealthQuery,
        answer=HealthResponse,
        errors=(500,),
        tag="health",
    ),
)
