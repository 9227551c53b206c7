# SPDX-License-Identifier: Apache-2.0
"""What every operation has in common: routes, roles, bodies, errors."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from metropolis.base.errors import (
    AbortedError,
    AlreadyExistsError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
    ResourceExhaustedError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.metal.access.role import Role
from metropolis.metal.http.operation import Call, Nothing, Operation, Reply, Upload
from metropolis.metal.settings import Settings
from unit.metal.http.client import Client, request, serving


class Thing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    size: int | None = None


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    size: int = 1
    force: bool = False
    tags: tuple[str, ...] = msgspec.field(name="tag", default=())


async def echo(call: Call[Any, Any]) -> Any:
    return call.body


async def look(call: Call[Nothing, Wanted]) -> Any:
    return {"path": dict(call.path), "query": call.query, "who": call.caller.email}


def operation(**more: Any) -> Operation[Any, Any]:
    settings: dict[str, Any] = {
        "id": "look",
        "method": "GET",
        "path": "/v1/thing/{id}",
        "role": Role.VIEW,
        "summary": "look",
        "handle": look,
        "answer": dict,
        "query": Wanted,
    }
    return Operation(**{**settings, **more})


MAKE = operation(
    id="make", method="PUT", path="/v1/thing", role=Role.EDIT, handle=echo, body=Thing,
    answer=Thing, query=Nothing, status=201,
)  # fmt: skip
FIND = operation(
    id="find", method="POST", path="/v1/thing/find", handle=echo, body=Thing, query=Nothing,
    answer=Thing, audited=False,
)  # fmt: skip
READ = operation(
    id="read", method="GET", path="/v1/thing/secret", handle=echo, body=Thing, query=Nothing,
    answer=Thing,
)  # fmt: skip
OPEN = operation(id="open", path="/v1/open", role=Role.NONE)
THINGS = (operation(), MAKE, FIND, READ, OPEN)


def run(scenario: Callable[[Client], Awaitable[None]], *operations: Any, **more: Any) -> None:
    async def whole() -> None:
        async with serving(operations or THINGS, **more) as client:
            await scenario(client)

    asyncio.run(whole())


def test_a_word_in_a_path_beats_a_parameter_and_parameters_are_decoded_after_the_split() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/v1/thing/secret", body={"name": "x"})).json["name"] == "x"
        answer = await client.get("/v1/thing/a%2Fb%20c")
        assert answer.json["path"] == {"id": "a/b c"}

    run(scenario)


def test_one_slash_at_the_end_is_tolerated_and_two_are_not() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.put("/v1/thing/", {"name": "x"})).status == 201
        assert (await client.put("/v1/thing//", {"name": "x"})).status == 404

    run(scenario)


def test_everything_is_below_the_base_path() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/metal/v1/thing/1")).status == 200
        assert "begins /metal/" in (await client.get("/v1/thing/1")).message

    run(scenario, settings=Settings(base_path="/metal/"))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v2/thing", 404),
        ("GET", "/v1/thing/1/2", 404),
        ("PATCH", "/v1/thing/1", 405),
        ("HEAD", "/v1/thing/1", 405),
    ],
)
def test_routers_errors_have_the_body_of_all_errors(method: str, path: str, status: int) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.call(method, path)
        assert answer.status == status
        assert answer.message
        if status == 405:
            assert answer.headers["allow"] == "GET"

    run(scenario)


def test_a_caller_needs_the_role_and_a_greater_one_passes() -> None:
    async def scenario(client: Client) -> None:
        for role, status in ((Role.VIEW, 403), (Role.EDIT, 201), (Role.ADMIN, 201)):
            answer = await client.put("/v1/thing", {"name": "x"}, role=role)
            assert answer.status == status
            if status == 403:
                assert "you are not member in one of [" in answer.message
                assert "maas-all-all-edit" in answer.message
        assert (await client.get("/v1/thing/1", role=Role.VIEW)).status == 200

    run(scenario)


def test_a_guest_sees_what_is_open_and_nothing_else() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/v1/open", headers={})).status == 200
        answer = await client.get("/v1/thing/1", headers={})
        assert answer.status == 403
        assert "tenant '' not allowed" in answer.message

    run(scenario)


@pytest.mark.parametrize(
    "authorization", ["Metal-Admin 00", "Basic eDp5", "Metal-Admin", "Bearer x"]
)
def test_bad_credentials_are_refused_but_where_none_are_needed(authorization: str) -> None:
    async def scenario(client: Client) -> None:
        headers = {"authorization": authorization, "x-date": "2026-11-20T12:00:00Z"}
        assert (await client.get("/v1/thing/1", headers=headers)).status == 403
        assert (await client.get("/v1/open", headers=headers)).status == 200

    run(scenario)


@pytest.mark.parametrize(
    ("raw", "named"),
    [
        (b'{"name":1}', "$.name"),
        (b'{"size":1}', "name"),
        (b'{"name":"x","color":"red"}', "color"),
        (b'{"name":"x"', "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"name":"\xff"}', "not JSON"),
        (b'"x"', "object"),
        (b"", "no body"),
        (b'{"name":"a\\u0000b"}', "NUL"),
        (b'{"name":' + b"[" * 100_000, "not"),
    ],
    ids=["type", "missing", "unknown", "cut", "binary", "no text", "kind", "none", "nul", "deep"],
)
def test_a_body_that_does_not_fit_is_refused_with_what_is_wrong(raw: bytes, named: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.call("PUT", "/v1/thing", raw=raw)
        assert answer.status == 400
        assert named in answer.message

    run(scenario)


def test_a_backslash_before_u0000_is_no_nul() -> None:
    async def scenario(client: Client) -> None:
        answer = await client.call("PUT", "/v1/thing", raw=b'{"name":"\\\\u0000"}')
        assert answer.json["name"] == "\\u0000"

    run(scenario)


def test_nulls_of_optional_fields_are_fine() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.put("/v1/thing", {"name": "x", "size": None})).status == 201

    run(scenario)


def test_the_body_of_a_get_is_read_where_the_interface_has_one() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.get("/v1/thing/secret", body={"name": "y"})).json["name"] == "y"
        assert (await client.get("/v1/thing/secret")).status == 400
        assert (await client.get("/v1/thing/1", raw=b"anything")).status == 200

    run(scenario)


def test_long_bodies_are_refused_announced_or_not() -> None:
    async def scenario(client: Client) -> None:
        assert (await client.put("/v1/thing", {"name": "x" * 200})).status == 413
        sent = {**client.signed("PUT"), "content-type": "application/json"}
        answer = await request(
            client.application, "PUT", "/v1/thing", headers=sent, chunks=[b'"', b"x" * 99, b'"']
        )
        assert answer.status == 413
        assert (await client.put("/v1/thing", {"name": "x" * 80})).status == 201

    run(scenario, settings=Settings(body_bytes_max=100))


def test_types_that_are_not_json_are_refused() -> None:
    async def scenario(client: Client) -> None:
        body = b'{"name":"x"}'
        for sent, status in (
            ({"content-type": "text/plain"}, 415),
            ({"content-type": "application/json; charset=utf-8"}, 201),
            ({"accept": "text/html"}, 406),
            ({"accept": "text/html, application/*;q=0.5"}, 201),
        ):
            headers = {**client.signed("PUT"), **sent}
            answer = await client.call("PUT", "/v1/thing", raw=body, headers=headers)
            assert answer.status == status, sent
            assert answer.body

    run(scenario)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("size=x", "size"),
        ("colour=red", "size, tag"),
        ("force=perhaps", "force"),
        ("a=%ff", "UTF-8"),
    ],
)
def test_a_query_that_does_not_fit_is_refused_with_what_is_known(query: str, named: str) -> None:
    async def scenario(client: Client) -> None:
        answer = await client.get(f"/v1/thing/1?{query}")
        assert answer.status == 400
        assert named in answer.message

    run(scenario)


def test_query_parameters_get_their_types() -> None:
    async def scenario(client: Client) -> None:
        answer = await client.get("/v1/thing/1?size=7&force=true&tag=a&tag=b")
        assert answer.json["query"] == {"size": 7, "force": True, "tag": ["a", "b"]}

    run(scenario)


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidArgumentError, 400),
        (UnauthenticatedError, 403),
        (PermissionDeniedError, 403),
        (NotFoundError, 404),
        (AlreadyExistsError, 409),
        (AbortedError, 409),
        (FailedPreconditionError, 422),
        (ResourceExhaustedError, 422),
        (InternalError, 500),
        (UnavailableError, 503),
    ],
)
def test_errors_have_their_status_and_say_what_to_do(
    error: type[MetropolisError], status: int
) -> None:
    async def fail(_call: Call[Any, Any]) -> Any:
        raise error("it went wrong", remedy="Do it right.")

    async def scenario(client: Client) -> None:
        answer = await client.get("/v1/thing/1")
        assert answer.status == status
        assert answer.message == "it went wrong. Do it right."

    run(scenario, operation(handle=fail))


def test_a_surprise_is_logged_with_the_request_and_tells_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail(_call: Call[Any, Any]) -> Any:
        raise RuntimeError("the inner secret")

    async def scenario(client: Client) -> None:
        headers = {**client.signed("GET"), "x-request-id": "my-request"}
        answer = await client.get("/v1/thing/1", headers=headers)
        assert answer.status == 500
        assert "my-request" in answer.message
        assert "secret" not in answer.message

    with caplog.at_level(logging.ERROR):
        run(scenario, operation(handle=fail))
    assert "my-request" in caplog.text
    assert "the inner secret" in caplog.text


def test_a_request_has_the_id_its_client_gave_or_a_new_one() -> None:
    async def scenario(client: Client) -> None:
        given = await client.get("/v1/open", headers={"x-request-id": "abc-1"})
        assert given.headers["x-request-id"] == "abc-1"
        made = [
            (await client.get("/v1/open", headers={"x-request-id": sent})).headers["x-request-id"]
            for sent in ("", "two words", "x" * 129)
        ]
        assert len(set(made)) == 3
        assert all(each[14] == "7" for each in made)

    run(scenario)


def test_browsers_are_told_what_they_may_send() -> None:
    async def scenario(client: Client) -> None:
        answer = await client.call("OPTIONS", "/v1/thing", headers={"origin": "https://ui.example"})
        assert answer.status == 200
        assert answer.headers["access-control-allow-origin"] == "https://ui.example"
        assert answer.headers["access-control-allow-methods"] == "GET, POST, PUT, DELETE"
        assert (
            answer.headers["access-control-allow-headers"] == "Content-Type, Accept, Authorization"
        )
        assert "access-control-allow-credentials" not in answer.headers

    run(scenario)


def test_a_handler_may_answer_with_a_status_of_its_own() -> None:
    async def make(_call: Call[Any, Any]) -> Reply:
        return Reply(value={"new": True}, status=201, headers={"x-made": "yes"})

    async def scenario(client: Client) -> None:
        answer = await client.get("/v1/thing/1")
        assert (answer.status, answer.headers["x-made"]) == (201, "yes")

    run(scenario, operation(handle=make))


def test_a_file_comes_as_a_part_of_a_form() -> None:
    async def keep(call: Call[Upload, Any]) -> Any:
        return {"text": call.body.file.read().decode(), "size": call.body.size_bytes}

    form = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\nfirmware\r\n--b--'
    )

    async def scenario(client: Client) -> None:
        kind = {"content-type": "multipart/form-data; boundary=b"}
        sent = {**client.signed("PUT"), **kind}
        answer = await client.call("PUT", "/v1/file", raw=form, headers=sent)
        assert answer.json == {"text": "firmware", "size": 8}
        for raw, more, status in (
            (form.replace(b'"file"', b'"other"'), kind, 400),
            (b"nonsense", kind, 400),
            (form, {"content-type": "multipart/form-data"}, 400),
            (form, {"content-type": "application/json"}, 415),
            (form + b" " * 1000, kind, 413),
        ):
            headers = {**client.signed("PUT"), **more}
            assert (await client.call("PUT", "/v1/file", raw=raw, headers=headers)).status == status

    upload = operation(
        id="up", method="PUT", path="/v1/file", handle=keep, body=Upload, query=Nothing
    )
    run(scenario, upload, settings=Settings(upload_bytes_max=500))
