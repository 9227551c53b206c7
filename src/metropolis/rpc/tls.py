# SPDX-License-Identifier: Apache-2.0
"""TLS as this system needs it, behind the interface that asyncio and uvloop expect.

The standard library cannot ask for a client certificate without trusting it, so the handshake is
pyOpenSSL's. `server_context` and `client_context` return an `ssl.SSLContext` whose connections are
pyOpenSSL's in memory; the event loop's own TLS transports do all input and output.

TLS 1.3 only. Exactly one certificate per side, never a chain. No resumption: every connection
proves its key anew. CA names are never advertised, because clients that hold only a self-signed
certificate would then send none.

A server lets a certificate through when, at depth 0, OpenSSL finds nothing worse than: self-signed
(18), not for clients (26: node certificates), not yet valid (9), expired (10). These are judged per
call, where an error can carry a remedy; everything else fails the handshake here.
"""

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Self, cast

from cryptography import x509
from OpenSSL import SSL, crypto
from typing_extensions import override

from metropolis.base.errors import MetropolisError, UnauthenticatedError
from metropolis.pki.credentials import Credentials
from metropolis.rpc.transport import ServerVerifier

ALPN_H2: Final = b"h2"
_TOLERATED: Final = frozenset({18, 26, 9, 10})  # self-signed, purpose, not yet valid, expired
_MODE_NO_AUTO_CHAIN: Final = 0x8  # SSL_MODE_NO_AUTO_CHAIN; else the CA would follow our leaf
_MODE_PARTIAL_WRITE: Final = 0x1  # pyOpenSSL sets it; then a large write would be copied often
_RECORD_BYTES_MAX: Final = 1 << 14  # plaintext of one TLS record
_FLIGHT_BYTES: Final = 1 << 12  # more than what a side sends in one flight of a handshake


