# SPDX-License-Identifier: Apache-2.0
"""Firmware: kept in an S3-compatible store, offered to machines."""

import asyncio
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError, UnavailableError
from metropolis.metal.rules.firmware import firmware, revisions
from metropolis.metal.s3 import S3Settings, S3Store
from metropolis.metal.seed import seed
from metropolis.metal.settings import Settings
from unit.metal.http.client import Answer, Client, serving
from unit.metal.inventory.s3_server import s3_server

MACHINE = "00000000-0000-0000-0000-000100000001"
BOARD = "/v1/firmware/bios/supermicro/x12sth-sys"


@pytest.fixture(scope="module", name="s3")
def _s3() -> Iterator[S3Settings]:
    with s3_server() as settings:
        yield settings


def run(settings: Settings, scenario: Callable[[Client], Awaitable[None]]) -> None:
    async def work() -> None:
        async with serving(settings=settings) as client:
            await seed(client.site)
            await scenario(client)

    asyncio.run(work())


async def upload(client: Client, path: str, content: bytes) -> Answer:
    boundary = "limit"
    body = (
        f'--{boundary}\r\ncontent-disposition: form-data; name="file"; filename="f"\r\n'
        "content-type: application/octet-stream\r\n\r\n"
    ).encode() + content + f"\r\n--{boundary}--\r\n".encode()  # fmt: skip
    headers = client.signed("PUT")
    headers["content-type"] = f"multipart/form-data; boundary={boundary}"
    return await client.call("PUT", path, raw=body, headers=headers)


async def messages(client: Client) -> list[Any]:
    rows = await client.site.store.read(
        lambda reader: reader.fetch("SELECT payload FROM outbox ORDER BY sequence")
    )
    return [msgspec.json.decode(row[0]) for row in rows]


def test_what_was_uploaded_is_listed_loaded_and_removed(s3: S3Settings) -> None:
    async def scenario(client: Client) -> None:
        content = bytes(range(256)) * 40_000  # more than one part of an upload
        uploaded = await upload(client, f"{BOARD}/2.5", content)
        assert (uploaded.status, uploaded.body) == (200, b"")
        listed = (await client.get("/v1/firmware?kind=bios")).json
        assert listed == {
            "revisions": {
                "bios": {
                    "VendorRevisions": {"supermicro": {"BoardRevisions": {"X12STH-SYS": ["2.5"]}}}
                }
            }
        }
        store = S3Store(s3)
        url = await store.presign("bios/supermicro/X12STH-SYS/2.5", valid_s=60)
        with await asyncio.to_thread(urllib.request.urlopen, url) as loaded:
            assert loaded.read() == content
        removed = await client.delete(f"{BOARD}/2.5", {})
        assert (removed.status, removed.body) == (200, b"")
        assert not await store.exists("bios/supermicro/X12STH-SYS/2.5")

    run(Settings(firmware=s3), scenario)


def test_a_machine_lists_what_there_is_for_its_board(s3: S3Settings) -> None:
    async def scenario(client: Client) -> None:
        await upload(client, f"{BOARD}/3.0", b"new")
        answer = await client.get(f"/v1/firmware?machine-id={MACHINE}")
        boards = answer.json["revisions"]["bios"]["VendorRevisions"]["supermicro"]
        assert boards == {"BoardRevisions": {"X12STH-SYS": ["3.0"]}}
        assert (await client.get("/v1/firmware?machine-id=nobody")).status == 404
        assert (await client.get("/v1/firmware?kind=nic")).status == 400
        await client.delete(f"{BOARD}/3.0", {})

    run(Settings(firmware=s3), scenario)


def test_a_board_that_no_machine_has_is_refused(s3: S3Settings) -> None:
    async def scenario(client: Client) -> None:
        answer = await upload(client, "/v1/firmware/bios/supermicro/x13/2.5", b"new")
        assert answer.status == 422
        assert "no machine has a board 'X13'" in answer.message
        assert await S3Store(s3).keys() == []

    run(Settings(firmware=s3), scenario)


