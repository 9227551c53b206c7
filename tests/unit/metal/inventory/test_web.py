# SPDX-License-Identifier: Apache-2.0
"""Asking other people's web servers."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest

from kits.mutual_tls import Authority
from metropolis.base.errors import InvalidArgumentError, UnavailableError
from metropolis.metal.web import HttpWeb, WebAnswer
from unit.metal.inventory.web_server import web_server


def test_the_status_of_a_url_is_what_its_server_answers() -> None:
    with web_server({"/img?x=1": (200, "", b"image")}) as served:
        assert asyncio.run(HttpWeb().head(f"{served.url}/img?x=1")) == 200
        assert asyncio.run(HttpWeb().head(f"{served.url}/other")) == 404
        assert served.asked == ["HEAD /img?x=1", "HEAD /other"]


def test_redirects_are_followed_to_where_they_lead() -> None:
    table = {"/a": (302, "/b", b""), "/b": (301, "c", b""), "/c": (200, "", b"here")}
    with web_server(table) as served:
        answer = asyncio.run(HttpWeb().get(f"{served.url}/a", bytes_max=10))
    assert answer == WebAnswer(200, b"here")


def test_redirects_in_a_circle_are_given_up() -> None:
    with (
        web_server({"/a": (302, "/a", b"")}) as served,
        pytest.raises(UnavailableError, match="more than 5 redirects"),
    ):
        asyncio.run(HttpWeb().head(f"{served.url}/a"))


def test_a_redirect_to_something_else_than_the_web_is_refused() -> None:
    with (
        web_server({"/a": (302, "file:///etc/passwd", b"")}) as served,
        pytest.raises(InvalidArgumentError, match="no http or https URL"),
    ):
        asyncio.run(HttpWeb().head(f"{served.url}/a"))


def test_an_answer_that_is_too_long_is_refused() -> None:
    with (
        web_server({"/a": (200, "", b"x" * 100)}) as served,
        pytest.raises(UnavailableError, match="longer than 99 bytes"),
    ):
        asyncio.run(HttpWeb().get(f"{served.url}/a", bytes_max=99))


def test_a_server_that_is_not_there_is_unavailable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(UnavailableError, match="cannot be read"):
            asyncio.run(HttpWeb().head(f"http://127.0.0.1:{unused.getsockname()[1]}/"))


def test_a_server_that_never_answers_is_given_up() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(UnavailableError, match=r"no answer within 0\.05 s"):
            asyncio.run(
                HttpWeb(timeout_s=0.05).head(f"http://127.0.0.1:{silent.getsockname()[1]}/")
            )


def test_what_is_no_http_is_unavailable() -> None:
    async def scenario() -> None:
        async def babble(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(b"220 mail.example ESMTP\r\n\r\n")
            writer.close()
            await writer.wait_closed()

        server = await asyncio.start_server(babble, "127.0.0.1", 0)
        async with server:
            tcp_port = server.sockets[0].getsockname()[1]
            with pytest.raises(UnavailableError, match="cannot be read"):
                await HttpWeb().head(f"http://127.0.0.1:{tcp_port}/")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "url",
    [
        "", "img.tar", "ftp://host/img", "http://", "http://host:99999/", "http://[::1/",
        "//host/x", "http://host/a b", "http://host/\r\nx: y", "http://host/ü",
    ],
)  # fmt: skip
def test_what_is_no_url_of_the_web_is_refused(url: str) -> None:
    with pytest.raises(InvalidArgumentError, match="no http or https URL"):
        asyncio.run(HttpWeb().head(url))


def test_a_redirect_does_not_lead_out_of_https(tmp_path: Path) -> None:
    """Whoever is between us and a plain server would answer with keys of his own."""
    authority = Authority(tmp_path)
    files = authority.issue("server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)

    async def scenario(plain: str) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            writer.write(f"HTTP/1.1 302 Found\r\nlocation: {plain}/keys\r\n".encode())
            writer.write(b"content-length: 0\r\n\r\n")
            await writer.drain()
            writer.close()

        async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=tls) as server:
            tcp_port = server.sockets[0].getsockname()[1]
            web = HttpWeb(ca_file=str(authority.path))
            with pytest.raises(UnavailableError, match="from https to http"):
                await web.get(f"https://127.0.0.1:{tcp_port}/", bytes_max=10)

    with web_server({"/keys": (200, "", b"keys")}) as served:
        asyncio.run(scenario(served.url))
        assert served.asked == []
