# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent to a running server, it answers; nothing that a client does is our failure.

schemathesis makes requests from our own document, such as fit it and such as do not. The same ones
in every run; `METROPOLIS_EXPLORE=1` tries others, and more of them.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from typing import Any
from urllib.parse import quote, urlsplit

import msgspec
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis.strategies import booleans
from schemathesis.generation import GenerationMode

from kits.metal import HttpAnswer, Replica, replica
from metropolis.metal.audit.trace import Search, search
from metropolis.metal.http.operation import Nothing, Upload
from metropolis.metal.http.table import OPERATIONS
from metropolis.metal.seed import GPU, PARTITION, SHOP, SHOP_NETWORK, SMALL, TENANT, seed
from metropolis.metal.site import Site

EXPLORING = bool(os.environ.get("METROPOLIS_EXPLORE"))
EXAMPLES = 40 if EXPLORING else 3
SQL = (
    "'; DROP TABLE entity; --",
    '" OR ""="',
    "1' OR '1'='1",
    "%' UNION SELECT doc FROM entity --",
    "$1",
    "{text}",
    "\\",
    "ünïcödé 🙂",
    "a\u0000b",
    "..",
    "x" * 3000,
)


@pytest.fixture
def metal(store_url: str) -> Iterator[Replica]:
    with replica(store_url) as running:
        running.run(seed)
        yield running


# What the seed made: half of the requests are aimed at it, so that they get past "no such thing".
MACHINE = "00000000-0000-0000-0000-000100000001"
THINGS = {
    "/v1/machine": MACHINE,
    "/v1/firewall": MACHINE,
    "/v1/network": SHOP_NETWORK,
    "/v1/ip": "203.0.113.1",
    "/v1/switch": "leaf01",
    "/v1/size/reservations": "shop-sales-day",
    "/v1/size-image-constraint": GPU,
    "/v1/size": SMALL,
    "/v1/image": "ubuntu-24.04.20261110",
    "/v1/partition": PARTITION,
    "/v1/project": SHOP,
    "/v1/tenant": TENANT,
    "/v1/filesystemlayout": "default-sata",
}
FIELDS = {
    "projectid": SHOP,
    "partitionid": PARTITION,
    "partition_id": PARTITION,
    "partitionids": [PARTITION],
    "sizeid": SMALL,
    "size": SMALL,
    "imageid": "ubuntu-24.04",
    "image": "ubuntu-24.04.20261110",
    "networkid": SHOP_NETWORK,
    "networks": [{"networkid": SHOP_NETWORK, "autoacquire": True}],
    "ipaddress": "203.0.113.1",
    "machine": MACHINE,
    "machineID": MACHINE,
    "machineid": MACHINE,
    "uuid": MACHINE,
    "ssh_pub_keys": [],
    "tenant_id": TENANT,
    "rack_id": "rack-1",
    "nic": "Ethernet0",
    "old_switch_id": "leaf01",
    "new_switch_id": "leaf03",
}


def aim(case: Any) -> None:
    """Let a request name what exists."""
    near = [each for prefix, each in THINGS.items() if case.path.startswith(prefix)]
    thing = near[0] if near else None
    if thing is not None and case.path_parameters:
        case.path_parameters = dict.fromkeys(case.path_parameters, thing)
    if isinstance(case.body, dict):
        case.body = {name: FIELDS.get(name, each) for name, each in case.body.items()}
        if thing is not None and "id" in case.body and case.method.upper() != "PUT":
            case.body["id"] = thing


def judge(method: str, path: str, answer: HttpAnswer) -> None:
    """An answer is a success, or an error that is the client's and says so as all errors do."""
    assert answer.status < 500, (method, path, answer)
    if answer.status >= 400:
        told = answer.json
        assert set(told) == {"statuscode", "message"}, (method, path, told)
        assert told["statuscode"] == answer.status
        assert told["message"]


