# SPDX-License-Identifier: Apache-2.0
"""The generator, and what it promises about the room it writes."""

import importlib.util
import pickle
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any, Final, assert_type

import pytest
from google.protobuf import descriptor_pb2

from metropolis.api import (
    authorization_pb2,
    common_pb2,
    curator_pb2,
    enrolment_pb2,
    etcd_pb2,
    introspection_pb2,
    management_pb2,
    private_pb2,
    storage_pb2,
)
from metropolis.api.methods import Cardinality, Method
from metropolis.api.rpc_curator import Curator, CuratorLocal
from metropolis.api.rpc_debug import NodeDebugService
from metropolis.api.rpc_etcd import EtcdCluster, EtcdKv, EtcdLease, EtcdMaintenance, EtcdWatch
from metropolis.api.rpc_introspection import Introspection
from metropolis.api.rpc_management import Management, NodeManagement

ROOT = Path(__file__).parents[3]
GENERATE = ROOT / "tools" / "generate.py"
SECRET_NAMES = re.compile(r"private_key|unlock_key|ticket|password|opaque")


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate", GENERATE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def test_the_committed_code_is_what_the_proto_files_say() -> None:
    done = subprocess.run(
        [sys.executable, GENERATE, "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_changed_missing_and_forgotten_files_are_named(generate: ModuleType) -> None:
    old = {"a.py": "1\n2\n", "b.py": "", "c.py": "same"}
    new = {"a.py": "1\n3\n4\n", "c.py": "same", "d.py": ""}
    assert list(generate.differences(old, new)) == [
        "a.py: +2 -1 lines",
        "b.py: not generated from anything",
        "d.py: missing",
    ]


@pytest.mark.parametrize(
    ("method", "constant"),
    [
        ("GetNodes", "GET_NODES"),
        ("GetCACertificate", "GET_CA_CERTIFICATE"),
        ("Txn", "TXN"),
        ("LeaseTimeToLive", "LEASE_TIME_TO_LIVE"),
    ],
)
def test_methods_become_constants_in_upper_snake_case(
    generate: ModuleType, method: str, constant: str
) -> None:
    assert generate.upper_snake(method) == constant


def test_only_our_own_imports_are_moved_into_the_room(generate: ModuleType) -> None:
    text = (
        "from google.protobuf import duration_pb2 as _duration_pb2\n"
        "from osbase.net.proto import net_pb2 as _net_pb2\n"
        "Build(X, 'version.spec.spec_pb2', _globals)\n"
    )
    assert generate.into_room(text) == (
        "from google.protobuf import duration_pb2 as _duration_pb2\n"
        "from metropolis.api import net_pb2 as _net_pb2\n"
        "Build(X, 'metropolis.api.version_pb2', _globals)\n"
    )


def test_messages_know_the_module_they_live_in() -> None:
    node = management_pb2.Node(id="metropolis-1")
    assert type(node).__module__ == "metropolis.api.management_pb2"
    assert pickle.loads(pickle.dumps(node)) == node


def test_importing_method_descriptions_imports_no_messages() -> None:
    program = (
        "import sys, metropolis.api.methods\nprint([m for m in sys.modules if 'protobuf' in m])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_a_method_says_its_service_name_and_direction() -> None:
    method = Management.GET_NODES
    assert method.path == "/metropolis.proto.api.Management/GetNodes"
    assert method.service == Management.SERVICE == "metropolis.proto.api.Management"
    assert method.name == "GetNodes"
    assert method.needs == (authorization_pb2.PERMISSION_READ_CLUSTER_STATUS,)
    assert (method.cardinality.client_streaming, method.cardinality.server_streaming) == (
        False,
        True,
    )
    assert CuratorLocal.GET_CA_CERTIFICATE.allow_unauthenticated
    assert Curator.ISSUE_CERTIFICATE.needs == ()
    assert not Curator.ISSUE_CERTIFICATE.allow_unauthenticated
    assert NodeDebugService.LOAD_IMAGE.needs is None
    assert NodeDebugService.LOAD_IMAGE.cardinality.client_streaming
    assert EtcdWatch.WATCH.cardinality is Cardinality.STREAM_STREAM


SERVICES: Final = (
    Management,
    NodeManagement,
    Curator,
    CuratorLocal,
    NodeDebugService,
    Introspection,
    EtcdKv,
    EtcdWatch,
    EtcdLease,
    EtcdCluster,
    EtcdMaintenance,
)


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.__name__)
def test_the_methods_of_a_service_are_all_its_constants(service: Any) -> None:
    constants = [value for value in vars(service).values() if isinstance(value, Method)]
    assert list(service.ALL) == constants
    assert {method.service for method in service.ALL} == {service.SERVICE}


def test_our_own_service_is_for_those_who_may_read_the_cluster() -> None:
    assert [method.name for method in Introspection.ALL] == [
        "GetSupervisionTree",
        "ExplainNode",
        "GetConsensusHealth",
    ]
    for method in Introspection.ALL:
        assert method.needs == (authorization_pb2.PERMISSION_READ_CLUSTER_STATUS,)


def secrets(message: descriptor_pb2.DescriptorProto) -> dict[str, bool]:
    text = {
        descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
        descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    }
    found = {
        f"{message.name}.{field.name}": field.options.debug_redact
        for field in message.field
        if field.type in text and SECRET_NAMES.search(field.name)
    }
    for nested in message.nested_type:
        found |= secrets(nested)
    return found


def test_every_field_that_holds_a_secret_is_marked_as_such() -> None:
    marked: dict[str, bool] = {}
    for module in (curator_pb2, enrolment_pb2, management_pb2, private_pb2, storage_pb2):
        file = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
        for message in file.message_type:
            marked |= secrets(message)
    assert len(marked) > 10
    assert [name for name, is_marked in marked.items() if not is_marked] == []


def test_strictly_typed_callers_are_understood() -> None:
    """Nothing happens at run time; the type checker judges each line."""
    assert_type(Management.GET_NODES, Method[management_pb2.GetNodesRequest, management_pb2.Node])
    assert_type(EtcdKv.TXN.request_type, type[etcd_pb2.TxnRequest])
    assert_type(common_pb2.NodeStatus().boot_id, bytes)
    assert_type(
        introspection_pb2.ExplainNodeResponse().node.health, management_pb2.Node.Health.ValueType
    )
    with pytest.raises(TypeError):
        curator_pb2.Node(id=7)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no_such_field"):
        curator_pb2.Node(no_such_field=1)  # type: ignore[call-arg]
