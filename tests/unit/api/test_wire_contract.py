# SPDX-License-Identifier: Apache-2.0
"""The generated descriptors say exactly what the table of names and numbers says.

`tests/golden/wire_contract.txt` was written from the published interface, not from our own proto
files; a line changes only when the interface does. Lines, each sorted among its like:

    message  <full name>
    field    <message> <number> <name> singular|optional|repeated <type> [oneof=<name>]
    reserved <message> <number>
    value    <enum> <number> <name>
    rpc      <path> <cardinality> <request> <response> <permissions>|anybody|any-peer|unstated
"""

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2

import metropolis.api

ROOM = Path(metropolis.api.__file__).parent
GOLDEN = Path(__file__).parents[2] / "golden" / "wire_contract.txt"
OURS = "metropolis.ext."
Field = descriptor_pb2.FieldDescriptorProto


def kind_of(field: Field) -> str:
    if field.type in {Field.TYPE_MESSAGE, Field.TYPE_ENUM}:
        return field.type_name.removeprefix(".")
    return Field.Type.Name(field.type).removeprefix("TYPE_").lower()


def field_lines(message: str, description: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    for field in description.field:
        label, oneof = "singular", ""
        if field.label == Field.LABEL_REPEATED:
            label = "repeated"
        elif field.proto3_optional:
            label = "optional"
        elif field.HasField("oneof_index"):
            oneof = f" oneof={description.oneof_decl[field.oneof_index].name}"
        kind = kind_of(field)
        yield f"field {message} {field.number} {field.name} {label} {kind}{oneof}"


def enum_lines(scope: str, enum: descriptor_pb2.EnumDescriptorProto) -> Iterator[str]:
    for value in enum.value:
        yield f"value {scope}.{enum.name} {value.number} {value.name}"


def message_lines(scope: str, message: descriptor_pb2.DescriptorProto) -> Iterator[str]:
    name = f"{scope}.{message.name}"
    yield f"message {name}"
    yield from field_lines(name, message)
    for span in message.reserved_range:
        for number in range(span.start, span.end):
            yield f"reserved {name} {number}"
    for enum in message.enum_type:
        yield from enum_lines(name, enum)
    for nested in message.nested_type:
        yield from message_lines(name, nested)


def generated_files() -> Iterator[descriptor_pb2.FileDescriptorProto]:
    for path in sorted(ROOM.glob("*_pb2.py")):
        module = importlib.import_module(f"metropolis.api.{path.stem}")
        yield descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)


def method_lines() -> Iterator[str]:
    permissions = importlib.import_module("metropolis.api.authorization_pb2").Permission
    for path in sorted(ROOM.glob("rpc_*.py")):
        module = importlib.import_module(f"metropolis.api.{path.stem}")
        services = [value for value in vars(module).values() if hasattr(value, "SERVICE")]
        for method in (method for service in services for method in service.ALL):
            if method.needs is None:
                who = "unstated"
            elif method.needs:
                who = ",".join(permissions.Name(need) for need in method.needs)
            else:
                who = "anybody" if method.allow_unauthenticated else "any-peer"
            kinds = (method.request_type, method.response_type)
            request, response = (kind.DESCRIPTOR.full_name for kind in kinds)
            yield f"rpc {method.path} {method.cardinality.value} {request} {response} {who}"


def lines_of_the_generated_code() -> Iterator[str]:
    for file in generated_files():
        for enum in file.enum_type:
            yield from enum_lines(file.package, enum)
        for message in file.message_type:
            yield from message_lines(file.package, message)
    yield from method_lines()


def is_ours(line: str) -> bool:
    return line.split()[1].removeprefix("/").startswith(OURS)


@pytest.mark.parametrize("kind", ["message", "field", "reserved", "value", "rpc"])
def test_every_name_and_number_is_as_published(kind: str) -> None:
    published = {line for line in GOLDEN.read_text().splitlines() if line.startswith(f"{kind} ")}
    generated = {line for line in lines_of_the_generated_code() if line.startswith(f"{kind} ")}
    generated = {line for line in generated if not is_ours(line)}
    assert published, f"the table holds no {kind}"
    assert sorted(generated - published) == [], "generated, but not published"
    assert sorted(published - generated) == [], "published, but not generated"


def test_what_is_ours_lives_in_packages_of_ours() -> None:
    for file in generated_files():
        is_in_our_folder = file.name.startswith("metropolis/ext/")
        assert f"{file.package}.".startswith(OURS) == is_in_our_folder, file.name
    published = {line.split()[1] for line in GOLDEN.read_text().splitlines()}
    assert not any(name.startswith(OURS) for name in published)


def test_the_authorization_option_is_extension_1000_of_method_options() -> None:
    authorization_pb2 = importlib.import_module("metropolis.api.authorization_pb2")
    extension = authorization_pb2.DESCRIPTOR.extensions_by_name["authorization"]
    assert extension.full_name == "metropolis.proto.ext.authorization"
    assert extension.number == 1000
    assert extension.containing_type.full_name == "google.protobuf.MethodOptions"
    assert extension.message_type.full_name == "metropolis.proto.ext.Authorization"


def test_our_permissions_are_an_option_of_ours() -> None:
    permissions_pb2 = importlib.import_module("metropolis.api.permissions_pb2")
    extension = permissions_pb2.DESCRIPTOR.extensions_by_name["required"]
    assert extension.full_name == "metropolis.ext.required"
    assert extension.number == 50001
    assert extension.containing_type.full_name == "google.protobuf.MethodOptions"