@pytest.mark.timeout(1800 if EXPLORING else 240)
def test_requests_made_from_our_own_document_find_no_failure(metal: Replica) -> None:
    schema = schemathesis.openapi.from_dict(metal.call("GET", "/openapi.json").json)
    schema.config.update(base_url=metal.url)
    place = urlsplit(metal.url)
    count = 0
    for found in schema.get_all_operations():
        made: Any = found.ok()  # type: ignore[union-attr]  # our document has no errors
        fits = made.as_strategy(generation_mode=GenerationMode.POSITIVE)
        does_not = made.as_strategy(generation_mode=GenerationMode.NEGATIVE)
        has_input = made.body or made.query or made.path_parameters

        def send(case: Any, aimed: bool) -> None:
            if aimed:
                aim(case)
            case.query = {
                name: each for name, each in (case.query or {}).items() if name != "watch"
            }
            response = case.call(
                base_url=f"http://{place.netloc}{place.path}",
                headers=metal.signed(case.method.upper()),
                timeout=30,
            )
            answer = HttpAnswer(
                status=response.status_code, headers=response.headers, body=response.content
            )
            judge(case.method, case.path, answer)

        bounded = settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        tried = bounded(given(case=fits | does_not if has_input else fits, aimed=booleans())(send))
        (tried if EXPLORING else seeded(20261120)(tried))()
        count += 1
    assert count == len(OPERATIONS)


def test_text_that_looks_like_a_command_is_only_text(metal: Replica) -> None:
    before = metal.call("GET", "/v1/machine").json
    for text in SQL:
        try_text(metal, text)
    assert metal.call("GET", "/v1/machine").json == before


def try_text(metal: Replica, text: str) -> None:
    names = [each.id for each in OPERATIONS if each.method == "GET" and "{id}" in each.path]
    for operation in OPERATIONS:
        if operation.id in names:
            path = operation.path.replace("{id}", quote(text, safe=""))
            answer = metal.call("GET", path)
            judge("GET", path, answer)
            assert answer.status in {400, 404}
    for path, body in (
        ("/v1/machine/find", {"name": text}),
        ("/v1/machine/find", {"id": text, "tags": [text], "network_ips": [text]}),
        ("/v1/ip/find", {"ipaddress": text, "tags": [text]}),
        ("/v1/network/find", {"name": text, "labels": {text: text}, "prefixes": [text]}),
        ("/v1/image/find", {"os": text, "version": text}),
        ("/v1/project/find", {"name": text, "annotations": {text: text}}),
        ("/v1/tenant/find", {"name": text, "annotations": {text: text}}),
        ("/v1/switch/find", {"name": text, "rackid": text}),
        ("/v1/size/reservations/find", {"projectid": text}),
        ("/v1/audit/find", {"body": text, "path": text, "user": text, "error": text}),
    ):
        answer = metal.call("POST", path, body)
        judge("POST", path, answer)
        assert answer.status == 400 or answer.json == [], (path, answer)
    answer = metal.call("GET", f"/v1/machine?filter={quote(f'name={text}')}&after={quote(text)}")
    judge("GET", "/v1/machine", answer)


def test_unknown_fields_and_wrong_types_are_named_by_every_operation(metal: Replica) -> None:
    asked = 0
    for operation in OPERATIONS:
        if operation.body is Nothing or operation.body is Upload:
            continue
        known = {each.encode_name for each in msgspec.structs.fields(operation.body)}
        if not known:
            continue  # takes an empty object, whatever is in it
        path = operation.path.replace("{", "").replace("}", "")
        answer = metal.call(operation.method, path, {"no-such-field": 1})
        judge(operation.method, path, answer)
        assert answer.status == 400, (path, answer)
        assert any(name in answer.json["message"] for name in {"no-such-field", *known}), (
            path,
            answer,
        )
        for raw in (b"[]", b"7", b'"x"', b"null", b"{", b"\xff", b'{"a":1e999}'):
            answer = metal.call(operation.method, path, raw=raw)
            judge(operation.method, path, answer)
            assert answer.status == 400, (path, raw, answer)
        asked += 1
    assert asked > 50


