# SPDX-License-Identifier: Apache-2.0
"""What switches report, and switches as they are answered: with it, and with their BGP filters."""

from collections.abc import Sequence

import msgspec

from metropolis.metal.model.partition import PARTITIONS, PartitionResponse
from metropolis.metal.model.switch import (
    SWITCH_STATUSES,
    SWITCHES,
    AdminStatus,
    BGPFilter,
    PortStatus,
    Switch,
    SwitchConnection,
    SwitchFindRequest,
    SwitchNic,
    SwitchNotifyRequest,
    SwitchOS,
    SwitchPort,
    SwitchPortToggleRequest,
    SwitchResponse,
    SwitchStatus,
    SwitchSync,
)
from metropolis.metal.rules.switch_ports import connected_port, pending_after
from metropolis.metal.services.bgp_filters import BGPFilters
from metropolis.metal.store import Reader, Scalar, Stored, Transaction


async def notify_switch(
    tx: Transaction, switch_id: str, request: SwitchNotifyRequest
) -> tuple[Stored[Switch], SwitchStatus]:
    """Remember what a switch reports; of ports that it does not have, nothing.

    It only writes the row of this switch's status, so it may run beside other transactions.

    Raises:
        NotFoundError: there is no such switch.
    """
    switch = await tx.get(SWITCHES, switch_id)
    stored = await tx.lookup(SWITCH_STATUSES, switch_id)
    old = SwitchStatus() if stored is None else stored.value
    known = {port.name for port in switch.value.ports}
    said: dict[str, PortStatus] = {**old.port_states, **(request.port_states or {})}
    states: dict[str, PortStatus] = {name: state for name, state in said.items() if name in known}
    sync = SwitchSync(time=tx.now, duration=request.sync_duration, error=request.error or None)
    status = SwitchStatus(
        last_sync=old.last_sync if sync.error else sync,
        last_sync_error=sync if sync.error else old.last_sync_error,
        port_states=states,
        bgp_port_states={
            name: state for name, state in (request.bgp_port_states or {}).items() if name in known
        },
        pending=pending_after(old.pending, states),
    )
    await _put_status(tx, switch_id, stored, status)
    return switch, status


async def _put_status(
    tx: Transaction, switch_id: str, old: Stored[SwitchStatus] | None, status: SwitchStatus
) -> None:
    if old is None:
        await tx.insert(SWITCH_STATUSES, switch_id, status)
    else:
        await tx.replace(old, status)


async def toggle_port(
    tx: Transaction, switch_id: str, request: SwitchPortToggleRequest
) -> Stored[Switch]:
    """Ask for a port to be turned on or off; the switch does it when it comes by.

    Raises:
        NotFoundError: there is no such switch or port.
        InvalidArgumentError: no machine is connected to the port.
    """
    switch = await tx.get(SWITCHES, switch_id)
    wanted = connected_port(switch.value, switch_id, request.nic)
    ports = tuple(
        msgspec.structs.replace(port, admin_status=request.status) if port == wanted else port
        for port in switch.value.ports
    )
    changed = await tx.replace(switch, msgspec.structs.replace(switch.value, ports=ports))
    stored = await tx.lookup(SWITCH_STATUSES, switch_id)
    status = SwitchStatus() if stored is None else stored.value
    pending: dict[str, AdminStatus] = {**status.pending, wanted.name: request.status}
    await _put_status(
        tx,
        switch_id,
        stored,
        msgspec.structs.replace(status, pending=pending_after(pending, status.port_states)),
    )
    return changed


async def find_switches(reader: Reader, query: SwitchFindRequest) -> list[Stored[Switch]]:
    """Find switches that have all that is asked for."""
    where: dict[str, Scalar | Sequence[Scalar]] = {
        facet: value
        for facet, value in (
            ("name", query.name),
            ("partition", query.partitionid),
            ("rack", query.rackid),
        )
        if value
    }
    if query.id:
        named = await reader.lookup(SWITCHES, query.id)
        found = [] if named is None else [named]
    else:
        found = await reader.find(SWITCHES, where)
    return [
        each
        for each in found
        if (not query.name or query.name == each.value.name)
        and (not query.partitionid or query.partitionid == each.value.partition_id)
        and (not query.rackid or query.rackid == each.value.rack_id)
        and (not query.roomid or query.roomid == each.value.room_id)
        and (not query.osvendor or query.osvendor == each.value.os.vendor)
        and (not query.osversion or query.osversion == each.value.os.version)
    ]


class SwitchAnswers:
    """Builds the answers about some switches from one view of the store.

    It reads what these switches and their machines need, each of it once: the cost does not grow
    with what else there is.
    """

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._partitions: dict[str, PartitionResponse] = {}
        self._filters = BGPFilters(reader)

    async def response(self, stored: Stored[Switch]) -> SwitchResponse:
        """A switch as answered."""
        switch = stored.value
        reported = await self._reader.lookup(SWITCH_STATUSES, stored.id)
        status = SwitchStatus() if reported is None else reported.value
        filters = await self._filters.of(switch)
        nics = {port.name: _nic(port, status, filters.get(port.name)) for port in switch.ports}
        connections = tuple(
            SwitchConnection(
                machine_id=each.machine_id,
                nic=msgspec.structs.replace(
                    nics[each.port], actual=status.port_states.get(each.port, "UNKNOWN")
                ),
            )
            for each in sorted(switch.connections, key=lambda each: (each.machine_id, each.port))
            if each.port in nics
        )
        return SwitchResponse(
            id=stored.id,
            name=switch.name,
            description=switch.description,
            created=stored.created,
            changed=stored.changed,
            partition=await self._partition(switch.partition_id),
            rack_id=switch.rack_id,
            room_id=switch.room_id,
            mode=switch.mode,
            os=switch.os if switch.os != SwitchOS() else None,
            management_ip=switch.management_ip,
            management_user=switch.management_user,
            console_command=switch.console_command,
            nics=tuple(nics[name] for name in sorted(nics)),
            connections=connections,
            last_sync=status.last_sync,
            last_sync_error=status.last_sync_error,
        )

    async def _partition(self, partition_id: str) -> PartitionResponse:
        if partition_id not in self._partitions:
            stored = await self._reader.get(PARTITIONS, partition_id)
            self._partitions[partition_id] = PartitionResponse.of(stored)
        return self._partitions[partition_id]


def _nic(port: SwitchPort, status: SwitchStatus, allowed: BGPFilter | None) -> SwitchNic:
    """A port as answered; its status is what was asked for until the switch reports that."""
    actual: PortStatus = status.port_states.get(port.name, "UNKNOWN")
    wanted: PortStatus | None = status.pending.get(port.name)
    return SwitchNic(
        name=port.name,
        identifier=port.identifier,
        mac=port.mac,
        actual=actual if wanted is None else wanted,
        admin_status=port.admin_status or None,
        vrf=port.vrf,
        filter=allowed,
        bgp_port_state=status.bgp_port_states.get(port.name),
    )
