# SPDX-License-Identifier: Apache-2.0
"""What a node may announce about itself."""

import base64

import pytest

from metropolis.api.common_pb2 import NodeClusterNetworking, NodeStatus
from metropolis.api.version_pb2 import Version
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.cluster.planner.networking import check_networking, check_status

KEY = base64.b64encode(b"\x07" * 32).decode()


def announce(*cidrs: str, key: str = KEY, address: str = "192.0.2.1", taken: str = "") -> None:
    networking = NodeClusterNetworking(
        wireguard_pubkey=key, prefixes=[NodeClusterNetworking.Prefix(cidr=c) for c in cidrs]
    )
    check_networking(networking, external_address=address, taken_keys=[taken])


@pytest.mark.parametrize(
    "cidr", ["10.192.0.0/11", "10.192.4.0/24", "10.223.255.255/32", "192.0.2.1/32"]
)
def test_pod_prefixes_and_the_own_address_may_be_announced(cidr: str) -> None:
    announce(cidr)


def test_the_own_address_may_be_of_the_sixth_version() -> None:
    announce("2001:db8::1/128", address="2001:db8::1")


@pytest.mark.parametrize(
    "cidr",
    [
        "10.192.4.1/24",
        "10.192.4.0/255.255.255.0",
        "10.192.4.0",
        "10.160.0.0/11",
        "10.0.0.0/8",
        "192.0.2.2/32",
        "192.0.2.0/31",
        "0.0.0.0/0",
        "2001:db8::1/128",
        "",
        "x" * 10_000,
    ],
)
def test_nothing_else_may_be_announced(cidr: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        announce(cidr)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "key", ["", "x", KEY[:-4], KEY[:-2] + "=", " " + KEY, KEY + "\n", KEY[:-2] + "d=", "é" * 44]
)
def test_a_wireguard_key_is_32_bytes_in_one_spelling(key: str) -> None:
    with pytest.raises(InvalidArgumentError, match="base64"):
        announce(key=key)


def test_two_nodes_cannot_share_a_wireguard_key() -> None:
    with pytest.raises(InvalidArgumentError, match="another node"):
        announce(taken=KEY)


def test_a_node_reports_its_address_before_its_prefixes() -> None:
    with pytest.raises(FailedPreconditionError):
        announce("10.192.4.0/24", address="")


def test_the_number_of_prefixes_is_bounded() -> None:
    with pytest.raises(InvalidArgumentError):
        announce(*["10.192.4.0/24"] * 65)


@pytest.mark.parametrize("address", ["192.0.2.1", "2001:db8::1"])
def test_a_status_needs_a_literal_address(address: str) -> None:
    check_status(NodeStatus(external_address=address, boot_id=b"b" * 16))


@pytest.mark.parametrize(
    "status",
    [
        NodeStatus(),
        NodeStatus(external_address="node.example"),
        NodeStatus(external_address="fe80::1%eth0"),
        NodeStatus(external_address="192.0.2.1", boot_id=b"short"),
        NodeStatus(
            external_address="192.0.2.1", running_curator=NodeStatus.RunningCurator(port=65536)
        ),
        NodeStatus(
            external_address="192.0.2.1", running_curator=NodeStatus.RunningCurator(port=-1)
        ),
        NodeStatus(
            external_address="192.0.2.1",
            version=Version(git_information=Version.GitInformation(commit_hash="1234567")),
        ),
        NodeStatus(
            external_address="192.0.2.1",
            version=Version(git_information=Version.GitInformation(commit_hash="a" * 5000)),
        ),
    ],
)
def test_a_status_that_clients_cannot_read_is_refused(status: NodeStatus) -> None:
    with pytest.raises(InvalidArgumentError):
        check_status(status)
