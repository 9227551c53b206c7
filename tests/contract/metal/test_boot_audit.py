# SPDX-License-Identifier: Apache-2.0
"""The registration of a machine is in the audit, without the password of its BMC."""

from datetime import timedelta
from pathlib import Path

import pytest

from contract.metal.boots import Boots, described, run
from metropolis.api.rpc_metal_boot import BootService
from metropolis.base.errors import NotFoundError
from metropolis.metal.audit.trace import Search, Trace, search


async def rows(boots: Boots) -> list[Trace]:
    now = boots.site.clock.wall()
    wanted = Search(
        since=now - timedelta(hours=1), until=now, exact={"type": "grpc"}, part={}, words={}
    )
    return await boots.site.store.read(lambda reader: search(reader, wanted))


def test_a_registration_leaves_two_rows_and_no_secret(tmp_path: Path, store_url: str) -> None:
    async def scenario(boots: Boots) -> None:
        await boots.register()
        asked, answered = await rows(boots)
        assert asked.path == answered.path == "/api.v1.BootService/Register"
        assert (asked.phase, answered.phase) == ("request", "response")
        assert asked.rqid == answered.rqid
        assert (asked.detail, asked.remote_addr) == ("unary", "127.0.0.1")
        assert "bmc-secret" not in asked.body
        assert '"address"' in asked.body

    run(tmp_path, scenario, store_url)


def test_a_refused_registration_is_told_with_its_reason(tmp_path: Path, store_url: str) -> None:
    async def scenario(boots: Boots) -> None:
        with pytest.raises(NotFoundError):
            await boots.channel.call(BootService.REGISTER, described(partition_id="nowhere"))
        answered = (await rows(boots))[-1]
        assert answered.status_code == NotFoundError.grpc_status
        assert "nowhere" in answered.error

    run(tmp_path, scenario, store_url)
