# SPDX-License-Identifier: Apache-2.0
"""The document of the interface, made from the table of operations and the types they name.

Two forms: OpenAPI 3.1 at `openapi.json`, and at `apidocs.json` Swagger 2.0, which the original's
tools read. The second is the first said in older words: it cannot say that a field may be null.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, cast

import msgspec

from metropolis.metal.access.role import Role
from metropolis.metal.http.lists import LIMIT_MAX
from metropolis.metal.http.operation import Call, Nothing, Operation, Upload
from metropolis.metal.http.problem import HttpErrorResponse
from metropolis.metal.http.version import INTERFACE_VERSION

Json = dict[str, Any]
TITLE: Final = "metal-api"
_SUMMARY: Final = (
    "API to manage and control plane resources like machines, switches, operating system images,"
    " machine sizes, networks, IP addresses and more"
)
_REF: Final = "#/components/schemas/{name}"
_JSON: Final = "application/json"
_ADDITIONAL: Final[Mapping[str, Json]] = {
    "limit": {
        "description": "at most so many, ordered by id; the header x-next leads on",
        "schema": {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX},
    },
    "after": {
        "description": "only those with a greater id than this",
        "schema": {"type": "string"},
    },
    "filter": {
        "description": "<field>=<value>, dots between the fields of fields; may be given again",
        "schema": {"type": "array", "items": {"type": "string"}},
    },
    "watch": {
        "description": "a revision, or now: answer what changes after it, line by line",
        "schema": {"type": "string"},
    },
}
_SECURITY: Final[Json] = {
    "HMAC": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`<type> <hex>`: HMAC-SHA256 over X-Date, the method and X-Data-Salt.",
    },
    "jwt": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "`Bearer <token>`: of the identity provider, or an API token.",
    },
}


def document(
    operations: Sequence[Operation[Any, Any]],
    base_path: str,
    additional: Callable[[Operation[Any, Any]], frozenset[str]],
) -> Json:
    """Return the interface as OpenAPI 3.1.

    Args:
        additional: Which query parameters an operation takes beside its own.
    """
    types: list[Any] = [HttpErrorResponse]
    for operation in operations:
        types += [operation.answer, operation.query]
        types += [] if operation.body is Upload else [operation.body]
    schemas, components = msgspec.json.schema_components(types, ref_template=_REF)
    by_type = {id(kind): schema for kind, schema in zip(types, schemas, strict=True)}
    paths: dict[str, Json] = {}
    for operation in operations:
        names = additional(operation)
        described = _described(operation, by_type, components, names)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {"title": TITLE, "version": INTERFACE_VERSION, "description": _SUMMARY},
        "servers": [{"url": base_path.rstrip("/") or "/"}],
        "paths": paths,
        "components": {
            "schemas": {
                name: schema for name, schema in components.items() if name != Nothing.__name__
            },
            "securitySchemes": _SECURITY,
        },
    }


def _described(
    operation: Operation[Any, Any],
    by_type: Mapping[int, Json],
    components: Mapping[str, Json],
    additional: frozenset[str],
) -> Json:
    described: Json = {
        "operationId": operation.id,
        "summary": operation.summary,
        "tags": [operation.tag] if operation.tag else [],
        "parameters": [*_path_parameters(operation), *_query(operation, components, additional)],
        "responses": _responses(operation, by_type),
        "security": [] if operation.role is Role.NONE else [{"HMAC": []}, {"jwt": []}],
    }
    if operation.body is Upload:
        file = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
        described["requestBody"] = {
            "required": True,
            "content": {"multipart/form-data": {"schema": {**file, "required": ["file"]}}},
        }
    elif operation.body is not Nothing:
        content = {_JSON: {"schema": by_type[id(operation.body)]}}
        described["requestBody"] = {"required": True, "content": content}
    return described


def _path_parameters(operation: Operation[Any, Any]) -> list[Json]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in names
    ]


def _query(
    operation: Operation[Any, Any], components: Mapping[str, Json], additional: frozenset[str]
) -> list[Json]:
    found: list[Json] = []
    if operation.query is not Nothing:
        schema = next(
            each for name, each in components.items() if name.endswith(operation.query.__name__)
        )
        required = cast("list[str]", schema.get("required", []))
        properties = cast("dict[str, Json]", schema.get("properties", {}))
        found += [
            {"name": name, "in": "query", "required": name in required, "schema": _not_null(each)}
            for name, each in properties.items()
        ]
    found += [
        {"name": name, "in": "query", "required": False, **_ADDITIONAL[name]}
        for name in sorted(additional)
    ]
    return found


def _responses(operation: Operation[Any, Any], by_type: Mapping[int, Json]) -> Json:
    answer: Json = {"description": "OK" if operation.status == 200 else "Created"}  # noqa: PLR2004  # HTTP
    if operation.answer is not Nothing:
        answer["content"] = {_JSON: {"schema": by_type[id(operation.answer)]}}
    problem = {"$ref": _REF.format(name=HttpErrorResponse.__name__)}
    failure = {"description": "Error", "content": {_JSON: {"schema": problem}}}
    created = {**answer, "description": "Created"}
    documented = {
        str(code): failure if code >= 400 else created  # noqa: PLR2004  # HTTP
        for code in operation.errors
        if code != operation.status
    }
    if operation.id == "health":  # says in its own words that something is not well
        documented["500"] = {**answer, "description": "Unhealthy"}
    return {str(operation.status): answer, **documented, "default": failure}


def _not_null(schema: Json) -> Json:
    options = cast("list[Json]", schema.get("anyOf", []))
    kept = [each for each in options if each.get("type") != "null"]
    if not options or len(kept) != 1:
        return schema
    return {**{name: each for name, each in schema.items() if name != "anyOf"}, **kept[0]}


def swagger(modern: Json) -> Json:
    """Return a document of ours as Swagger 2.0."""
    components = cast("Json", modern["components"])
    paths = cast("dict[str, dict[str, Json]]", modern["paths"])
    base = str(modern["servers"][0]["url"])
    return {
        "swagger": "2.0",
        "info": modern["info"],
        "basePath": base,
        "consumes": [_JSON],
        "produces": [_JSON],
        "paths": {
            path: {method: _older(each) for method, each in methods.items()}
            for path, methods in paths.items()
        },
        "definitions": _older_schema(components["schemas"]),
        "securityDefinitions": components["securitySchemes"],
    }


def _older(operation: Json) -> Json:
    parameters = [
        {
            **{name: each for name, each in parameter.items() if name != "schema"},
            **_older_schema(_not_null(cast("Json", parameter["schema"]))),
        }
        for parameter in cast("list[Json]", operation["parameters"])
    ]
    older = {name: each for name, each in operation.items() if name != "requestBody"}
    body = cast("Json | None", operation.get("requestBody"))
    if body is not None and _JSON in body["content"]:
        schema = _older_schema(body["content"][_JSON]["schema"])
        parameters.append({"name": "body", "in": "body", "required": True, "schema": schema})
    elif body is not None:
        older["consumes"] = ["multipart/form-data"]
        parameters.append({"name": "file", "in": "formData", "required": True, "type": "file"})
    responses: Json = {}
    for status, response in cast("dict[str, Json]", operation["responses"]).items():
        answer: Json = {"description": response["description"]}
        if "content" in response:
            answer["schema"] = _older_schema(response["content"][_JSON]["schema"])
        responses[status] = answer
    return {**older, "parameters": parameters, "responses": responses}


def _older_schema(value: Any) -> Any:  # noqa: ANN401  # any JSON
    if isinstance(value, list):
        return [_older_schema(each) for each in cast("list[object]", value)]
    if not isinstance(value, dict):
        return value
    schema = _not_null(cast("Json", value))
    older: Json = {}
    for name, each in schema.items():
        if name == "$ref":
            older[name] = str(each).replace("#/components/schemas/", "#/definitions/")
        elif name == "default" and each is None:
            continue
        elif name in {"exclusiveMinimum", "exclusiveMaximum"}:
            older[name.removeprefix("exclusive").lower()] = each
            older[name] = True
        else:
            older[name] = _older_schema(each)
    return older


def documents(modern: Json) -> tuple[Operation[Any, Any], ...]:
    """Return the operations that serve a document, in both forms."""
    return (
        _serving("openapi", "/openapi.json", modern),
        _serving("apidocs", "/apidocs.json", swagger(modern)),
    )


def _serving(name: str, path: str, content: Json) -> Operation[Any, Any]:
    encoded = msgspec.Raw(msgspec.json.encode(content))

    async def handle(_call: Call[Nothing, Nothing]) -> msgspec.Raw:
        return encoded

    return Operation[Nothing, Nothing](
        id=name,
        method="GET",
        path=path,
        role=Role.NONE,
        summary="the document of this interface",
        handle=handle,
        answer=dict[str, Any],
    )
