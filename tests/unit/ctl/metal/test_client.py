# SPDX-License-Identifier: Apache-2.0
"""Signatures, errors and the kept connection of the client."""

import json
import select
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from typing_extensions import override

from kits.mutual_tls import Authority
from metropolis.base.errors import (
    AbortedError,
    FailedPreconditionError,
    InternalError,
    InvalidArgumentError,
    MetropolisError,
    NotFoundError,
    PermissionDeniedError,
    UnavailableError,
)
from metropolis.ctl.metal.client import Access, Client, signature_headers

SIGNED = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("key", "method", "salt", "digest"),
    [
        (
            "k",
            "GET",
            "a" * 24,
            "acda713acc433a08c891c7fb79cfabca7dfb0a3d0271b9c1d42aa72a7790f1f1",
        ),
        (
            "metal-admin",
            "POST",
            "abcdefghijklmnopqrstuvwx",
            "9d02121681f8ed232b1b46b4981d7d38db370a5aba6861fba208d617da0f8443",
        ),
    ],
    ids=["first", "second"],
)
def test_the_vectors_of_the_interface_hold(key: str, method: str, salt: str, digest: str) -> None:
    expected = {
        "X-Date": "2026-01-02T03:04:05Z",
        "X-Data-Salt": salt,
        "Authorization": f"Metal-Admin {digest}",
    }
    assert signature_headers(key, "Metal-Admin", method, now=SIGNED, salt=salt) == expected
    elsewhere = SIGNED.astimezone(timezone(timedelta(hours=5)))
    assert signature_headers(key, "Metal-Admin", method, now=elsewhere, salt=salt) == expected


@dataclass(kw_only=True)
class Peer:
    """A server that answers what it is told, and what it heard."""

    url: str = ""
    status: int = 200
    body: bytes = b"{}"
    ends: bool = False
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)


@contextmanager
def peer(tls: ssl.SSLContext | None = None) -> Iterator[Peer]:
    heard = Peer()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            heard.headers.append(dict(self.headers))
            heard.connections.add(self.client_address)
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(heard.status)
            self.send_header("Content-Length", str(len(heard.body)))
            self.end_headers()
            self.wfile.write(heard.body)
            self.close_connection = heard.ends

        do_POST = do_PUT = do_DELETE = do_GET  # noqa: N815  # as the base class wants them

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    heard.url = f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, InvalidArgumentError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (409, AbortedError),
        (412, AbortedError),
        (422, FailedPreconditionError),
        (500, InternalError),
        (503, UnavailableError),
        (418, InternalError),
    ],
)
def test_every_no_becomes_an_error_with_a_remedy(status: int, kind: type[MetropolisError]) -> None:
    with peer() as server, Client(Access(url=server.url)) as client:
        server.status = status
        server.body = json.dumps({"statuscode": status, "message": "it is so"}).encode()
        with pytest.raises(kind) as refused:
            client.call("GET", "/v1/x")
    assert str(refused.value) == "it is so"
    assert refused.value.remedy.endswith(".")


def test_what_the_server_says_to_do_is_the_remedy() -> None:
    with peer() as server, Client(Access(url=server.url)) as client:
        server.status = 404
        message = "there is no size 's 1.5'. Check the id; list what there is."
        server.body = json.dumps({"statuscode": 404, "message": message}).encode()
        with pytest.raises(NotFoundError) as refused:
            client.call("GET", "/v1/x")
    assert str(refused.value) == "there is no size 's 1.5'"
    assert refused.value.remedy == "Check the id; list what there is."


def test_a_message_that_is_a_bare_text_is_shown_too() -> None:
    with peer() as server, Client(Access(url=server.url)) as client:
        server.status, server.body = 403, b"tenant is not allowed"
        with pytest.raises(PermissionDeniedError, match="tenant is not allowed"):
            client.call("GET", "/v1/x")


def test_what_is_no_json_is_no_metal_api() -> None:
    with peer() as server, Client(Access(url=server.url)) as client:
        server.body = b"<html>"
        with pytest.raises(UnavailableError, match="no Metal API"):
            client.call("GET", "/v1/x")


def test_one_connection_is_kept_and_dialled_anew_when_the_server_ended_it() -> None:
    with peer() as server, Client(Access(url=server.url)) as client:
        client.call("GET", "/v1/x")
        client.call("POST", "/v1/x", {})
        assert len(server.connections) == 1
        server.ends = True
        client.call("GET", "/v1/x")
        client.call("GET", "/v1/x")  # whether the end has arrived here or not
        assert select.select([client._connection.sock], [], [], 10)[0], "it did not end it"
        client.call("POST", "/v1/x")
    assert len(server.headers) == 5


def test_a_token_goes_before_a_key_and_every_signature_has_a_salt_of_its_own() -> None:
    with peer() as server:
        with Client(Access(url=server.url, token="t", hmac_key="k")) as client:
            client.call("GET", "/v1/x")
        with Client(Access(url=server.url, hmac_key="k", hmac_type="Metal-View")) as client:
            client.call("GET", "/v1/x")
            client.call("GET", "/v1/x")
        with Client(Access(url=server.url)) as client:
            client.call("GET", "/v1/x")
    shown = [headers.get("Authorization", "") for headers in server.headers]
    assert shown[0] == "Bearer t"
    assert shown[1].startswith("Metal-View ")
    assert shown[3] == ""
    salts = {server.headers[number]["X-Data-Salt"] for number in (1, 2)}
    assert len(salts) == 2
    assert all(len(salt) == 24 and salt.isalpha() for salt in salts)


def test_nobody_there_is_said_with_the_address() -> None:
    with peer() as server:
        url = server.url
    with Client(Access(url=url)) as client, pytest.raises(UnavailableError) as refused:
        client.call("GET", "/v1/x")
    assert str(refused.value) == f"{url} cannot be reached: Connection refused"


def test_only_the_authority_of_the_context_is_trusted(tmp_path: Path) -> None:
    authority, stranger = Authority(tmp_path, "ours"), Authority(tmp_path, "strange")
    files = authority.issue("server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    with peer(context) as server:
        trusted = authority.path.read_text(encoding="ascii")
        with Client(Access(url=server.url, authority=trusted)) as client:
            assert client.call("GET", "/v1/x") == {}
        for other in (stranger.path.read_text(encoding="ascii"), ""):
            with Client(Access(url=server.url, authority=other)) as client:
                with pytest.raises(UnavailableError, match="not trusted") as refused:
                    client.call("GET", "/v1/x")
                assert "certificate_authority_data" in refused.value.remedy


@pytest.mark.parametrize("url", ["", "ftp://x", "example.org", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="not the URL of a Metal API"):
        Client(Access(url=url))


def test_secrets_are_not_shown_by_accident() -> None:
    assert "sesame" not in repr(Access(url="http://x", token="sesame", hmac_key="sesame"))
