# SPDX-License-Identifier: Apache-2.0
"""Answers of the API as tests need them."""

from datetime import UTC, datetime, timedelta
from typing import Any

NOW = datetime(2026, 11, 20, 15, 0, tzinfo=UTC)


def ago(**how_long: float) -> str:
    return (NOW - timedelta(**how_long)).isoformat().replace("+00:00", "Z")


def machine(number: int, **more: Any) -> dict[str, Any]:
    """A machine that waits."""
    return {
        "id": f"00000000-0000-0000-0000-00000000000{number}",
        "liveliness": "Alive",
        "rackid": "rack-1",
        "partition": {"id": "lab"},
        "size": {"id": "s1"},
        "tags": [],
        "state": {"value": ""},
        "ledstate": {"value": "LED-OFF"},
        "events": {
            "log": [{"event": "Waiting", "time": ago(minutes=2), "message": "I wait"}],
            "last_event_time": ago(minutes=2),
        },
        **more,
    }


def allocation(**more: Any) -> dict[str, Any]:
    return {
        "created": ago(days=3, hours=4),
        "name": "web",
        "hostname": "web",
        "project": "shop",
        "image": {"id": "ubuntu-24.04.20261110"},
        "networks": [
            {"networkid": "private", "ips": ["10.0.0.1"], "private": True},
            {"networkid": "internet", "ips": ["203.0.113.7", "2001:db8::7"]},
        ],
        **more,
    }


MACHINES = [
    machine(1),
    machine(
        2,
        liveliness="Dead",
        state={"value": "LOCKED", "description": "do not touch\x1b[31m"},
        ledstate={"value": "LED-ON"},
        allocation=allocation(description="shop window", vpn={"connected": True}),
        tags=["a=b", "c"],
        bios={"version": "2.4"},
        ipmi={
            "address": "10.9.0.1:623",
            "mac": "02:00:00:00:00:01",
            "powerstate": "ON",
            "powermetric": {"averageconsumedwatts": 99.6},
            "bmcversion": "1.7",
            "last_updated": ago(seconds=50),
            "fru": {"board_part_number": "X12", "chassis_part_serial": "C1"},
        },
    ),
    machine(
        3,
        liveliness="Unknown",
        state={"value": "RESERVED", "description": "for tests"},
        size=None,
        events={
            "log": [],
            "crash_loop": True,
            "failed_machine_reclaim": True,
            "last_error_event": {"event": "Crashed", "time": ago(days=2), "message": "ouch"},
        },
        issues_text="the machine is in a crash loop (crashloop)",
    ),
]


def network(key: str, parent: str = "", used: int = 2, of: int = 256) -> dict[str, Any]:
    return {
        "id": key,
        "name": key.upper(),
        "prefixes": ["10.0.0.0/24"],
        "parentnetworkid": parent or None,
        "nat": not parent,
        "shared": bool(parent),
        "networktype": "child" if parent else "super",
        "usage": {"used_ips": used, "available_ips": of},
        "consumption": {"ipv4": {"used_ips": used, "available_ips": of}},
    }


NETWORKS = [
    network("child-1", "super"),
    network("external", used=250),
    network("super", used=190),
    network("child-2", "super"),
    network("orphan", "elsewhere"),
]


def switch(key: str, **more: Any) -> dict[str, Any]:
    nic = {"name": "Ethernet0", "identifier": "Eth1", "mac": "02:00:00:00:00:09"}
    return {
        "id": key,
        "partition": {"id": "lab"},
        "rack_id": "rack-1",
        "os": {"vendor": "SONiC", "version": "202411", "metal_core_version": "v0.17.0"},
        "management_ip": "10.255.1.1",
        "mode": "operational",
        "nics": [{**nic, "filter": {"vnis": ["1", "2"], "cidrs": ["10.0.0.0/24"]}}],
        "connections": [{"nic": nic, "machine_id": MACHINES[1]["id"], "machine": MACHINES[1]}],
        **more,
    }


SWITCHES = [
    switch("leaf01", last_sync={"time": ago(seconds=9), "duration": 120_000_000}),
    switch("leaf02", last_sync={"time": ago(minutes=9), "duration": 1}),
    switch(
        "leaf03",
        last_sync={"time": ago(seconds=30), "duration": 1},
        last_sync_error={"time": ago(seconds=10), "duration": 1, "error": "no route"},
    ),
    switch("leaf04", mode="replace", connections=[]),
    switch("leaf05", connections=[]),
]

IMAGES: list[dict[str, Any]] = [
    {
        "id": "ubuntu-24.04.20261110",
        "name": "Ubuntu|24",
        "features": ["machine"],
        "expirationDate": "2026-12-01T00:00:00Z",
        "classification": "supported",
        "usedby": ["a", "b"],
    },
    {"id": "old-1.0.1", "expirationDate": ago(days=1), "classification": "deprecated"},
    {"id": "young-1.0.1", "expirationDate": None, "classification": "preview"},
]

ADDRESSES = [
    {
        "ipaddress": "203.0.113.7",
        "name": "www",
        "networkid": "internet",
        "projectid": "shop",
        "type": "static",
        "tags": ["a=b", "c"],
    }
]

PROJECTS = [
    {
        "meta": {"id": "p1", "labels": ["x"], "annotations": {"a": "b", "c": ""}},
        "name": "shop",
        "tenant_id": "acme",
    }
]

SIZES = [
    {
        "id": "s1",
        "constraints": [
            {"type": "cores", "min": 1, "max": 8},
            {"type": "memory", "min": 2**30, "max": 2**30},
            {"type": "storage", "min": 10**9, "max": 2**40, "identifier": "/dev/sd*"},
            {"type": "gpu", "min": 1, "max": 2, "identifier": "AD102*"},
        ],
    }
]

CAPACITY = [
    {
        "id": "lab",
        "servers": [
            {"size": "s1", "total": 5, "allocated": 2, "free": 1, "unavailable": 2, "faulty": 1,
             "phoned_home": 2, "waiting": 1, "other": 2, "reservations": 3,
             "usedreservations": 1},
            {"size": "s2", "total": 1, "allocated": 1},
        ],
    }
]  # fmt: skip
