# SPDX-License-Identifier: Apache-2.0
"""Three replicas on one database are one control plane.

That is PostgreSQL. Two processes on one SQLite file are a mistake that happens: a service and its
operator's shell, an old program that takes its time to end. It must not cost anything but speed.
"""

import http.client
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest

from kits.metal import Replica, replica

Replicas = tuple[Replica, Replica, Replica]


@pytest.fixture(params=["postgres", "sqlite"])
def replicas(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Replicas]:
    url = str(tmp_path / "metal.db")
    if request.param == "postgres":
        url = request.getfixturevalue("postgres_url")
    with ExitStack() as stack:
        one, two, three = (stack.enter_context(replica(url)) for _ in range(3))
        yield one, two, three


def size(key: str, **more: object) -> dict[str, object]:
    return {"id": key, "constraints": [], **more}


def test_a_change_through_one_is_seen_by_the_next_call_through_another(replicas: Replicas) -> None:
    one, two, three = replicas
    one.call("PUT", "/v1/size", size("s"))
    for number in range(20):
        tags = [each.call("GET", "/v1/size").headers["etag"] for each in replicas]
        assert len(set(tags)) == 1
        change = {"id": "s", "description": f"change {number}"}
        assert one.call("POST", "/v1/size", change).status == 200
        for each in (two, three):
            headers = {**each.signed("GET"), "If-None-Match": tags[0]}
            answer = each.call("GET", "/v1/size", headers=headers)
            assert answer.status == 200
            assert answer.json[0]["description"] == f"change {number}"
            headers = {**each.signed("GET"), "If-None-Match": answer.headers["etag"]}
            assert each.call("GET", "/v1/size", headers=headers).status == 304


def test_a_signature_that_one_took_is_refused_by_the_others(replicas: Replicas) -> None:
    one, two, three = replicas
    headers = one.signed("PUT")
    assert one.call("PUT", "/v1/size", size("s"), headers=headers).status == 201
    for each in (two, three):
        answer = each.call("PUT", "/v1/size", size("t"), headers=headers)
        assert answer.status == 403
        assert "used before" in answer.json["message"]


def test_of_many_that_send_the_same_signature_at_once_one_gets_through(replicas: Replicas) -> None:
    headers = replicas[0].signed("PUT")

    def send(number: int) -> int:
        metal = replicas[number % 3]
        return metal.call("PUT", "/v1/size", size(f"s{number}"), headers=headers).status

    with ThreadPoolExecutor(12) as pool:
        statuses = sorted(pool.map(send, range(12)))
    assert statuses == [201, *[403] * 11]
    assert len(replicas[0].call("GET", "/v1/size").json) == 1


def test_a_token_that_one_revoked_is_refused_by_the_others_at_once(replicas: Replicas) -> None:
    one, two, three = replicas
    token = one.call("PUT", "/v1/token", {"role": "view"}).json
    headers = {"Authorization": f"Bearer {token['token']}"}
    for each in replicas:
        assert each.call("GET", "/v1/size", headers=headers).status == 200
    assert three.call("DELETE", f"/v1/token/{token['id']}").status == 200
    for each in (one, two):
        assert each.call("GET", "/v1/size", headers=headers).status == 403


def test_every_replica_shows_the_audit_of_all(replicas: Replicas) -> None:
    for number, each in enumerate(replicas):
        each.call("PUT", "/v1/size", size(f"s{number}"))
    for each in replicas:
        rows = each.call("POST", "/v1/audit/find", {"path": "/v1/size", "phase": "response"}).json
        assert [row["status_code"] for row in rows] == [201, 201, 201]


def test_a_watcher_of_one_sees_what_the_others_change(replicas: Replicas) -> None:
    one, two, three = replicas
    place = urlsplit(three.url)
    connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
    connection.request("GET", "/v1/size?watch=now", headers=three.signed("GET"))
    response = connection.getresponse()
    assert msgspec.json.decode(response.readline())["operation"] == "beat"
    for number, each in enumerate((one, two, three)):
        each.call("PUT", "/v1/size", size(f"s{number}"))
        line = msgspec.json.decode(response.readline())
        assert (line["operation"], line["id"]) == ("insert", f"s{number}")
        assert line["value"]["id"] == f"s{number}"
    connection.close()


def test_writers_through_all_of_them_lose_nothing(replicas: Replicas) -> None:
    done = threading.Barrier(6)

    def make(number: int) -> list[int]:
        done.wait()
        metal = replicas[number % 3]
        return [
            metal.call("PUT", "/v1/size", size(f"s{number}-{index}")).status for index in range(5)
        ]

    with ThreadPoolExecutor(6) as pool:
        statuses = [each for made in pool.map(make, range(6)) for each in made]
    assert statuses == [201] * 30
    for each in replicas:
        assert len(each.call("GET", "/v1/size").json) == 30