def test_a_machine_is_told_to_update_from_a_url_that_works(s3: S3Settings) -> None:
    async def scenario(client: Client) -> None:
        await upload(client, "/v1/firmware/bmc/Supermicro/x12sth-sys/1.75", b"bmc firmware")
        path = f"/v1/machine/update-firmware/{MACHINE}"
        body = {"kind": "bmc", "revision": "1.75", "description": "because"}
        before = await messages(client)
        answer = await client.post(path, body)
        assert answer.status == 200
        assert answer.json["id"] == MACHINE
        (message,) = (await messages(client))[len(before) :]
        assert message["type"] == "command"
        assert message["cmd"]["target"] == MACHINE
        assert message["cmd"]["cmd"] == "UPDATE-FIRMWARE"
        update = message["cmd"]["firmwareupdate"]
        assert update["kind"] == "bmc"
        assert "X-Amz-Expires=7200" in update["url"]
        with await asyncio.to_thread(urllib.request.urlopen, update["url"]) as loaded:
            assert loaded.read() == b"bmc firmware"
        await client.delete("/v1/firmware/bmc/supermicro/x12sth-sys/1.75", {})

    run(Settings(firmware=s3), scenario)


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        ({"kind": "bios", "revision": "2.4", "description": ""}, 422, "revision 2.4 already"),
        ({"kind": "bmc", "revision": "1.74", "description": ""}, 422, "revision 1.74 already"),
        ({"kind": "bios", "revision": "9.9", "description": ""}, 422, "there is no bios revision"),
        ({"kind": "bios", "revision": "a/b", "description": ""}, 400, "revision"),
        ({"kind": "nic", "revision": "1", "description": ""}, 400, "kind"),
    ],
)
def test_an_update_that_cannot_be_is_refused_and_nobody_is_told(
    s3: S3Settings, body: Any, status: int, message: str
) -> None:
    async def scenario(client: Client) -> None:
        before = await messages(client)
        answer = await client.post(f"/v1/machine/update-firmware/{MACHINE}", body)
        assert answer.status == status
        assert message in answer.message
        assert await messages(client) == before

    run(Settings(firmware=s3), scenario)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/firmware"),
        ("PUT", f"{BOARD}/1"),
        ("DELETE", f"{BOARD}/1"),
        ("POST", f"/v1/machine/update-firmware/{MACHINE}"),
    ],
)
def test_without_a_store_every_operation_names_the_setting_that_is_missing(
    method: str, path: str
) -> None:
    async def scenario(client: Client) -> None:
        if method == "PUT":
            answer = await upload(client, path, b"x")
        else:
            body = {"kind": "bios", "revision": "1", "description": ""}
            answer = await client.call(method, path, body if method == "POST" else None)
        assert answer.status == 422
        assert "firmware-s3-endpoint" in answer.message

    run(Settings(), scenario)


def test_a_bucket_that_is_not_there_is_refused(s3: S3Settings) -> None:
    other = replace(s3, bucket="nowhere")
    with pytest.raises(FailedPreconditionError, match="bucket nowhere"):
        asyncio.run(S3Store(other).keys())


def test_a_store_that_is_not_there_is_unavailable() -> None:
    with s3_server() as gone:
        pass
    with pytest.raises(UnavailableError, match="cannot be used") as refused:
        asyncio.run(S3Store(gone).keys())
    assert "test-secret" not in f"{refused.value!r} {gone!r}"


names = st.text(min_size=1, max_size=8)


@given(names, names, names)
def test_every_name_is_refused_or_found_again(vendor: str, board: str, revision: str) -> None:
    try:
        named = firmware(kind="bios", vendor=vendor, board=board, revision=revision)
    except InvalidArgumentError:
        return
    quote(named.key)
    found = revisions([named.key], kind="bios", vendor=vendor, board=board)
    boards = found.revisions["bios"].by_vendor[named.vendor].by_board
    assert boards == {named.board: [revision]}
