# SPDX-License-Identifier: Apache-2.0
"""What upstream's clients demand of the connection itself, on both gRPC ports."""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from OpenSSL import SSL

from e2e.wire import paths
from e2e.wire.enrolment import enrolled_node
from e2e.wire.go_certificates import Identity, new_ephemeral, of_another_cluster
from e2e.wire.go_client import OK, PERMISSION_DENIED, UNAUTHENTICATED, UNIMPLEMENTED, GoClient
from e2e.wire.go_tls import GoTls, RefusedError
from e2e.wire.site import Site, escrow, escrow_request

GRPC_PORTS = (paths.CURATOR_TCP_PORT, paths.NODE_MANAGEMENT_TCP_PORT)
QUIET_S = 3.0


@pytest.mark.parametrize("tcp_port", GRPC_PORTS)
def test_the_server_shows_exactly_its_node_certificate_and_names_no_ca(
    site: Site, tcp_port: int
) -> None:
    tls = GoTls(site.address(tcp_port), site.owner)
    assert len(tls.server_certificates) == 1
    assert tls.ca_names == []
    assert (tls.alpn, tls.version) == (b"h2", "TLSv1.3")
    tls.close()
    with site.as_owner(tcp_port) as client:
        assert client.expect_node(site.ca) == site.node_id


@pytest.mark.parametrize("tcp_port", GRPC_PORTS)
def test_an_older_tls_is_refused(site: Site, tcp_port: int) -> None:
    with pytest.raises(RefusedError):
        GoTls(site.address(tcp_port), site.owner, max_version=SSL.TLS1_2_VERSION)


@pytest.mark.parametrize("tcp_port", GRPC_PORTS)
@pytest.mark.parametrize("alpn", [(), (b"http/1.1",)], ids=["none", "http/1.1"])
def test_who_does_not_speak_http2_is_refused(
    site: Site, tcp_port: int, alpn: Sequence[bytes]
) -> None:
    assert not is_admitted(site, site.owner, tcp_port, alpn=alpn)
    assert is_admitted(site, site.owner, tcp_port, alpn=(b"http/1.1", b"h2"))


@pytest.mark.parametrize("tcp_port", GRPC_PORTS)
def test_the_owner_of_another_cluster_is_refused(site: Site, tcp_port: int) -> None:
    # As when a cluster was made anew, and the operator's directory was not.
    assert not is_admitted(site, of_another_cluster(), tcp_port)


@pytest.mark.parametrize("tcp_port", GRPC_PORTS)
def test_a_client_that_sends_a_chain_is_refused(site: Site, tcp_port: int) -> None:
    owner = site.owner
    chained = Identity(key=owner.key, certificate=owner.certificate, chain=(site.ca,))
    assert not is_admitted(site, chained, tcp_port)
    assert is_admitted(site, owner, tcp_port)


def test_pings_without_calls_are_answered(site: Site) -> None:
    identities = (None, new_ephemeral(), site.owner)
    addresses = [site.address(tcp_port) for tcp_port in GRPC_PORTS]
    clients = [GoClient(address, each) for each in identities for address in addresses]
    until_s = time.monotonic() + QUIET_S
    while time.monotonic() < until_s:
        for client in clients:
            client.idle(0.01)
    for client in clients:
        assert client.acknowledged >= 5
        assert client.goodbye is None
        assert client.call(paths.GET_CA_CERTIFICATE).code in (OK, UNIMPLEMENTED)
        client.close()


def test_an_ephemeral_certificate_dated_in_the_future_proves_its_key(site: Site) -> None:
    # An operator's clock may be ahead of a node's.
    ahead = datetime.now(UTC).replace(microsecond=0) + timedelta(days=400)
    future = new_ephemeral(site.owner_key.key, not_before=ahead)
    with site.curator(future) as client:
        assert escrow(client, escrow_request(future.raw_key)).code == OK


def test_an_ephemeral_certificate_is_nobody_to_the_management_api(site: Site) -> None:
    for identity in (site.owner_key, None):
        with site.curator(identity) as client:
            status = client.call(paths.GET_REGISTER_TICKET)
            assert status.code == UNAUTHENTICATED
            assert status.is_trailers_only
            assert client.call(paths.WATCH).code == UNAUTHENTICATED
            # The connection lives on: first contact runs on it.
            assert client.call(paths.GET_CA_CERTIFICATE).code == OK


def test_a_node_may_read_and_speak_for_itself_but_not_manage(site: Site) -> None:
    node = enrolled_node(site)
    with site.curator(node.credentials) as client:
        status = client.call(paths.GET_REGISTER_TICKET)
        assert status.code == PERMISSION_DENIED
        assert status.text.startswith("node missing PERMISSION_GET_REGISTER_TICKET permission")
        assert client.call(paths.APPROVE_NODE).code == PERMISSION_DENIED
        assert client.call(paths.GET_CLUSTER_INFO).code == OK
        assert client.call(paths.GET_NODES).code == OK
    with site.as_owner() as owner:
        node.delete(owner)
    with site.curator(node.credentials) as client:
        status = client.call(paths.GET_CLUSTER_INFO)
        assert (status.code, "deleted" in status.text) == (UNAUTHENTICATED, True)


def is_admitted(
    site: Site, identity: Identity, tcp_port: int, *, alpn: Sequence[bytes] = (b"h2",)
) -> bool:
    """Whether the server begins to speak HTTP/2. In TLS 1.3 a refusal comes after our part."""
    try:
        tls = GoTls(site.address(tcp_port), identity, alpn=alpn)
    except RefusedError:
        return False
    try:
        greeting = tls.receive(5.0)
    except RefusedError:
        return False
    finally:
        tls.close()
    assert greeting is not None, "the server neither greets nor refuses"
    return greeting[3:4] == b"\x04"  # SETTINGS
