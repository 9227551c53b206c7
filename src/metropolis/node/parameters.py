# SPDX-License-Identifier: Apache-2.0
"""NodeParameters: what a fresh node is told, checked before anything is done with it."""

import ipaddress
from typing import Final

from google.protobuf.message import DecodeError

from metropolis.api import common_pb2, configuration_pb2
from metropolis.base.errors import InvalidArgumentError
from metropolis.base.ids import PUBLIC_KEY_BYTES
from metropolis.base.names import DEFAULT_CLUSTER_DOMAIN, cluster_domain_problem
from metropolis.pki.identity import verify_ca

PARAMETERS_BYTES_MAX: Final = 1 << 20
DIRECTORY_NODES_MAX: Final = 1000
REMEDY: Final = "Make new node parameters with `metroctl install` and give them to this node."


def parse_parameters(data: bytes) -> configuration_pb2.NodeParameters:
    """Decode and check node parameters.

    Raises:
        InvalidArgumentError: they cannot be used; the message names the field.
    """
    if len(data) > PARAMETERS_BYTES_MAX:
        raise InvalidArgumentError(f"node parameters have {len(data)} bytes", remedy=REMEDY)
    try:
        parameters = configuration_pb2.NodeParameters.FromString(data)
    except DecodeError as cause:
        raise InvalidArgumentError("node parameters cannot be decoded", remedy=REMEDY) from cause
    match parameters.WhichOneof("cluster"):
        case "cluster_bootstrap":
            _check_bootstrap(parameters.cluster_bootstrap)
        case "cluster_register":
            _check_register(parameters.cluster_register)
        case _:
            raise _unusable("neither cluster_bootstrap nor cluster_register is set")
    return parameters


def default_cluster_configuration() -> common_pb2.ClusterConfiguration:
    """The configuration of a cluster that was founded without one: everything at its safest."""
    kinds = common_pb2.ClusterConfiguration
    return kinds(
        cluster_domain=DEFAULT_CLUSTER_DOMAIN,
        tpm_mode=kinds.TPM_MODE_REQUIRED,
        storage_security_policy=(kinds.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION_AND_AUTHENTICATION),
    )


def _check_bootstrap(bootstrap: configuration_pb2.NodeParameters.ClusterBootstrap) -> None:
    if len(bootstrap.owner_public_key) != PUBLIC_KEY_BYTES:
        raise _unusable(
            f"cluster_bootstrap.owner_public_key has {len(bootstrap.owner_public_key)} bytes, "
            f"an Ed25519 public key has {PUBLIC_KEY_BYTES}"
        )
    if not bootstrap.HasField("initial_cluster_configuration"):
        return
    configuration = bootstrap.initial_cluster_configuration
    if (problem := cluster_domain_problem(configuration.cluster_domain)) is not None:
        raise _unusable(f"initial_cluster_configuration.cluster_domain {problem}")
    kinds = common_pb2.ClusterConfiguration
    if configuration.tpm_mode not in set(kinds.TPMMode.values()) - {kinds.TPM_MODE_INVALID}:
        raise _unusable("initial_cluster_configuration.tpm_mode is not set to a known mode")
    policies = set(kinds.StorageSecurityPolicy.values()) - {kinds.STORAGE_SECURITY_POLICY_INVALID}
    if configuration.storage_security_policy not in policies:
        raise _unusable(
            "initial_cluster_configuration.storage_security_policy is not set to a known policy"
        )


def _check_register(register: configuration_pb2.NodeParameters.ClusterRegister) -> None:
    try:
        verify_ca(register.ca_certificate)
    except Exception as cause:
        raise _unusable("cluster_register.ca_certificate is not a cluster CA") from cause
    if not register.register_ticket:
        raise _unusable("cluster_register.register_ticket is empty")
    nodes = register.cluster_directory.nodes
    if not nodes:
        raise _unusable("cluster_register.cluster_directory names no node")
    if len(nodes) > DIRECTORY_NODES_MAX:
        raise _unusable(f"cluster_register.cluster_directory names {len(nodes)} nodes")
    for number, node in enumerate(nodes):
        if not node.addresses:
            raise _unusable(f"cluster_register.cluster_directory.nodes[{number}] has no address")
        for address in node.addresses:
            if not _is_ip_literal(address.host):
                raise _unusable(
                    f"cluster_register.cluster_directory.nodes[{number}] has the address "
                    f"{address.host[:64]!r}, which is no literal IP address"
                )


def _is_ip_literal(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _unusable(problem: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"node parameters: {problem}", remedy=REMEDY)
