# SPDX-License-Identifier: Apache-2.0
"""What a new machine is told: found a cluster, or register with one. Pure.

What an operator wrote in a file counts; what it leaves out is filled in. So a file may hold the
network configuration or labels alone, or everything.
"""

from typing import Final

from google.protobuf import json_format, text_format

from metropolis.api import common_pb2, management_pb2
from metropolis.api.configuration_pb2 import NodeParameters
from metropolis.base.errors import InvalidArgumentError
from metropolis.base.names import DEFAULT_CLUSTER_DOMAIN, cluster_domain_problem

PARAMETERS_BYTES_MAX: Final = 1 << 20


def parse_text(text: str) -> NodeParameters:
    """Read node parameters written by a person: JSON, or protobuf's text format.

    Raises:
        InvalidArgumentError: they cannot be read; the message says where.
    """
    parameters = NodeParameters()
    try:
        if text.lstrip().startswith("{"):
            json_format.Parse(text, parameters)
        else:
            text_format.Parse(text, parameters)
    except (json_format.ParseError, text_format.ParseError, RecursionError) as cause:
        raise InvalidArgumentError(
            f"these are no node parameters: {cause}",
            remedy="Write a NodeParameters message in JSON or in protobuf's text format.",
        ) from None
    return parameters


def bootstrap_parameters(
    *,
    owner_public_key: bytes,
    configuration: common_pb2.ClusterConfiguration,
    given: NodeParameters | None = None,
) -> NodeParameters:
    """Tell the first node to found a cluster.

    Args:
        owner_public_key: Ed25519, raw: who may take ownership.
        given: From a file; what it says stays.

    Raises:
        InvalidArgumentError: the file tells the node to register, or the domain is none.
    """
    if given is not None and given.HasField("cluster_register"):
        raise InvalidArgumentError(
            "the node parameters say cluster_register, and --bootstrap founds a cluster",
            remedy="Leave out the one or the other.",
        )
    domain = configuration.cluster_domain or DEFAULT_CLUSTER_DOMAIN
    parameters = NodeParameters(
        cluster_bootstrap=NodeParameters.ClusterBootstrap(
            owner_public_key=owner_public_key, initial_cluster_configuration=configuration
        )
    )
    parameters.cluster_bootstrap.initial_cluster_configuration.cluster_domain = domain
    if given is not None:
        parameters.MergeFrom(given)
    domain = parameters.cluster_bootstrap.initial_cluster_configuration.cluster_domain
    if (problem := cluster_domain_problem(domain)) is not None:
        raise InvalidArgumentError(
            f"the cluster domain {domain[:64]!r} {problem}", remedy="Give another with --cluster."
        )
    return parameters


def is_complete(given: NodeParameters | None) -> bool:
    """Whether parameters say all that a machine must know, so that no cluster need be asked."""
    if given is None:
        return False
    if given.HasField("cluster_bootstrap"):
        return bool(given.cluster_bootstrap.owner_public_key)
    register = given.cluster_register
    has_directory = bool(register.cluster_directory.nodes)
    return bool(register.register_ticket) and bool(register.ca_certificate) and has_directory


def register_parameters(
    info: management_pb2.GetClusterInfoResponse,
    *,
    ticket: bytes,
    given: NodeParameters | None = None,
) -> NodeParameters:
    """Tell a node to register with the cluster. Holds the ticket: a secret.

    Nodes that have not reported an address yet cannot be dialled, and are left out.

    Args:
        given: From a file; what it says stays.

    Raises:
        InvalidArgumentError: the file tells the node to found a cluster.
    """
    if given is not None and given.HasField("cluster_bootstrap"):
        raise InvalidArgumentError(
            "the node parameters say cluster_bootstrap, which is what --bootstrap is for",
            remedy="Add --bootstrap, or leave cluster_bootstrap out.",
        )
    parameters = NodeParameters()
    if given is not None:
        parameters.CopyFrom(given)
    register = parameters.cluster_register
    if not register.cluster_directory.nodes:
        dialled = [node for node in info.cluster_directory.nodes if node.addresses]
        register.cluster_directory.nodes.extend(dialled)
    register.register_ticket = register.register_ticket or ticket
    register.ca_certificate = register.ca_certificate or info.ca_certificate
    return parameters
