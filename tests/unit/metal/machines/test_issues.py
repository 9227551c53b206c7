# SPDX-License-Identifier: Apache-2.0
"""Issues over the interface, explanations, and the jobs that look after silent machines."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

from metropolis.metal.model.event import EVENT_HISTORIES, LOG_SHOWN_MAX, LOG_STORED_MAX, Event
from metropolis.metal.services.events import history_of
from metropolis.metal.services.liveliness import judge_liveliness, resurrect
from unit.metal.machines.fleet import Fleet, fleet, uuid_of


def run(scenario: Callable[[Fleet], Awaitable[None]], *, racks: int = 1) -> None:
    async def main() -> None:
        async with fleet(racks=racks) as site:
            await scenario(site)

    asyncio.run(main())


async def issues(site: Fleet, **request: object) -> dict[str, list[str]]:
    path = "/v1/machine/issues/evaluate"
    return {
        each["machineid"]: each["issues"] for each in await site.world.ok("POST", path, request)
    }


def test_what_machines_share_is_seen_although_one_of_them_was_asked_for() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        await site.boot(1)
        reports = {uuid_of(n): {"BMCIp": "192.0.2.99"} for n in range(2)}
        await site.world.ok("POST", "/v1/machine/ipmi", {"partitionid": "muc", "reports": reports})
        assert await issues(site, id=uuid_of(0)) == {uuid_of(0): ["bmc-no-distinct-ip"]}

    run(scenario)


def test_issues_are_chosen_by_severity_and_by_name_and_leaving_out_wins() -> None:
    async def scenario(site: Fleet) -> None:
        await site.send("stray", Event.PHONED_HOME)
        bad = [
            "no-partition", "failed-machine-reclaim", "bmc-without-mac", "bmc-without-ip",
            "bmc-info-outdated",
        ]  # fmt: skip
        assert await issues(site) == {"stray": bad}
        assert await issues(site, severity="critical") == {"stray": ["failed-machine-reclaim"]}
        only = {"only": ["no-partition", "bmc-without-ip"], "omit": ["no-partition"]}
        assert await issues(site, **only) == {"stray": ["bmc-without-ip"]}
        await site.world.refused(400, "POST", "/v1/machine/issues/evaluate", {"only": ["bad"]})
        await site.world.refused(400, "POST", "/v1/machine/issues/evaluate", {"severity": "bad"})
        listed = await site.world.ok("GET", "/v1/machine/issues")
        assert len(listed) == 13
        assert listed[0]["ref_url"].endswith("#no-partition")

    run(scenario)


def test_an_old_error_counts_when_the_threshold_says_so() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.send(machine_id, Event.INSTALLING, Event.WAITING)
        assert await issues(site) == {machine_id: ["last-event-error"]}
        site.clock.advance(60)
        assert await issues(site, last_error_threshold=30 * 10**9) == {}

    run(scenario)


def test_silent_machines_are_judged_and_those_that_speak_cost_no_write() -> None:
    async def scenario(site: Fleet) -> None:
        await site.boot(0)
        await site.boot(1)
        await site.boot(2)
        taken = (await site.allocate())["id"]
        speaking = next(n for n in (uuid_of(0), uuid_of(1), uuid_of(2)) if n != taken)
        site.clock.advance(301)
        await site.send(speaking, Event.ALIVE)
        store, now = site.world.store, site.clock.wall()
        changed = await judge_liveliness(store, now=now)
        assert sorted(changed) == sorted({uuid_of(0), uuid_of(1), uuid_of(2)} - {speaking})
        assert (await site.events(taken)).liveliness == "Unknown"
        revision = await store.read(lambda reader: reader.revision())
        assert await judge_liveliness(store, now=now) == []
        assert await store.read(lambda reader: reader.revision()) == revision
        await site.free(taken)
        await site.silence(302)
        assert (await site.events(taken)).liveliness == "Dead"

    run(scenario, racks=2)


def test_a_dead_machine_is_freed_once_more_after_an_hour_unless_it_is_locked() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        store = site.world.store
        await site.silence(301)
        assert await resurrect(store, now=site.clock.wall()) == {}
        await site.silence(3600)
        lock = {"value": "LOCKED", "description": "x", "metal_hammer_version": ""}
        path = f"/v1/machine/{machine_id}/state"
        await site.world.ok("POST", path, lock)
        assert await resurrect(store, now=site.clock.wall()) == {}
        await site.world.ok("POST", path, lock | {"value": ""})
        assert list(await resurrect(store, now=site.clock.wall())) == [machine_id]
        assert (await site.events(machine_id)).newest is Event.MACHINE_RECLAIM
        assert await resurrect(store, now=site.clock.wall()) == {}, "it has an hour again"

    run(scenario)


def test_a_machine_that_does_not_let_go_is_freed_once_more() -> None:
    async def scenario(site: Fleet) -> None:
        machine_id = await site.boot(0)
        await site.allocate()
        await site.install(machine_id)
        await site.free(machine_id)
        site.clock.advance(301)
        await site.send(machine_id, Event.PHONED_HOME)
        assert (await site.events(machine_id)).failed_machine_reclaim
        said = await site.world.ok("GET", f"/v1/machine/{machine_id}/explain")
        assert "still runs" in said["obstacles"][0]["reason"]
        now = site.clock.wall() + timedelta(seconds=1)
        assert list(await resurrect(site.world.store, now=now)) == [machine_id]

    run(scenario)


def test_a_hundred_events_are_kept_and_twenty_shown() -> None:
    async def scenario(site: Fleet) -> None:
        for count in range(LOG_STORED_MAX + 5):
            await site.send("m", Event.PLANNED_REBOOT, message=str(count))
        store = site.world.store
        history = await store.read(lambda reader: history_of(reader, "m"))
        assert [each.message for each in history[:2]] == ["104", "103"]
        assert len(history) == LOG_STORED_MAX
        found = await site.world.ok("GET", "/v1/machine/m")
        assert len(found["events"]["log"]) == LOG_SHOWN_MAX
        assert await store.read(lambda reader: reader.count(EVENT_HISTORIES)) == 1

    run(scenario)


def test_machines_that_are_neither_allocatable_nor_in_use_say_why() -> None:
    async def scenario(site: Fleet) -> None:
        async def said(machine_id: str) -> str:
            answer = await site.world.ok("GET", f"/v1/machine/{machine_id}/explain")
            assert all(each["remedy"] for each in answer["obstacles"])
            reasons = "; ".join(each["reason"] for each in answer["obstacles"])
            return f"{answer['verdict']}: {reasons}"

        await site.send("stray", Event.PXE_BOOTING)
        assert "never registered" in await said("stray")
        assert "BMC is not known" in await said("stray")
        machine_id = await site.boot(0)
        assert await said(machine_id) == "allocatable: "
        await site.leave(machine_id)
        assert "nobody listens" in await said(machine_id)
        await site.send(machine_id, Event.CRASHED, message="kernel panic")
        assert "it starts again and again (kernel panic)" in await said(machine_id)
        await site.silence(301)
        assert "nothing was heard of it since" in await said(machine_id)
        await site.boot(0)
        await site.allocate()
        assert "not installed yet; its newest event is Waiting" in await said(machine_id)
        await site.install(machine_id)
        assert await said(machine_id) == "in use: "
        await site.silence(301)
        assert "Ask" not in await said(machine_id)
        assert (await said(machine_id)).startswith("allocated: nothing was heard")
        await site.world.refused(404, "GET", "/v1/machine/none/explain")

    run(scenario)
