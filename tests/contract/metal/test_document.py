# SPDX-License-Identifier: Apache-2.0
"""Our own document of the interface, held against what the original's client library knows."""

import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import jsonschema_rs
import metal_python.models  # type: ignore[import-untyped]  # has no types
import pytest

from contract.metal.story import apis
from kits.metal import replica

Json = dict[str, Any]
# Fields of requests that only the database sets: the library's models share them with answers.
BY_THE_DATABASE = {"changed", "created"}


@dataclass(frozen=True)
class Known:
    """An operation as the library has it."""

    name: str
    method: str
    path: str
    body: str
    answer: str


def known_operations() -> list[Known]:
    found = []
    for name, kind in apis().items():
        source = inspect.getsource(getattr(kind, f"{name}_with_http_info"))
        call = re.search(r"call_api\(\s*'([^']+)', '([A-Z]+)'", source)
        assert call is not None, name
        answer = re.search(r"response_type=(?:'([^']+)'|None)", source)
        body = re.search(r":param (\w+) body:", source)
        found.append(
            Known(
                name=name,
                path=call[1],
                method=call[2].lower(),
                body=body[1] if body else "",
                answer=(answer[1] or "") if answer else "",
            )
        )
    return found


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[Json, Json]]:
    with replica() as metal:
        yield metal.call("GET", "/openapi.json").json, metal.call("GET", "/apidocs.json").json


def test_every_operation_of_the_library_is_in_both_forms_of_the_document(
    served: tuple[Json, Json],
) -> None:
    for document in served:
        for known in known_operations():
            assert known.method in document["paths"][known.path], known
            described = document["paths"][known.path][known.method]
            assert re.sub(r"\W", "", described["operationId"]).lower() == (
                known.name.replace("_", "").lower()
            )


def resolved(document: Json, schema: Json) -> Json:
    """A schema without references and without null at its top."""
    while "$ref" in schema:
        place: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            place = place[part]
        schema = cast("Json", place)
    options = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    return resolved(document, options[0]) if len(options) == 1 else schema


def compare(
    document: Json, schema: Json, model: str, where: str, faults: set[str], *, is_answer: bool
) -> int:
    """Collect the fields of a model that a schema does not have; return how many were compared."""
    listed = re.fullmatch(r"list\[(.+)\]", model)
    schema = resolved(document, schema)
    if listed:
        return compare(document, schema["items"], listed[1], where, faults, is_answer=is_answer)
    mapped = re.fullmatch(r"dict\(str, (.+)\)", model)
    if mapped:
        inner = schema.get("additionalProperties", {})
        return compare(document, inner, mapped[1], f"{where}.*", faults, is_answer=is_answer)
    kind = getattr(metal_python.models, model, None)
    if kind is None or not hasattr(kind, "attribute_map"):
        return 0
    count = 0
    properties = schema.get("properties", {})
    for attribute, wire in kind.attribute_map.items():
        here = f"{where}.{wire}"
        count += 1
        if wire not in properties:
            if is_answer or wire not in BY_THE_DATABASE:
                faults.add(here)
            continue
        if here.count(".") < 8:  # interfaces have neighbours that have neighbours
            inner = properties[wire]
            kind_of = kind.swagger_types[attribute]
            count += compare(document, inner, kind_of, here, faults, is_answer=is_answer)
    return count


def test_every_field_that_the_library_reads_is_in_our_answers(served: tuple[Json, Json]) -> None:
    document = served[0]
    faults: set[str] = set()
    count = 0
    for known in known_operations():
        described = document["paths"][known.path][known.method]
        success = next(each for code, each in described["responses"].items() if code[0] == "2")
        if known.answer and known.answer != "V1EmptyBody":
            schema = success["content"]["application/json"]["schema"]
            count += compare(document, schema, known.answer, known.name, faults, is_answer=True)
    assert sorted(faults) == []
    assert count > 5000


def test_every_field_that_the_library_sends_is_taken(served: tuple[Json, Json]) -> None:
    document = served[0]
    faults: set[str] = set()
    count = 0
    for known in known_operations():
        described = document["paths"][known.path][known.method]
        if not known.body or known.body == "V1EmptyBody":
            continue
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        count += compare(document, schema, known.body, known.name, faults, is_answer=False)
    assert sorted(faults) == []
    assert count > 500


def test_what_the_library_requires_of_answers_is_required_by_us(served: tuple[Json, Json]) -> None:
    """Its models refuse an answer without these fields, so ours may never leave them out."""
    document = served[0]
    faults = set()
    for known in known_operations():
        described = document["paths"][known.path][known.method]
        success = next(each for code, each in described["responses"].items() if code[0] == "2")
        model = re.sub(r"list\[(.+)\]", r"\1", known.answer)
        kind = getattr(metal_python.models, model, None)
        if kind is None or "content" not in success or model == "V1EmptyBody":
            continue
        schema = resolved(document, success["content"]["application/json"]["schema"])
        schema = resolved(document, schema["items"]) if "items" in schema else schema
        for attribute, wire in kind.attribute_map.items():
            setter = inspect.getsource(getattr(kind, attribute).fset)
            if "must not be `None`" in setter and wire not in schema.get("required", []):
                faults.add(f"{known.name}.{wire}")
    assert sorted(faults) == []


def test_the_schemas_of_the_document_are_schemas(served: tuple[Json, Json]) -> None:
    document = served[0]
    assert document["openapi"].startswith("3.1")
    for name, schema in document["components"]["schemas"].items():
        whole = {**schema, "components": document["components"]}
        jsonschema_rs.validator_for(whole), name  # raises when it is none


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, each in value.items():
            if name == "$ref":
                yield each
            else:
                yield from references(each)
    elif isinstance(value, list):
        for each in value:
            yield from references(each)


def test_both_forms_refer_only_to_what_they_define(served: tuple[Json, Json]) -> None:
    modern, older = served
    for document, prefix, defined in (
        (modern, "#/components/schemas/", modern["components"]["schemas"]),
        (older, "#/definitions/", older["definitions"]),
    ):
        for reference in references(document):
            assert reference.startswith(prefix)
            assert reference.removeprefix(prefix) in defined


def test_the_older_form_says_nothing_that_only_the_newer_can(served: tuple[Json, Json]) -> None:
    older = served[1]
    assert older["swagger"] == "2.0"
    text = str(older)
    for word in ("anyOf", "'null'", "requestBody", "components", "'content'"):
        assert word not in text, word
    for methods in older["paths"].values():
        for described in methods.values():
            for parameter in described["parameters"]:
                assert ("schema" in parameter) == (parameter["in"] == "body"), parameter
                assert parameter["in"] == "body" or "type" in parameter, parameter
