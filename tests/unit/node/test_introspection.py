# SPDX-License-Identifier: Apache-2.0
"""What a node finds wrong with itself."""

from collections.abc import Sequence
from random import Random

import pytest

from metropolis.api import introspection_pb2 as wire
from metropolis.base.ids import node_id_from_public_key
from metropolis.cluster.planner.room import FULL_BYTES
from metropolis.host.sim.clock import SimClock
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.disk import SimDisk
from metropolis.node.management.introspection import IntrospectionService
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.sim import simulate
from metropolis.supervision import Value

OWNER = Peer(kind=PeerKind.USER, identity="owner")


@pytest.mark.parametrize(
    ("free_bytes", "codes"),
    [(FULL_BYTES, []), (FULL_BYTES - 1, ["DISK_FULL"]), (0, ["DISK_FULL"])],
)
def test_a_disk_without_room_for_the_next_segment_is_full(
    free_bytes: int, codes: Sequence[str]
) -> None:
    async def scenario() -> None:
        disk = SimDisk(Random(1), capacity_bytes=free_bytes)
        service = IntrospectionService(
            dict,
            SimClock(),
            node_id=node_id_from_public_key(bytes(32)),
            consensus=Value(None),
            storage=SimDirectory(disk, mount_point="/disk"),
        )
        said = await service.get_supervision_tree(wire.GetSupervisionTreeRequest(), OWNER)
        assert [each.code for each in said.findings] == codes

    simulate(scenario, seed=1)
