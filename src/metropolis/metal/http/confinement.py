# SPDX-License-Identifier: Apache-2.0
"""What a caller that is confined to projects may call, and what it sees of the answers.

Whether an entity may be changed is decided by its handler, in the transaction that changes it.
This is the wall around that: an operation that nobody has judged is refused, and an answer that
speaks of another project does not leave, whatever the handler did.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, cast

import msgspec

from metropolis.base.errors import NotFoundError, PermissionDeniedError
from metropolis.metal.access.caller import Caller
from metropolis.metal.http.operation import Operation, Reply
from metropolis.metal.model.ip import IPS
from metropolis.metal.model.machine import MACHINES
from metropolis.metal.model.network import NETWORKS
from metropolis.metal.store import Reader

Json = dict[str, Any]
# Whether an entity may be shown to a caller.
Sight = Callable[[Caller, Json], bool]


def _always(_caller: Caller, _item: Json) -> bool:
    return True


def _of_machine(caller: Caller, item: Json) -> bool:
    allocation = item.get("allocation")
    return allocation is not None and caller.sees(str(allocation["project"]))


def _of_project(caller: Caller, item: Json) -> bool:
    return caller.sees(str(item.get("projectid") or ""))


def _of_network(caller: Caller, item: Json) -> bool:
    owner = item.get("projectid")
    return not owner or bool(item.get("shared")) or caller.sees(str(owner))


def _itself(caller: Caller, item: Json) -> bool:
    meta: Json = item.get("meta") or {}
    return caller.sees(str(meta.get("id") or ""))


# Nothing in them is a project's, once `_HIDDEN` is emptied.
OPEN: Final = (
    "health", "info", "openapi", "apidocs", "getMe",
    "listImages", "findImages", "findImage", "findLatestImage", "queryImages by id",
    "listFilesystemLayouts", "getFilesystemLayout", "tryFilesystemLayout",
    "listPartitions", "findPartition", "partitionCapacity",
    "listSizes", "findSize",
    "listSizeImageConstraints", "findSizeImageConstraint", "trySizeImageConstraint",
    "listIssues",
)  # fmt: skip
# Their handlers take from the caller which rows and entities it may see or change.
_JUDGED: Final = (
    "findAuditTraces",
    "createToken", "listTokens", "getToken", "revokeToken",
    "allocateMachine", "freeMachine", "reinstallMachine", "setMachineState", "updateMachine",
    "machineOn", "machineOff", "machineReset", "machineCycle", "machineBios", "machineDisk",
    "machinePxe", "chassisIdentifyLEDOn", "chassisIdentifyLEDOff", "getMachineConsolePassword",
    "allocateFirewall", "explainMachine", "issues",
    "allocateIP", "allocateSpecificIP", "updateIP", "freeIP",
    "allocateNetwork", "freeNetwork", "freeNetworkDeprecated",
    "createSizeReservation", "updateSizeReservation", "deleteSizeReservation",
)  # fmt: skip
_MACHINES: Final = (
    "listMachines", "findMachines", "findMachine", "findIPMIMachine", "findIPMIMachines",
    "listFirewalls", "findFirewalls", "findFirewall",
)  # fmt: skip
_OWNED: Final = (
    "listIPs", "findIPs", "findIP",
    "listSizeReservations", "findSizeReservations", "getSizeReservation", "sizeReservationsUsage",
)  # fmt: skip
_NETWORKS: Final = ("listNetworks", "findNetworks", "findNetwork")
_PROJECTS: Final = ("listProjects", "findProjects", "findProject")

SIGHTS: Final[Mapping[str, Sight]] = {
    **dict.fromkeys(OPEN, _always),
    **dict.fromkeys(_JUDGED, _always),
    **dict.fromkeys(_MACHINES, _of_machine),
    **dict.fromkeys(_OWNED, _of_project),
    **dict.fromkeys(_NETWORKS, _of_network),
    **dict.fromkeys(_PROJECTS, _itself),
}
# Ids of machines, whoever has them, in answers about images and partitions.
_HIDDEN: Final = frozenset({"usedby", "faultymachines", "othermachines"})


def check_callable(caller: Caller, operation: Operation[Any, Any]) -> None:
    """Refuse what a confined caller may not call at all.

    Raises:
        PermissionDeniedError: the operation is about more than projects.
    """
    if caller.projects is not None and operation.id not in SIGHTS:
        raise PermissionDeniedError(
            f"{operation.id} is not for callers that are confined to projects",
            remedy="Use a token without projects.",
        )


def check_may_know(caller: Caller) -> None:
    """Say of what is not there what is said of what is somebody else's.

    Raises:
        NotFoundError: the caller is confined, in the same words whatever it asked for.
    """
    if caller.projects is not None:
        raise NotFoundError(
            "it does not exist, or belongs to a project that you cannot see",
            remedy="List those that you can see.",
        ) from None


async def check_named(
    caller: Caller,
    reader: Reader,
    *,
    networks: Iterable[str] = (),
    addresses: Iterable[str] = (),
    machine: str = "",
) -> None:
    """Say of what somebody else has, and a confined caller wants to use, that it does not exist.

    Whether it may be used is judged later; that says too much.

    Raises:
        NotFoundError: one of them belongs to a project that the caller does not see.
    """
    if caller.projects is None:
        return
    for key in networks:
        network = await reader.lookup(NETWORKS, key)
        if network is not None and not network.value.shared and network.value.project_id:
            caller.check_sight(network.value.project_id, "network")
    for key in addresses:
        ip = await reader.lookup(IPS, key)
        if ip is not None:
            caller.check_sight(ip.value.project_id, "address")
    found = await reader.lookup(MACHINES, machine) if machine else None
    if found is not None and found.value.allocation is not None:
        caller.check_sight(found.value.allocation.project_id, "machine")


def confined(caller: Caller, operation: Operation[Any, Any], value: Any) -> Any:  # noqa: ANN401  # any answer
    """Return an answer without what its caller may not see.

    Raises:
        NotFoundError: nothing is left of it.
    """
    if caller.projects is None:
        return value
    if isinstance(value, Reply):
        return replace(value, value=confined(caller, operation, value.value))
    sight = SIGHTS[operation.id]
    if isinstance(value, msgspec.Raw):
        plain = msgspec.json.decode(value)
    else:
        plain = msgspec.to_builtins(value)
    if isinstance(plain, list):
        rows = cast("list[Json]", plain)
        return [_stripped(each) for each in rows if sight(caller, each)]
    if isinstance(plain, dict):
        row = cast("Json", plain)
        if not sight(caller, row):
            raise NotFoundError("there is no such thing", remedy="List those that you can see.")
        return _stripped(row)
    return plain


def _stripped(value: Any) -> Any:  # noqa: ANN401  # any JSON
    if isinstance(value, dict):
        fields = cast("Json", value)
        kept: Json = {}
        for name, each in fields.items():
            kept[name] = [] if name in _HIDDEN and each else _stripped(each)
        return kept
    if isinstance(value, list):
        return [_stripped(each) for each in cast("list[object]", value)]
    return value
