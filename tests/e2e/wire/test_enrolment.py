# SPDX-License-Identifier: Apache-2.0
"""RegisterNode, CommitNode, JoinNode: what is checked in which order, and what may be repeated."""

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from cryptography import x509

from e2e.wire import paths
from e2e.wire.enrolment import (
    AUTHENTICATED_ENCRYPTED,
    ENCRYPTED,
    INSECURE,
    UNLOCK_KEY,
    enrolled_node,
    new_machine,
    register_request,
    registered_node,
)
from e2e.wire.go_certificates import NEVER, check_node, key_usage, new_ephemeral
from e2e.wire.go_client import (
    FAILED_PRECONDITION,
    INVALID_ARGUMENT,
    NOT_FOUND,
    OK,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    GoClient,
)
from e2e.wire.protobuf_bytes import encode
from e2e.wire.site import BEST_EFFORT, PERMISSIVE, Site

TPM_REQUIRED, TPM_DISABLED = 1, 3
NEEDS_ENCRYPTION = 2
NOT_PRESENT, BUT_UNUSED, AND_USED = 1, 2, 3


@contextmanager
def policy(owner: GoClient, *, tpm: int = BEST_EFFORT, storage: int = PERMISSIVE) -> Iterator[None]:
    """Change the cluster's policies while the block runs."""

    def configure(tpm_mode: int, storage_policy: int) -> None:
        mask = encode((1, "tpm_mode"), (1, "storage_security_policy"))
        new = encode((1, tpm_mode), (2, storage_policy))
        assert owner.call(paths.CONFIGURE_CLUSTER, encode((2, new), (3, mask))).code == OK

    configure(tpm, storage)
    try:
        yield
    finally:
        configure(BEST_EFFORT, PERMISSIVE)


def test_a_machine_enrols_commits_and_comes_back(site: Site, owner: GoClient) -> None:
    machine = new_machine()
    answer = machine.register(site).only_message
    assert answer.numbers == [1, 2, 3]
    info = owner.call(paths.GET_CLUSTER_INFO).only_message
    assert answer.data(1) == info.data(3)
    assert (answer.integer(2), answer.integer(3)) == (NOT_PRESENT, AUTHENTICATED_ENCRYPTED)
    assert machine.approve(owner).code == OK
    committed = machine.commit(site).only_message
    assert committed.numbers == [1, 2]
    assert x509.load_der_x509_certificate(committed.data(1)) == site.ca
    certificate = machine.credentials.certificate
    assert check_node(certificate, site.ca) == machine.node_id
    assert certificate.not_valid_after_utc == NEVER
    assert key_usage(certificate).digital_signature
    for _ in range(2):
        joined = machine.rejoin(site).only_message
        assert (joined.numbers, joined.data(1)) == ([1], UNLOCK_KEY)
    machine.delete(owner)
    assert machine.rejoin(site).code == NOT_FOUND


def test_a_lost_reply_is_repaired_by_asking_again(site: Site, owner: GoClient) -> None:
    machine = new_machine()
    first = machine.register(site).only_message.raw
    assert machine.register(site).only_message.raw == first
    machine.approve(owner)
    assert machine.register(site).only_message.raw == first  # approved meanwhile
    certificate = machine.commit(site).only_message.data(2)
    assert machine.commit(site).only_message.data(2) == certificate
    assert machine.commit(site, bytes(32)).code == FAILED_PRECONDITION  # another machine
    assert machine.register(site).code == FAILED_PRECONDITION
    machine.delete(owner)


def test_registration_is_checked_in_upstreams_order(site: Site, owner: GoClient) -> None:
    machine, ticket, join = new_machine(), site.ticket, new_ephemeral().raw_key
    wrong_ticket = ticket[:-1] + bytes([ticket[-1] ^ 1])
    with policy(owner, tpm=TPM_REQUIRED):
        for identity in (None, site.owner):  # neither proves a key for this purpose
            with site.curator(identity) as client:
                status = client.call(paths.REGISTER_NODE, register_request(b"", b"short"))
                assert status.code == UNAUTHENTICATED
        for bad_key in (b"", join[:31], join + b"\0"):
            status = machine.register(site, register_request(wrong_ticket, bad_key))
            assert status.code == INVALID_ARGUMENT
        for bad_ticket in (b"", wrong_ticket, ticket[2:], ticket + b"\0"):
            status = machine.register(site, register_request(bad_ticket, join))
            assert status.code == PERMISSION_DENIED
            assert status.text.startswith("registerticket invalid")
        status = machine.register(site, register_request(ticket, join))
        assert (status.code, "TPM" in status.text) == (PERMISSION_DENIED, True)
        has_tpm = machine.register(site, register_request(ticket, join, (3, 1)))
        assert has_tpm.only_message.integer(2) == AND_USED
    machine.delete(owner)


def test_the_tpm_mode_decides_what_a_tpm_is_used_for(site: Site, owner: GoClient) -> None:
    for mode, has_tpm, usage in (
        (BEST_EFFORT, 1, AND_USED),
        (BEST_EFFORT, 0, NOT_PRESENT),
        (TPM_DISABLED, 1, BUT_UNUSED),
        (TPM_DISABLED, 0, NOT_PRESENT),
    ):
        machine = new_machine()
        with policy(owner, tpm=mode):
            request = register_request(site.ticket, machine.join.raw_key, (3, has_tpm))
            assert machine.register(site, request).only_message.integer(2) == usage
        machine.delete(owner)


