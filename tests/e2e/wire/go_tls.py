# SPDX-License-Identifier: Apache-2.0
"""TLS as Go's clients speak it, on a socket that may lead through a SOCKS5 proxy."""

import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509
from OpenSSL import SSL

from e2e.wire.go_certificates import Identity

TIMEOUT_S: Final = 10.0
_READ_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a service is, and the proxy to it.

    Attributes:
        proxy_tcp_port: Of a SOCKS5 proxy on 127.0.0.1.
    """

    host: str
    tcp_port: int
    proxy_tcp_port: int


class RefusedError(Exception):
    """The server ended the connection, or the handshake with it."""


class GoTls:
    """One encrypted connection after its handshake.

    Attributes:
        server_certificates: All that the server presented.
        ca_names: Issuers that the server named in its request for a client certificate.
    """

    def __init__(
        self,
        address: Address,
        identity: Identity | None,
        *,
        alpn: Sequence[bytes] = (b"h2",),
        max_version: int = SSL.TLS1_3_VERSION,
    ) -> None:
        """Connect and shake hands.

        Raises:
            RefusedError: the server did not want to.
        """
        self._socket = dial(address)
        context = SSL.Context(SSL.TLS_CLIENT_METHOD)
        context.set_min_proto_version(SSL.TLS1_2_VERSION)  # Go's default
        context.set_max_proto_version(max_version)
        context.set_verify(SSL.VERIFY_NONE)  # InsecureSkipVerify; the caller judges
        if alpn:
            context.set_alpn_protos(list(alpn))
        if identity is not None:
            context.use_certificate(identity.certificate)
            context.use_privatekey(identity.key)
            for certificate in identity.chain:
                context.add_extra_chain_cert(certificate)
        self._tls = SSL.Connection(context, None)
        self._tls.set_connect_state()
        try:
            self._shake_hands()
        except BaseException:
            self._socket.close()
            raise
        chain = self._tls.get_peer_cert_chain(as_cryptography=True) or []
        self.server_certificates: Sequence[x509.Certificate] = chain
        self.ca_names = list(self._tls.get_client_ca_list())
        self.alpn = self._tls.get_alpn_proto_negotiated()
        self.version = self._tls.get_protocol_version_name()

    def send(self, data: bytes) -> None:
        """Encrypt and send everything.

        Raises:
            RefusedError: the server is gone.
        """
        try:
            if data:
                self._tls.sendall(data)
            self._flush()
        except (SSL.Error, OSError) as error:
            raise RefusedError(f"cannot send: {error!r}") from error

    def receive(self, timeout_s: float) -> bytes | None:
        """Return what arrives next; empty at the end, None if nothing did within `timeout_s`.

        Raises:
            RefusedError: the connection broke.
        """
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                data = self._tls.recv(_READ_BYTES)
            except SSL.WantReadError:
                pass
            except SSL.ZeroReturnError:
                return b""
            except SSL.Error as error:
                raise RefusedError(f"the server refused: {error!r}") from error
            else:
                return bytes(data)
            try:
                if not self._fetch(deadline_s - time.monotonic()):
                    return b""
            except TimeoutError:
                return None

    def close(self) -> None:
        self._socket.close()

    def _shake_hands(self) -> None:
        deadline_s = time.monotonic() + TIMEOUT_S
        while True:
            try:
                self._tls.do_handshake()
            except SSL.WantReadError:
                self._flush()
            except SSL.Error as error:
                raise RefusedError(f"handshake: {error!r}") from error
            else:
                self._flush()
                return
            if not self._fetch(deadline_s - time.monotonic()):
                raise RefusedError("the server hung up in the handshake")

    def _fetch(self, timeout_s: float) -> bool:
        self._socket.settimeout(max(timeout_s, 0.0005))
        try:
            data = self._socket.recv(_READ_BYTES)
        except TimeoutError:
            raise
        except OSError as error:
            raise RefusedError(f"the connection broke: {error}") from error
        if data:
            self._tls.bio_write(data)
        return bool(data)

    def _flush(self) -> None:
        self._socket.settimeout(TIMEOUT_S)
        while True:
            try:
                data = self._tls.bio_read(_READ_BYTES)
            except SSL.WantReadError:
                return
            self._socket.sendall(data)


def dial(address: Address) -> socket.socket:
    """Connect by SOCKS5 (RFC 1928), as `--proxy` does.

    Raises:
        RefusedError: the proxy cannot reach the address.
    """
    connection = socket.create_connection(("127.0.0.1", address.proxy_tcp_port), TIMEOUT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        connection.sendall(b"\x05\x01\x00")
        assert _read_exactly(connection, 2) == b"\x05\x00"
        host = socket.inet_aton(address.host)
        connection.sendall(b"\x05\x01\x00\x01" + host + address.tcp_port.to_bytes(2, "big"))
        reply = _read_exactly(connection, 10)
        if reply[1] != 0:
            raise RefusedError(f"the proxy answers {reply[1]}")
    except BaseException:
        connection.close()
        raise
    return connection


def _read_exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = connection.recv(count - len(data))
        if not more:
            raise RefusedError("the proxy hung up")
        data += more
    return data
