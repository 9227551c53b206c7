# SPDX-License-Identifier: Apache-2.0
"""Reading the figures of one node: the same port and paths that Prometheus asks."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

from metropolis.api.management_pb2 import Node
from metropolis.base.errors import (
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.base.ids import parse_node_id
from metropolis.base.ports import METRICS_TCP_PORT
from metropolis.ctl.connection import Cluster, address_of
from metropolis.ctl.suggestions import did_you_mean
from metropolis.pki.identity import server_verifier
from metropolis.rpc.http_client import get_mutual_https
from metropolis.rpc.transport import Endpoint

EXPORTERS: Final[Mapping[str, str]] = {
    "core": "what the node's own program counts",
    "node": "what its kernel says, as node_exporter spells it",
    "etcd": "its consensus member, if it has one",
    "kubernetes-scheduler": "not in this build",
    "kubernetes-controller-manager": "not in this build",
    "kubernetes-apiserver": "not in this build",
    "containerd": "not in this build",
}
_ERRORS: Final[Mapping[HTTPStatus, type[MetropolisError]]] = {
    HTTPStatus.UNAUTHORIZED: UnauthenticatedError,
    HTTPStatus.FORBIDDEN: PermissionDeniedError,
    HTTPStatus.NOT_FOUND: NotFoundError,
}


def parse_exporter(text: str) -> str:
    """Return the name of an exporter.

    Raises:
        InvalidArgumentError: there is none of that name.
    """
    if text in EXPORTERS:
        return text
    raise InvalidArgumentError(
        f"there is no exporter {text[:64]!r}",
        remedy=did_you_mean(text, EXPORTERS) or f"The exporters are {', '.join(EXPORTERS)}.",
    )


async def scrape(cluster: Cluster, node: Node, exporter: str) -> bytes:
    """Return what an exporter of a node says, as it is.

    Args:
        node: Without an id, any node of the cluster at its address will do.

    Raises:
        FailedPreconditionError: the node never reported an address.
        MetropolisError: it is not reached, refuses, or cannot reach the exporter itself.
    """
    answer = await get_mutual_https(
        Endpoint(address_of(node), METRICS_TCP_PORT),
        f"/metrics/{exporter}",
        credentials=cluster.credentials,
        verify=server_verifier(cluster.ca, parse_node_id(node.id) if node.id else None),
        proxy=cluster.proxy,
        timeout_s=cluster.timeout_s,
    )
    if answer.status is HTTPStatus.OK:
        return answer.body
    said = answer.body.decode("utf-8", "replace").strip()[:1024]
    kind = _ERRORS.get(answer.status, UnavailableError)
    raise kind(f"{node.id} answers {answer.status.value}: {said}")
