# SPDX-License-Identifier: Apache-2.0
"""Whatever is sent is answered: done, or refused with a reason, never with an error of ours."""

import asyncio
from typing import Any
from urllib.parse import quote

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec import inspect

from metropolis.metal.http import (
    images,
    layouts,
    partitions,
    size_image_constraints,
    size_reservations,
    sizes,
)
from metropolis.metal.http.operation import Nothing, Operation
from metropolis.metal.seed import SHOP, seed
from metropolis.metal.settings import Settings
from unit.metal.http.client import Client, serving
from unit.metal.inventory.site import MACHINE, run

OPERATIONS: tuple[Operation[Any, Any], ...] = (
    *images.OPERATIONS,
    *layouts.OPERATIONS,
    *partitions.OPERATIONS,
    *size_image_constraints.OPERATIONS,
    *size_reservations.OPERATIONS,
    *sizes.OPERATIONS,
)
CALLS_MAX = 30

texts = st.one_of(
    st.sampled_from(
        [
            "mini-lab", "v1-small-x86", "c1-large-x86", "ubuntu-24.04", "ubuntu-24.04.20261110",
            "alpine-3.20.1", "a", "b", SHOP, MACHINE, "default-sata", "shop-sales-day", "ubuntu",
            ">= 1.2.3", "*", "~ 1", "^ 0", "/dev/sda", "/dev/sda1", "/dev/nvme*", "http://x.example/",
            "10.0.0.1", "ntp.example", "10.0.0.1:3333", "'; DROP TABLE entity; --", "", " ", "..",
            "../..", "%", "%00", "\U0001f600", "\ud7ff", "a" * 300, "[", "1" * 25, "-1",
        ]
    ),
    st.text(max_size=12),
)  # fmt: skip
numbers = st.one_of(
    st.sampled_from([0, 1, 2, 8, 2**31, 2**32, 2**62, 2**63, 2**64 - 1, 2**64, -1]),
    st.integers(-10, 10),
)
anything = st.one_of(st.none(), st.booleans(), numbers, texts, st.just([]), st.just({}))


def values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    """Values of a type, mostly."""
    return st.one_of(_values(kind), _values(kind), _values(kind), anything)


def _values(kind: inspect.Type) -> st.SearchStrategy[Any]:
    match kind:
        case inspect.StructType():
            required = {f.encode_name: values(f.type) for f in kind.fields if f.required}
            optional = {f.encode_name: values(f.type) for f in kind.fields if not f.required}
            return st.fixed_dictionaries(required, optional=optional)
        case inspect.UnionType():
            return st.one_of([_values(each) for each in kind.types])
        case inspect.VarTupleType() | inspect.ListType():
            return st.lists(_values(kind.item_type), max_size=3)
        case inspect.DictType():
            return st.dictionaries(texts, _values(kind.value_type), max_size=2)
        case inspect.LiteralType():
            return st.sampled_from(list(kind.values))
        case inspect.IntType():
            return numbers
        case inspect.StrType():
            return texts
        case inspect.BoolType():
            return st.booleans()
        case inspect.NoneType():
            return st.none()
        case inspect.DateTimeType():
            return st.sampled_from(["2026-11-20T12:00:00Z", "2026-11-20T12:00:00", "now"])
        case _:
            raise AssertionError(kind)


@st.composite
def calls(draw: st.DrawFn) -> tuple[str, str, Any]:
    operation = draw(st.sampled_from(OPERATIONS))
    path = operation.path
    if "{id}" in path:
        path = path.replace("{id}", quote(draw(texts), safe=""))
    if operation.body is Nothing:
        return operation.method, path, None
    return operation.method, path, draw(values(inspect.type_info(operation.body)))


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(calls(), min_size=CALLS_MAX // 2, max_size=CALLS_MAX))
def test_no_call_meets_an_error_of_ours(story: list[tuple[str, str, Any]]) -> None:
    async def scenario() -> None:
        async with serving(settings=Settings(check_urls=False)) as client:
            await seed(client.site)
            for method, path, body in story:
                try:
                    raw = b"" if body is None else msgspec.json.encode(body)
                except (OverflowError, UnicodeEncodeError):
                    continue  # what no client can send either
                answer = await client.call(method, path, raw=raw)
                assert answer.status < 500, (method, path, body, answer.body)
                if answer.status >= 400:
                    assert answer.message

    asyncio.run(scenario())


def test_a_required_list_that_is_null_is_empty_as_programs_in_go_mean_it() -> None:
    async def scenario(client: Client) -> None:
        calls: list[tuple[str, str, dict[str, Any], str, Any]] = [
            ("PUT", "/v1/size", {"id": "bare", "constraints": None}, "constraints", []),
            ("PUT", "/v1/size-image-constraint",
             {"id": "bare", "constraints": {"images": None}}, "constraints", {"images": {}}),
            ("POST", "/v1/switch/leaf01/notify",
             {"sync_duration": 1, "error": None, "port_states": None}, "id", "leaf01"),
            ("POST", "/v1/partition",
             {"id": "mini-lab", "dns_servers": None, "ntp_servers": None}, "id", "mini-lab"),
        ]  # fmt: skip
        for method, path, body, field, value in calls:
            answer = await client.call(method, path, body)
            assert answer.status < 300, (path, answer.body)
            assert answer.json[field] == value

    run(scenario)
