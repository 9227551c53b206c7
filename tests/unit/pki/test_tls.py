# SPDX-License-Identifier: Apache-2.0
"""The certificates of consensus members in a real TLS stack that judges by the ordinary rules."""

import ssl
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from metropolis.base.ids import node_id_from_public_key
from metropolis.pki import certificates, keys, pem
from metropolis.pki.certificates import Authority

ETCD_CA: Final = certificates.issue_etcd_ca(
    Ed25519PrivateKey.from_private_bytes(b"E" * 32), serial=1
)
OTHER_CA: Final = certificates.issue_etcd_ca(
    Ed25519PrivateKey.from_private_bytes(b"O" * 32), serial=1
)
SERVER_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"S" * 32)
CLIENT_KEY: Final = Ed25519PrivateKey.from_private_bytes(b"K" * 32)
SERVER_ID: Final = node_id_from_public_key(keys.raw_public_key(SERVER_KEY))
CLIENT_SERIAL: Final = 42


def peer(authority: Authority, key: Ed25519PrivateKey, *, serial: int) -> bytes:
    return certificates.issue_etcd_peer(authority, keys.raw_public_key(key), serial=serial)


def context(
    side: int,
    certificate: bytes,
    key: Ed25519PrivateKey,
    *,
    folder: Path,
    crl: bytes | None = None,
) -> ssl.SSLContext:
    """One member's view: its own certificate, trust in the CA, every check on."""
    made = ssl.SSLContext(side)
    made.minimum_version = ssl.TLSVersion.TLSv1_3
    path = folder / f"{side}.pem"
    path.write_text(certificates.to_pem(certificate) + keys.to_pkcs8_pem(key))
    made.load_cert_chain(path)
    trust = certificates.to_pem(ETCD_CA.certificate)
    if crl is not None:
        trust += pem.encode(pem.CRL, crl)
        made.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    roots = folder / f"{side}-roots.pem"
    roots.write_text(trust)
    made.load_verify_locations(roots)
    made.verify_mode = ssl.CERT_REQUIRED
    made.verify_flags |= ssl.VERIFY_X509_STRICT
    return made


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str) -> bytes | None:
    """Return the client certificate that the server accepted."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        waiting = []
        for end in ends:
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                waiting.append(end)
        if not waiting:
            return ends[1].getpeercert(binary_form=True)
    raise AssertionError("the handshake does not end")


def members(
    folder: Path, *, client_ca: Authority = ETCD_CA, crl: bytes | None = None
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    client = context(
        ssl.PROTOCOL_TLS_CLIENT,
        peer(client_ca, CLIENT_KEY, serial=CLIENT_SERIAL),
        CLIENT_KEY,
        folder=folder,
    )
    server = context(
        ssl.PROTOCOL_TLS_SERVER,
        peer(ETCD_CA, SERVER_KEY, serial=41),
        SERVER_KEY,
        folder=folder,
        crl=crl,
    )
    return client, server


def test_two_consensus_members_authenticate_each_other(tmp_path: Path) -> None:
    client, server = members(tmp_path)
    accepted = shake_hands(client, server, SERVER_ID)
    assert accepted == peer(ETCD_CA, CLIENT_KEY, serial=CLIENT_SERIAL)


def test_a_member_is_refused_under_another_members_name(tmp_path: Path) -> None:
    client, server = members(tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake_hands(client, server, node_id_from_public_key(keys.raw_public_key(CLIENT_KEY)))


def test_a_member_of_another_clusters_consensus_is_refused(tmp_path: Path) -> None:
    client, server = members(tmp_path, client_ca=OTHER_CA)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server, SERVER_ID)


def test_a_removed_member_is_refused_by_the_revocation_list_and_only_it(tmp_path: Path) -> None:
    spared = certificates.build_crl(ETCD_CA, [CLIENT_SERIAL + 1], number=1)
    assert shake_hands(*members(tmp_path, crl=spared), SERVER_ID)
    revoked = certificates.build_crl(ETCD_CA, [CLIENT_SERIAL + 1, CLIENT_SERIAL], number=2)
    with pytest.raises(ssl.SSLCertVerificationError, match="certificate revoked"):
        shake_hands(*members(tmp_path, crl=revoked), SERVER_ID)


def test_a_node_certificate_is_not_a_tls_client_by_the_ordinary_rules(tmp_path: Path) -> None:
    # Why servers of a cluster judge usages per call instead of in the handshake.
    _, server = members(tmp_path)
    node = certificates.issue_node(ETCD_CA, keys.raw_public_key(CLIENT_KEY), serial=7)
    client = context(ssl.PROTOCOL_TLS_CLIENT, node, CLIENT_KEY, folder=tmp_path)
    with pytest.raises(ssl.SSLCertVerificationError, match="unsuitable certificate purpose"):
        shake_hands(client, server, SERVER_ID)