class TlsContext(ssl.SSLContext):
    """Makes TLS connections for an event loop. A subclass because event loops check the type."""

    _openssl: SSL.Context
    _alpn: bytes
    _trusted_ca: Callable[[], bytes | None]
    _trusted: bytes | None = None

    def __new__(cls) -> Self:
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER)

    def prepare(
        self, openssl: SSL.Context, alpn: bytes, trusted_ca: Callable[[], bytes | None]
    ) -> None:
        """Give it what the constructor cannot take: its signature is the standard library's."""
        self._openssl = openssl
        self._alpn = alpn
        self._trusted_ca = trusted_ca

    @override
    def wrap_bio(  # type: ignore[override]
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> "TlsConnection":
        self._follow_ca()
        return TlsConnection(
            SSL.Connection(self._openssl, None),
            incoming,
            outgoing,
            is_server=server_side,
            alpn=self._alpn,
        )

    def _follow_ca(self) -> None:
        """Trust the cluster's CA from the first connection after it became known."""
        ca_certificate = self._trusted_ca()
        if ca_certificate is not None and ca_certificate != self._trusted:
            store = self._openssl.get_cert_store()
            assert store is not None, "every context has a store"
            authority = x509.load_der_x509_certificate(ca_certificate)
            store.add_cert(crypto.X509.from_cryptography(authority))
            self._trusted = ca_certificate


@dataclass(slots=True)
class _Judgement:
    """What the verify callback saw of the peer's certificate."""

    was_asked: bool = False
    refusal: Exception | None = None


class TlsConnection:
    """One side of a TLS connection in memory; what event loops call an SSL object.

    Attributes:
        peer_certificate: DER of the certificate the peer proved to hold; None before the end of
            the handshake, and on a server whose client sent none.
    """

    def __init__(
        self,
        connection: SSL.Connection,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        *,
        is_server: bool,
        alpn: bytes,
    ) -> None:
        self.peer_certificate: bytes | None = None
        self._connection = connection
        self._incoming = incoming
        self._outgoing = outgoing
        self._is_server = is_server
        self._alpn = alpn
        self._judgement = _Judgement()
        self._failure = ""
        self._has_ciphertext = False  # bytes given to OpenSSL that it may not have decrypted
        connection.set_app_data(self._judgement)
        if is_server:
            connection.set_accept_state()
        else:
            connection.set_connect_state()

    def do_handshake(self) -> None:
        """Advance the handshake.

        Raises:
            ssl.SSLError: the handshake failed; `__cause__` is the `MetropolisError` if a
                certificate was refused by a rule of ours.
        """
        if self._failure:
            raise ssl.SSLError(1, self._failure)
        self._feed()
        try:
            self._connection.do_handshake()
        except SSL.WantReadError:
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more to come") from None
        except SSL.Error as error:
            if self._is_server and self._judgement.was_asked:
                # Event loops cut the connection at once. Only by asking for more can we let them
                # send our alert first, which tells the client why; it then closes, or time does.
                self._failure = _describe(error)
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, self._failure) from None
            raise ssl.SSLError(1, _describe(error)) from self._judgement.refusal
        finally:
            self._drain(_FLIGHT_BYTES)
        try:
            self._judge_peer()
        except MetropolisError as refusal:
            raise ssl.SSLError(1, str(refusal)) from refusal

    def read(self, count: int = _RECORD_BYTES_MAX, buffer: memoryview | None = None) -> bytes | int:
        """Return every record that has arrived, up to `count` bytes.

        All of them at once: uvloop asks again only while its own buffer or `pending` holds bytes.
        """
        self._feed()
        if not self._has_ciphertext and not self._connection.pending():
            # Event loops ask once more after each read; OpenSSL takes longer to say no.
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more to come")
        chunks: list[bytes] = []
        have = 0
        try:
            while have < count:
                chunk = self._connection.recv(min(count - have, _RECORD_BYTES_MAX))
                chunks.append(chunk)
                have += len(chunk)
        except SSL.WantReadError:
            self._has_ciphertext = False
            if not chunks:
                raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more to come") from None
        except SSL.ZeroReturnError:
            pass  # the peer said goodbye: an empty read says so, now or next time
        except SSL.Error as error:
            self._drain(_FLIGHT_BYTES)  # our alert
            if not chunks:
                raise ssl.SSLError(1, _describe(error)) from None
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        if buffer is None:
            return data
        buffer[: len(data)] = data
        return len(data)

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Encrypt all of `data`."""
        if not len(data):
            return 0
        try:
            count = self._connection.send(bytes(data) if isinstance(data, memoryview) else data)
        except SSL.WantReadError:  # only while a key update waits for the peer
            raise ssl.SSLWantReadError(ssl.SSL_ERROR_WANT_READ, "more to come") from None
        except SSL.Error as error:
            raise ssl.SSLError(1, _describe(error)) from None
        finally:
            self._drain(len(data) + 512)
        return count

    def unwrap(self) -> None:
        """Say goodbye. We never wait for the peer's goodbye: gRPC ends streams by itself."""
        try:
            self._connection.shutdown()
        except SSL.Error:
            pass  # nobody to say goodbye to
        finally:
            self._drain(_FLIGHT_BYTES)

    def pending(self) -> int:
        """Return how many bytes `read` might yield: exact for a decrypted record, else a guess."""
        return self._connection.pending() or int(self._has_ciphertext)

    def getpeercert(self, binary_form: bool = False) -> bytes | dict[str, object] | None:
        if binary_form:
            return self.peer_certificate
        return {} if self.peer_certificate is not None else None

    def cipher(self) -> tuple[str | None, str, int | None]:
        connection = self._connection
        return (
            connection.get_cipher_name(),
            connection.get_protocol_version_name(),
            connection.get_cipher_bits(),
        )

    def version(self) -> str:
        return self._connection.get_protocol_version_name()

    def compression(self) -> None:
        return None

    def selected_alpn_protocol(self) -> str | None:
        return self._connection.get_alpn_proto_negotiated().decode("ascii") or None

    def _judge_peer(self) -> None:
        """Check what can only be known at the end of the handshake."""
        connection = self._connection
        if self._alpn == ALPN_H2 and connection.get_alpn_proto_negotiated() != ALPN_H2:
            raise UnauthenticatedError(
                "the peer does not speak HTTP/2 (ALPN h2)", remedy="Use a gRPC client."
            )
        certificate = connection.get_peer_certificate()
        if certificate is None:
            if not self._is_server:
                raise UnauthenticatedError("the server presented no certificate")
            return
        chain = connection.get_peer_cert_chain() or []
        if len(chain) > (0 if self._is_server else 1):  # OpenSSL leaves the leaf out on servers
            raise UnauthenticatedError(
                "the peer presented more than one certificate",
                remedy="Present exactly one certificate, without its chain.",
            )
        if not self._judgement.was_asked:
            raise UnauthenticatedError("the peer's certificate was not judged")
        self.peer_certificate = crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate)

    def _feed(self) -> None:
        data = self._incoming.read()
        if data:
            self._has_ciphertext = True
            self._connection.bio_write(data)

    def _drain(self, expected_bytes: int) -> None:
        """Move what OpenSSL wants sent to the event loop. `expected_bytes` only saves calls."""
        size = max(_FLIGHT_BYTES, expected_bytes + (expected_bytes >> 8))
        try:
            while True:
                data = self._connection.bio_read(size)
                self._outgoing.write(data)
                if len(data) < size:
                    return
        except SSL.WantReadError:
            return


