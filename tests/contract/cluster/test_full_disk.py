# SPDX-License-Identifier: Apache-2.0
"""A leader whose disk is full lets another lead; where all are full, only what helps is done."""

import asyncio

import pytest

from contract.cluster.rack import Rack, Site, run, three_members
from metropolis.api import management_pb2 as api
from metropolis.api.rpc_management import Management
from metropolis.base.errors import ResourceExhaustedError
from metropolis.cluster.planner.room import REMEDY


async def label(made: Rack, leader: Site, value: str) -> None:
    request = api.UpdateNodeLabelsRequest(id=made.sites[0].node_id)
    request.upsert.add(key="written", value=value)
    await made.dial(leader).call(Management.UPDATE_NODE_LABELS, request)


async def labels(made: Rack, leader: Site) -> list[str]:
    found = {node.id: node for node in await made.list(leader)}
    return [pair.value for pair in found[made.sites[0].node_id].labels.pairs]


def test_another_member_leads_while_the_leaders_disk_is_full() -> None:
    async def scenario(made: Rack) -> None:
        first, second, third = await three_members(made)
        await label(made, first, "before")
        first.is_disk_full.set(True)
        leader = await made.leader_among(second, third)
        await label(made, leader, "after")
        assert await labels(made, leader) == ["after"]
        first.is_disk_full.set(False)
        assert await made.leader_among(*made.sites) is leader, "no reason to change again"

    run(scenario)


def test_where_every_disk_is_full_users_change_only_what_makes_room() -> None:
    async def scenario(made: Rack) -> None:
        (first,) = made.sites
        await label(made, first, "before")
        first.is_disk_full.set(True)
        await asyncio.sleep(60)  # there is nobody to hand over to
        with pytest.raises(ResourceExhaustedError, match="disk of the leader is full") as refused:
            await label(made, first, "after")
        assert refused.value.remedy == REMEDY
        assert await labels(made, first) == ["before"]
        await made.report(first, first)  # what nodes say of themselves goes on
        roles = api.UpdateNodeRolesRequest(id=first.node_id, kubernetes_worker=True)
        await made.dial(first).call(Management.UPDATE_NODE_ROLES, roles)
        first.is_disk_full.set(False)
        await label(made, first, "after")

    run(scenario)


def test_where_every_disk_is_full_the_leaders_do_not_change_all_the_time() -> None:
    async def scenario(made: Rack) -> None:
        sites = await three_members(made)
        for site in sites:
            site.is_disk_full.set(True)
        await asyncio.sleep(30)
        leader = await made.leader_among(*sites)
        for _ in range(60):
            assert await made.leader_among(*sites) is leader
            await asyncio.sleep(1)
        with pytest.raises(ResourceExhaustedError):
            await label(made, leader, "refused")

    run(scenario)