def test_bad_labels_do_not_keep_a_machine_out(site: Site, owner: GoClient) -> None:
    machine = new_machine()
    pairs = [("good", "1"), ("-bad", "x"), ("good", "2"), ("other", "has space")]
    labels = encode(*((1, encode((1, key), (2, value))) for key, value in pairs))
    request = register_request(site.ticket, machine.join.raw_key, (4, labels))
    assert machine.register(site, request).code == OK
    mine = encode((1, f'node.id == "{machine.node_id}"'))
    node = owner.call(paths.GET_NODES, mine).only_message
    machine.delete(owner)
    stored = [(pair.text(1), pair.text(2)) for pair in node.message(9).messages(1)]
    assert stored == [("good", "1")]


def test_commitment_is_checked_in_upstreams_order(site: Site, owner: GoClient) -> None:
    for identity in (None, site.owner):
        with site.curator(identity) as client:
            assert client.call(paths.COMMIT_NODE, b"").code == UNAUTHENTICATED
    machine = new_machine()
    with policy(owner, storage=NEEDS_ENCRYPTION):
        for unknown in (0, 4, 99):
            assert machine.commit(site, b"", unknown).code == INVALID_ARGUMENT
        assert machine.commit(site, b"", INSECURE).code == FAILED_PRECONDITION
    assert machine.commit(site, b"", ENCRYPTED).code == NOT_FOUND
    assert machine.register(site).code == OK
    assert machine.commit(site, b"", ENCRYPTED).code == PERMISSION_DENIED
    machine.approve(owner)
    for bad_key in (b"", bytes(31), bytes(33)):
        assert machine.commit(site, bad_key, ENCRYPTED).code == INVALID_ARGUMENT
    assert machine.commit(site, b"", INSECURE).code == OK
    machine.delete(owner)


def test_joining_is_checked_in_upstreams_order(site: Site, owner: GoClient) -> None:
    for identity in (None, site.owner):
        with site.curator(identity) as client:
            assert client.call(paths.JOIN_NODE).code == PERMISSION_DENIED
    machine = new_machine()
    assert machine.rejoin(site).code == NOT_FOUND
    assert machine.register(site).code == OK
    assert machine.rejoin(site, is_sealed=True).code == PERMISSION_DENIED
    assert machine.rejoin(site).code == FAILED_PRECONDITION
    machine.approve(owner)
    assert machine.rejoin(site).code == FAILED_PRECONDITION
    assert machine.commit(site).code == OK
    assert machine.rejoin(site, is_sealed=True).code == PERMISSION_DENIED
    assert machine.rejoin(site).code == OK
    machine.delete(owner)


def test_the_node_key_is_not_the_join_key(site: Site, owner: GoClient) -> None:
    machine = enrolled_node(site)
    with site.curator(machine.node) as client:
        assert client.call(paths.JOIN_NODE).code == NOT_FOUND
    machine.delete(owner)


def test_two_machines_cannot_share_a_join_key(site: Site, owner: GoClient) -> None:
    first, second = registered_node(site), new_machine()
    request = register_request(site.ticket, first.join.raw_key)
    assert second.register(site, request).code == INVALID_ARGUMENT
    first.delete(owner)


@pytest.mark.parametrize("path", [paths.REGISTER_NODE, paths.COMMIT_NODE, paths.JOIN_NODE])
def test_garbage_is_refused_before_it_is_understood(site: Site, path: str) -> None:
    with site.curator(new_ephemeral()) as client:
        status = client.call(path, b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff")
        assert status.code == INVALID_ARGUMENT


def test_a_member_announces_its_part_of_the_network_by_upstreams_rules(
    site: Site, owner: GoClient
) -> None:
    machine = enrolled_node(site)
    key = base64.b64encode(machine.raw_key).decode()

    def announce(wireguard_key: str, *prefixes: str) -> int:
        listed = [(2, encode((1, prefix))) for prefix in prefixes]
        clusternet = encode((1, wireguard_key), *listed)
        with site.curator(machine.credentials) as node:
            answer = node.call(paths.UPDATE_NODE_CLUSTER_NETWORKING, encode((1, clusternet)))
        return answer.code

    assert owner.call(paths.UPDATE_NODE_CLUSTER_NETWORKING).code == PERMISSION_DENIED
    assert announce(key, "10.192.4.0/24") == FAILED_PRECONDITION  # no status yet
    assert machine.report(site, "10.1.0.96").code == OK
    assert announce(key, "10.192.4.0/24", "10.1.0.96/32") == OK
    assert announce(key) == OK
    for bad_key in ("", "nonsense", key[:-4]):
        assert announce(bad_key) == INVALID_ARGUMENT
    for prefix in ("", "10.192.4.1/24", "10.1.0.98/32", "10.1.0.96/30", "10.0.0.0/8", "fd00::/64"):
        assert announce(key, prefix) == INVALID_ARGUMENT
    machine.delete(owner)


@pytest.mark.parametrize("address", ["", "node.example", "10.1.0.99/24", "fe80::1%lo"])
def test_a_member_reports_a_literal_address(site: Site, owner: GoClient, address: str) -> None:
    machine = enrolled_node(site)
    status = machine.report(site, address)
    machine.delete(owner)
    assert status.code == INVALID_ARGUMENT