def server_context(
    credentials: Credentials,
    *,
    trusted_ca: Callable[[], bytes | None] = lambda: None,
    asks_for_certificate: bool = True,
    alpn: bytes = ALPN_H2,
) -> TlsContext:
    """Make a server's context.

    Args:
        credentials: The one certificate to present, and its key.
        trusted_ca: Returns the cluster CA (DER). While it is not known, only self-signed client
            certificates and clients without certificate pass.
        asks_for_certificate: Whether clients are asked; they need not answer.
        alpn: The protocol to select; `h2` is insisted on, others are not.
    """
    openssl = _context(credentials)
    openssl.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    if asks_for_certificate:
        openssl.set_verify(SSL.VERIFY_PEER, _judge_client)

    openssl.set_alpn_select_callback(
        lambda _, offered: alpn if alpn in offered else SSL.NO_OVERLAPPING_PROTOCOLS
    )
    return _wrap(openssl, alpn, trusted_ca)


def client_context(
    credentials: Credentials | None, *, verify: ServerVerifier, alpn: bytes = ALPN_H2
) -> TlsContext:
    """Make a client's context.

    Args:
        credentials: The one certificate to present, or None to present nothing.
        verify: Judges the server's certificate before ours is sent.
        alpn: The protocol to offer.
    """
    openssl = _context(credentials)

    def judge(
        connection: SSL.Connection, certificate: crypto.X509, _e: int, depth: int, _ok: int
    ) -> bool:
        judgement: _Judgement = connection.get_app_data()
        if depth != 0:
            return False  # a chain: refused as such
        if not judgement.was_asked:
            judgement.was_asked = True
            try:
                verify(crypto.dump_certificate(crypto.FILETYPE_ASN1, certificate))
            except Exception as refusal:  # noqa: BLE001 - fails closed, and is reported as the cause
                judgement.refusal = refusal.with_traceback(None)  # which holds the judgement
        return judgement.refusal is None

    openssl.set_verify(SSL.VERIFY_PEER, judge)
    openssl.set_alpn_protos([alpn])
    return _wrap(openssl, alpn)


def _judge_client(
    connection: SSL.Connection, _certificate: crypto.X509, error: int, depth: int, is_fine: int
) -> bool:
    judgement: _Judgement = connection.get_app_data()
    judgement.was_asked = True
    return bool(is_fine) or (depth == 0 and error in _TOLERATED)


def _context(credentials: Credentials | None) -> SSL.Context:
    openssl = SSL.Context(SSL.TLS_METHOD)
    openssl.set_min_proto_version(SSL.TLS1_3_VERSION)
    openssl.set_options(SSL.OP_NO_TICKET)
    openssl.set_mode(SSL.MODE_RELEASE_BUFFERS | _MODE_NO_AUTO_CHAIN)
    openssl.clear_mode(_MODE_PARTIAL_WRITE)
    if credentials is not None:
        openssl.use_certificate(x509.load_der_x509_certificate(credentials.certificate))
        openssl.use_privatekey(credentials.key)
        openssl.check_privatekey()
    return openssl


def _wrap(
    openssl: SSL.Context, alpn: bytes, trusted_ca: Callable[[], bytes | None] = lambda: None
) -> TlsContext:
    context = TlsContext()
    context.prepare(openssl, alpn, trusted_ca)
    return context


def is_refusal(error: BaseException | None) -> bool:
    """Tell whether a connection ended because the peer refused our certificate."""
    text = str(error)
    return (
        isinstance(error, ssl.SSLError)
        and "alert" in text
        and ("certificate" in text or "unknown ca" in text)
    )


def _describe(error: SSL.Error) -> str:
    """Render OpenSSL's error queue: a list of (library, function, reason)."""
    if isinstance(error, SSL.SysCallError):
        return "the peer closed the connection in the middle of a record"
    queue: object = error.args[0] if error.args else None
    entries = cast("list[tuple[object, ...]]", queue) if isinstance(queue, list) else []
    return "; ".join(str(entry[-1]) for entry in entries) or type(error).__name__
