# SPDX-License-Identifier: Apache-2.0
"""Who gets through a handshake, and what a handshake gives away. On real sockets, both loops."""

import asyncio
import ssl

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from contract.rpc import kit
from contract.rpc.kit import CA, RawPeer, ask, serving
from metropolis.base.errors import (
    PermissionDeniedError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.pki.credentials import Credentials
from metropolis.rpc.limits import Limits
from metropolis.rpc.peer import PeerKind
from metropolis.rpc.transport import Endpoint

pytestmark = pytest.mark.parametrize("loop", kit.LOOPS)


async def speaks(peer: RawPeer) -> bool:
    """Whether the server lets the connection live: under TLS 1.3 refusals come after the fact."""
    try:
        await peer.handshake()
        return bool(await peer.read())  # its HTTP/2 settings, or the end
    except (SSL.Error, ConnectionError):
        return False


@pytest.mark.parametrize(
    ("credentials", "kind"),
    [
        (None, PeerKind.ANONYMOUS),
        (kit.EPHEMERAL, PeerKind.EPHEMERAL),
        (kit.self_signed(begin_days=3650, end_days=3660), PeerKind.EPHEMERAL),
        (kit.self_signed(begin_days=-3660, end_days=-3650), PeerKind.EPHEMERAL),
        (kit.NODE, PeerKind.ANONYMOUS),  # a method open to all takes it for no key
    ],
    ids=["no certificate", "ephemeral", "from the future", "from the past", "node as client"],
)
def test_who_passes_the_handshake_and_as_whom(
    loop: str, credentials: Credentials | None, kind: PeerKind
) -> None:
    async def scenario() -> None:
        async with serving() as here, here.dialled(credentials) as channel:
            assert await ask(channel, b"hi") == b"hi"
            assert [peer.kind for peer in here.echo.peers] == [kind]
            assert here.echo.peers[0].address == "127.0.0.1"

    kit.run(scenario, loop)


def test_a_node_certificate_counts_although_it_is_for_servers_only(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.dialled(kit.NODE) as channel:
            assert await ask(channel, b"hi", kit.MEMBERS_ONLY) == b"hi"
            assert here.echo.peers[0].kind is PeerKind.NODE

    kit.run(scenario, loop)


def test_an_expired_user_passes_the_handshake_and_is_told_so_by_the_call(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.dialled(kit.EXPIRED) as channel:
            with pytest.raises(UnauthenticatedError, match="expired") as caught:
                await ask(channel, b"hi", kit.MEMBERS_ONLY)
            assert caught.value.remedy

    kit.run(scenario, loop)


def test_an_unknown_issuer_fails_the_handshake(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here:
            async with here.raw(kit.STRANGE_NODE) as peer:
                assert not await speaks(peer)
            async with here.dialled(kit.STRANGE_NODE) as channel:
                with pytest.raises(UnavailableError, match="refused our certificate") as caught:
                    await ask(channel)
                assert "unknown ca" in str(caught.value)
                assert "certificate of the cluster" in caught.value.remedy
            assert here.echo.peers == []

    kit.run(scenario, loop)


def test_a_refused_client_that_stays_does_so_no_longer_than_a_handshake_may_take(
    loop: str,
) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(handshake_s=0.5)) as here:
            async with here.raw(kit.STRANGE_NODE) as peer:
                await peer.handshake()
                async with asyncio.timeout(3):
                    while await peer.reader.read(1 << 16):
                        pass
            async with here.raw(kit.STRANGE_NODE) as peer:
                await peer.handshake()
                assert await peer.reader.read(1 << 16)  # the alert
                peer.writer.write(b"more")
                async with asyncio.timeout(0.3):
                    while await peer.reader.read(1 << 16):
                        pass

    kit.run(scenario, loop)


def test_before_the_ca_is_known_only_strangers_pass(loop: str) -> None:
    async def scenario() -> None:
        async with serving(is_ca_known=False) as here:
            async with here.raw(kit.NODE) as peer:
                assert not await speaks(peer)
            for credentials in (kit.EPHEMERAL, None):
                async with here.raw(credentials) as peer:
                    assert await speaks(peer)

    kit.run(scenario, loop)


def test_a_chain_is_refused_and_one_certificate_is_not(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here:
            for certificate in (CA.certificate, kit.SERVER.certificate):
                more = Credentials(certificate=certificate, key=kit.NODE.key)
                async with here.raw(kit.NODE, chain=[more]) as peer:
                    assert not await speaks(peer)
            async with here.raw(kit.NODE) as peer:
                assert await speaks(peer)

    kit.run(scenario, loop)


def test_the_server_presents_its_leaf_alone_and_names_no_ca(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here, here.raw(None) as peer:
            assert await speaks(peer)
            chain = peer.tls.get_peer_cert_chain(as_cryptography=True) or []
            assert [one.public_bytes(Encoding.DER) for one in chain] == [kit.SERVER.certificate]
            assert peer.tls.get_client_ca_list() == []
            assert peer.tls.get_alpn_proto_negotiated() == b"h2"
            assert peer.tls.get_protocol_version_name() == "TLSv1.3"

    kit.run(scenario, loop)


def test_older_versions_of_tls_are_refused(loop: str) -> None:
    def old(context: SSL.Context) -> None:
        context.set_max_proto_version(SSL.TLS1_2_VERSION)

    async def scenario() -> None:
        async with serving() as here, here.raw(None, tune=old) as peer:
            assert not await speaks(peer)

    kit.run(scenario, loop)


def test_a_client_that_does_not_offer_h2_is_refused(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here:
            async with here.raw(
                None, tune=lambda context: context.set_alpn_protos([b"http/1.1"])
            ) as peer:
                assert not await speaks(peer)
            async with here.raw(
                None, tune=lambda context: context.set_alpn_protos([b"http/1.1", b"h2"])
            ) as peer:
                assert await speaks(peer)

    kit.run(scenario, loop)


def test_sessions_are_not_resumed_so_every_connection_proves_its_key(loop: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # pyOpenSSL cannot tell about resumption
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])

    async def connect(endpoint: Endpoint, session: ssl.SSLSession | None) -> ssl.SSLObject:
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.tcp_port)
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, session=session)
        for step in (tls.do_handshake, tls.read):  # reading takes session tickets in
            while True:
                try:
                    step()
                    break
                except ssl.SSLWantReadError:
                    writer.write(outgoing.read())
                    incoming.write(await reader.read(1 << 16))
        writer.transport.abort()
        return tls

    async def scenario() -> None:
        async with serving() as here:
            first = await connect(here.server.endpoint, None)
            second = await connect(here.server.endpoint, first.session)
            assert second.session_reused is False

    kit.run(scenario, loop)


def test_a_stalled_handshake_is_cut(loop: str) -> None:
    async def scenario() -> None:
        async with serving(limits=Limits(handshake_s=0.3)) as here, here.raw() as peer:
            begun_s = asyncio.get_running_loop().time()
            with pytest.raises(ConnectionError):
                await peer._fill()
            assert asyncio.get_running_loop().time() - begun_s < 3
            async with here.dialled() as channel:
                assert await ask(channel) == b"x"

    kit.run(scenario, loop)


def test_garbage_instead_of_a_handshake_is_cut_and_the_server_lives(loop: str) -> None:
    async def scenario() -> None:
        async with serving() as here:
            for garbage in (
                b"GET / HTTP/1.1\r\n\r\n",
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                bytes(300),
            ):
                async with here.raw() as peer:
                    peer.writer.write(garbage)
                    async with asyncio.timeout(3):  # at once, that is
                        while await peer.reader.read(1000):
                            pass
            async with here.dialled() as channel:
                assert await ask(channel) == b"x"

    kit.run(scenario, loop)


def test_a_client_judges_the_server_before_it_shows_its_own_certificate(loop: str) -> None:
    async def scenario() -> None:
        judged: list[bytes] = []

        def refuse(certificate: bytes) -> None:
            judged.append(certificate)
            raise PermissionDeniedError("not the server I know", remedy="Look again.")

        async with serving() as here, here.dialled(kit.NODE, refuse) as channel:
            with pytest.raises(PermissionDeniedError, match="not the server I know") as caught:
                await ask(channel)
            assert caught.value.remedy == "Look again."
            assert judged == [kit.SERVER.certificate]
            assert here.echo.peers == []
            assert here.server.connections.held("address 127.0.0.1") == 0

    kit.run(scenario, loop)


def test_a_bug_in_the_verifier_refuses_the_server(loop: str) -> None:
    def stumble(_certificate: bytes) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        async with serving() as here, here.dialled(kit.NODE, stumble) as channel:
            with pytest.raises(UnavailableError):
                await ask(channel)

    kit.run(scenario, loop)
