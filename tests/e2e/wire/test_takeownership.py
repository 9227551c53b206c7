# SPDX-License-Identifier: Apache-2.0
"""Taking ownership, as `metroctl takeownership` does it: trust on first use, then escrow."""

import pytest
from cryptography import x509

from e2e.wire import paths
from e2e.wire.go_certificates import (
    NEVER,
    check_ca,
    check_user,
    key_usage,
    new_ephemeral,
    raw_public_key,
)
from e2e.wire.go_client import (
    INVALID_ARGUMENT,
    OK,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    UNIMPLEMENTED,
)
from e2e.wire.protobuf_bytes import Fields, encode
from e2e.wire.site import OWNER, Site, escrow, escrow_request

EMITTED = 3
REFRESH = 1  # KIND_REFRESH_CERTIFICATE


def test_first_contact_tells_who_leads_and_which_ca_to_trust(site: Site) -> None:
    with site.curator(site.owner_key) as client:
        leader = client.begin(paths.GET_CURRENT_LEADER).receive()
        assert leader.numbers == [1, 2, 3, 4]
        assert leader.text(1) == leader.text(4) == client.expect_node(site.ca)
        assert (leader.text(2), leader.integer(3)) == ("10.1.0.2", 7835)
        answer = client.call(paths.GET_CA_CERTIFICATE).only_message
        assert answer.numbers == [1]
        check_ca(x509.load_der_x509_certificate(answer.data(1)))


def test_the_owner_gets_a_certificate_that_upstream_can_store_for_good(site: Site) -> None:
    with site.curator(site.owner_key) as client:
        status = escrow(client, escrow_request(site.owner_key.raw_key))
    answer = status.only_message
    assert answer.numbers == [2, 3]
    assert [proof.integer(1) for proof in answer.messages(2)] == [REFRESH]
    certificate = x509.load_der_x509_certificate(answer.data(3))
    assert check_user(certificate, site.ca) == OWNER
    assert raw_public_key(certificate) == site.owner_key.raw_key
    assert certificate.not_valid_after_utc == NEVER
    assert key_usage(certificate).digital_signature
    assert key_usage(certificate).key_encipherment
    assert certificate.serial_number > 0


def test_the_certificate_can_be_fetched_again_and_is_the_same(site: Site) -> None:
    request = escrow_request(site.owner_key.raw_key)
    with site.curator(site.owner_key) as client:
        first = escrow(client, request).only_message.data(3)
    with site.curator(new_ephemeral(site.owner_key.key)) as client:
        assert escrow(client, request).only_message.data(3) == first


def test_escrow_without_parameters_is_refused(site: Site) -> None:
    with site.curator(site.owner_key) as client:
        assert escrow(client, b"").code == INVALID_ARGUMENT
        assert escrow(client, encode((2, encode((1, "password"))))).code == INVALID_ARGUMENT


def test_escrow_that_ends_before_it_asks_is_refused(site: Site) -> None:
    with site.curator(site.owner_key) as client:
        stream = client.open(paths.ESCROW)
        stream.send_raw(b"", is_last=True)
        assert stream.status().code == INVALID_ARGUMENT


@pytest.mark.parametrize("name", ["", "somebody", "Owner", "owner ", "owner\0"])
def test_the_owners_key_alone_makes_nobody_else(site: Site, name: str) -> None:
    with site.curator(site.owner_key) as client:
        stream = client.open(paths.ESCROW)
        stream.send(escrow_request(site.owner_key.raw_key, name), is_last=True)
        status = stream.status()
    assert status.code in (UNIMPLEMENTED, INVALID_ARGUMENT, UNAUTHENTICATED)
    assert all(EMITTED not in Fields(message) for message in status.messages)


def test_the_key_must_have_32_bytes(site: Site) -> None:
    with site.curator(None) as client:  # the length is judged before the proof
        for key in (b"", site.owner_key.raw_key[:31], site.owner_key.raw_key + b"\0"):
            assert escrow(client, escrow_request(key)).code == INVALID_ARGUMENT


def test_without_proof_of_a_key_the_proof_is_asked_for(site: Site) -> None:
    for identity in (None, site.owner):  # a certificate of the cluster proves no key here
        with site.curator(identity) as client:
            status = escrow(client, escrow_request(site.owner_key.raw_key))
            assert status.code == UNAUTHENTICATED
            (needed,) = map(Fields, status.messages)
            assert needed.numbers == [1]
            assert [proof.integer(1) for proof in needed.messages(1)] == [REFRESH]


def test_a_certificate_is_issued_only_for_the_key_of_the_connection(site: Site) -> None:
    with site.curator(new_ephemeral()) as client:
        assert escrow(client, escrow_request(site.owner_key.raw_key)).code == UNIMPLEMENTED


def test_another_key_than_the_owners_is_refused(site: Site) -> None:
    stranger = new_ephemeral()
    with site.curator(stranger) as client:
        assert escrow(client, escrow_request(stranger.raw_key)).code == PERMISSION_DENIED


def test_the_owners_certificate_opens_the_management_api(site: Site) -> None:
    with site.as_owner() as client:
        assert client.call(paths.GET_CLUSTER_INFO).code == OK