def test_numbers_past_every_limit_are_refused_or_found_nowhere(metal: Replica) -> None:
    for number in (-1, 2**31, 2**63, 2**64, 2**200, 1.5):
        for path, body in (
            ("/v1/machine/find", {"network_asns": [number], "hardware_memory": number}),
            ("/v1/network/find", {"vrf": number}),
            ("/v1/audit/find", {"status_code": number, "limit": number}),
        ):
            answer = metal.call("POST", path, body)
            judge("POST", path, answer)
        size = {"id": f"s{number}", "constraints": [{"type": "cores", "min": 1, "max": number}]}
        judge("PUT", "/v1/size", metal.call("PUT", "/v1/size", size))


def test_huge_bodies_are_refused_before_they_are_read(metal: Replica) -> None:
    place = urlsplit(metal.url)
    with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
        signed = "".join(f"{k}: {v}\r\n" for k, v in metal.signed("PUT").items())
        connection.sendall(
            f"PUT /v1/size HTTP/1.1\r\nHost: x\r\n{signed}"
            f"Content-Type: application/json\r\nContent-Length: {10**12}\r\n\r\n{{".encode()
        )
        assert b" 413 " in connection.recv(4096).split(b"\r\n", 1)[0]
    answer = metal.call("PUT", "/v1/size", raw=b" " * (17 * 1024 * 1024))
    assert answer.status == 413
    assert metal.call("GET", "/v1/version").status == 200


def test_what_is_no_http_is_refused_and_harms_nobody(metal: Replica) -> None:
    place = urlsplit(metal.url)
    for raw in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 20_000 + b"\r\n",
        b"GET /v1/version HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /v1/size HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"\r\n" * 10,
        b"GET / HTTP/1.1\r\nx: " + b"y" * 1_000_000,
        b"GET /" + b"y" * 100_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 200_000,
    ):
        with socket.create_connection((place.hostname, place.port), timeout=30) as connection:
            try:
                connection.sendall(raw)
                with suppress(OSError):  # it has hung up already
                    connection.shutdown(socket.SHUT_WR)
                line = connection.recv(4096).split(b"\r\n", 1)[0]
            except (ConnectionResetError, BrokenPipeError):  # it said no before all of it was sent
                line = b""
            assert line == b"" or b" 400 " in line, (raw[:40], line)
    assert metal.call("GET", "/v1/version").status == 200


def test_what_was_refused_left_nothing_half_written(metal: Replica) -> None:
    """The story's data is what the seed made, and every refusal is in the audit."""
    machines = metal.call("GET", "/v1/machine").json
    networks = metal.call("GET", "/v1/network").json
    for body in (
        {"id": "n", "prefixes": ["203.0.113.0/24"], "destinationprefixes": [], "vrf": 5},
        {"id": "n", "prefixes": ["192.0.2.0/24", "203.0.113.0/25"], "destinationprefixes": []},
        {"id": "n", "prefixes": ["192.0.2.0/24"], "destinationprefixes": ["x"], "vrf": 6},
    ):
        assert metal.call("PUT", "/v1/network", body).status in {400, 422}
    assert metal.call("GET", "/v1/network").json == networks
    made = {"id": "n", "prefixes": ["192.0.2.0/24"], "destinationprefixes": [], "vrf": 6}
    assert metal.call("PUT", "/v1/network", made).status == 201
    assert metal.call("DELETE", "/v1/network/n").status == 200
    assert metal.call("GET", "/v1/machine").json == machines

    async def refusals(site: Site) -> int:
        now = site.clock.wall()
        wanted = Search(
            since=now.replace(year=2000),
            until=now,
            exact={"phase": "response"},
            part={"path": "/v1/network"},
            words={},
        )
        found = await site.store.read(lambda reader: search(reader, wanted))
        return sum(each.status_code >= 400 for each in found)

    assert metal.run(refusals) == 3
