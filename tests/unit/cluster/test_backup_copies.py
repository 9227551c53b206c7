# SPDX-License-Identifier: Apache-2.0
"""Which copies of backups a member fetches, when one counts, and what the leader tells of them."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from random import Random

import pytest

from metropolis.api import backup_pb2 as wire
from metropolis.base.errors import DataLossError, PermissionDeniedError, ResourceExhaustedError
from metropolis.cluster.backup.copies import merged, missing, take_copy
from metropolis.cluster.backup.shelf import Shelf
from metropolis.cluster.services import backup as service
from metropolis.host.sim.directory import SimDirectory
from metropolis.host.sim.disk import SimDisk
from unit.cluster.harness import FIRST, OWNER, Bench, machine, make_member, run

DATA = b"noise" * 1000


def kept(generation: int, data: bytes = DATA, *, nodes: Sequence[str] = ()) -> wire.KeptBackup:
    return wire.KeptBackup(
        header=wire.BackupHeader(generation=generation),
        size_bytes=len(data),
        sha256=hashlib.sha256(data).digest(),
        nodes=nodes,
    )


def generations(found: Sequence[wire.KeptBackup]) -> list[int]:
    return [each.header.generation for each in found]


@pytest.mark.parametrize(
    ("own", "leaders", "keep", "wanted"),
    [
        ([], [3, 2, 1], 2, [3, 2]),
        ([2], [3, 2, 1], 3, [3, 1]),
        ([3, 2, 1], [3, 2, 1], 3, []),
        ([9, 8], [3, 2, 1], 2, []),  # they would be pruned again
        ([], [], 5, []),
    ],
)
def test_a_member_fetches_what_it_lacks_of_the_newest(
    own: list[int], leaders: list[int], keep: int, wanted: list[int]
) -> None:
    found = missing([kept(each) for each in own], [kept(each) for each in leaders], keep=keep)
    assert generations(found) == wanted


def test_what_has_no_digest_is_not_fetched() -> None:
    old = kept(1)
    old.ClearField("sha256")
    assert missing([], [old], keep=2) == []


def test_every_backup_is_told_once_with_all_who_hold_it() -> None:
    told = merged("b", [kept(2), kept(1)], {"c": [kept(1)], "a": [kept(3), kept(2)]})
    assert [(each.header.generation, list(each.nodes)) for each in told] == [
        (3, ["a"]),
        (2, ["b", "a"]),
        (1, ["b", "c"]),
    ]


async def pieces_of(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 700):
        yield data[start : start + 700]


@pytest.mark.parametrize(
    "came", [DATA[:-1], DATA + b"!", b"other" * 1000, b""], ids=["cut", "more", "other", "nothing"]
)
def test_what_is_not_the_same_leaves_nothing(came: bytes) -> None:
    async def scenario(_bench: Bench) -> None:
        directory = SimDirectory(SimDisk(Random(1)), mount_point="/disk")
        shelf = Shelf(directory, "copies")
        with pytest.raises(DataLossError):
            await take_copy(shelf, kept(4), pieces_of(came))
        assert not await directory.list("copies")
        await take_copy(shelf, kept(4, nodes=["x"]), pieces_of(DATA))
        (copy,) = await shelf.kept()
        assert copy == kept(4)
        assert b"".join([piece async for piece in shelf.read(4)]) == DATA

    run(scenario)


def test_only_members_compare_and_the_leader_has_nothing_to_copy() -> None:
    other = machine(2)

    async def scenario(bench: Bench) -> None:
        leader = bench.leader
        request = wire.CompareCopiesRequest(backups=[kept(7)])
        assert await service.compare_copies(leader, request, FIRST.peer) == (
            wire.CompareCopiesResponse()
        )
        with pytest.raises(PermissionDeniedError):
            await service.compare_copies(leader, request, OWNER)
        await bench.enrol(other)
        with pytest.raises(PermissionDeniedError, match="only consensus members"):
            await service.compare_copies(leader, request, other.peer)
        assert not (await service.list_backups(leader, wire.ListBackupsRequest(), OWNER)).backups
        await make_member(bench, other)
        await service.compare_copies(leader, request, other.peer)
        listed = await service.list_backups(leader, wire.ListBackupsRequest(), OWNER)
        assert [list(each.nodes) for each in listed.backups] == [[other.node_id]]

    run(scenario)


def test_a_full_disk_takes_no_backups_and_gives_up_old_ones() -> None:
    async def scenario(_bench: Bench) -> None:
        disk = SimDisk(Random(1))
        roomy = Shelf(SimDirectory(disk, mount_point="/disk"), "backups")
        full = Shelf(SimDirectory(disk, mount_point="/disk"), "backups", is_full=lambda: True)
        for generation in (1, 2):
            await take_copy(roomy, kept(generation), pieces_of(DATA))
        with pytest.raises(ResourceExhaustedError):
            await take_copy(full, kept(3), pieces_of(DATA))
        assert generations(await full.kept()) == [2, 1]
        assert await full.prune(1) == [1]

    run(scenario)
