# SPDX-License-Identifier: Apache-2.0
"""Logging in with a browser, at an issuer that believes nothing without proof."""

import base64
import hashlib
import http.client
import json
import ssl
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typing_extensions import override

from kits.mutual_tls import Authority
from metropolis.base.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    UnavailableError,
)
from metropolis.ctl.metal.configuration import MetalContext
from metropolis.ctl.metal.login_flow import log_in
from unit.ctl.metal.conftest import Metalctl


@dataclass(kw_only=True)
class Issuer:
    """An issuer whose user logs in at once; remembers what it was asked."""

    url: str = ""
    secret: str = ""
    refusal: str = ""
    asked: dict[str, str] = field(default_factory=dict)

    def answer_token(self, form: dict[str, str]) -> tuple[int, dict[str, Any]]:
        digest = hashlib.sha256(form["code_verifier"].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        is_right = (
            form["code"] == "the-code"
            and challenge == self.asked["code_challenge"]
            and form["redirect_uri"] == self.asked["redirect_uri"]
            and form.get("client_secret", "") == self.secret
        )
        return (200, {"id_token": "the-token"}) if is_right else (400, {"error": "invalid_grant"})

    def browse(self, url: str) -> None:
        """Be the person: a forged answer comes first, then the issuer sends the browser back."""
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query))
        self.asked = query
        back = urllib.parse.urlsplit(query["redirect_uri"])
        answer = {"error": self.refusal} if self.refusal else {"code": "the-code"}
        for state in ("forged", query["state"]):
            connection = http.client.HTTPConnection("127.0.0.1", back.port or 0, timeout=10)
            text = urllib.parse.urlencode({**answer, "state": state})
            connection.request("GET", f"{back.path}?{text}")
            connection.getresponse().read()
            connection.close()


@contextmanager
def issuer(tls: ssl.SSLContext | None = None) -> Iterator[Issuer]:
    found = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send(
                200,
                {
                    "authorization_endpoint": f"{found.url}/auth",
                    "token_endpoint": f"{found.url}/token",
                },
            )

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            self.send(*found.answer_token(dict(urllib.parse.parse_qsl(text))))

        def send(self, status: int, document: dict[str, Any]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def logged_in(found: Issuer, **fields: Any) -> str:
    """Log in, with a browser in a thread of its own."""
    browsers: list[threading.Thread] = []

    def told(line: str) -> None:
        url = line.rsplit(maxsplit=1)[-1]
        browsers.append(threading.Thread(target=found.browse, args=(url,)))
        browsers[-1].start()

    context = MetalContext(issuer_url=f"{found.url}/", client_id="metal", **fields)
    try:
        return log_in(context, timeout_s=20.0, told=told)
    finally:
        for each in browsers:
            each.join()


@pytest.fixture(autouse=True)
def no_display(monkeypatch: pytest.MonkeyPatch) -> None:
    """No real browser opens."""
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)


def test_the_token_comes_for_the_code_with_the_verifier_and_forgers_are_ignored() -> None:
    with issuer() as found:
        found.secret = "sesame"
        assert logged_in(found, client_secret="sesame") == "the-token"
        assert found.asked["client_id"] == "metal"
        assert found.asked["code_challenge_method"] == "S256"
        assert found.asked["scope"].split()[:2] == ["openid", "profile"]


def test_scopes_may_be_chosen_and_openid_is_among_them() -> None:
    with issuer() as found:
        assert logged_in(found, custom_scopes="roles,email") == "the-token"
        assert found.asked["scope"] == "openid roles email"


def test_what_the_issuer_refuses_is_said() -> None:
    with issuer() as found:
        found.refusal = "access_denied"
        with pytest.raises(FailedPreconditionError, match="the issuer refused: access_denied"):
            logged_in(found)
        found.refusal, found.secret = "", "sesame"
        with pytest.raises(FailedPreconditionError, match="the issuer refused: invalid_grant"):
            logged_in(found, client_secret="wrong")


def test_nobody_who_comes_back_is_waited_for_only_so_long() -> None:
    with issuer() as found:
        context = MetalContext(issuer_url=found.url, client_id="metal")
        with pytest.raises(DeadlineExceededError, match="nobody logged in in time"):
            log_in(context, timeout_s=0.05, told=lambda _line: None)


def test_an_issuer_that_is_not_there_is_said_to_be_so() -> None:
    with issuer() as found:
        url = found.url
    with pytest.raises(UnavailableError, match="cannot be reached"):
        log_in(MetalContext(issuer_url=url, client_id="m"), timeout_s=1.0, told=lambda _: None)


def test_secrets_are_not_sent_without_https_where_the_issuer_has_it(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    files = authority.issue("server")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(files.certificate, files.key)
    with issuer(tls) as found:  # which publishes endpoints without https
        context = MetalContext(
            issuer_url=found.url.replace("http:", "https:"),
            client_id="metal",
            authority=authority.path.read_text(encoding="ascii"),
        )
        with pytest.raises(UnavailableError, match="without https"):
            log_in(context, timeout_s=0.05, told=lambda _line: None)


def test_who_has_no_issuer_is_told_what_to_write_and_logout_forgets(
    metalctl: Metalctl, home: Path
) -> None:
    assert "has no issuer_url and client_id" in metalctl("login").err
    token = home / ".metalctl" / "tokens" / "default.yaml"
    token.parent.mkdir(parents=True)
    token.write_text(yaml.safe_dump({"id_token": "x"}), encoding="utf-8")
    assert metalctl("logout").status == 0
    assert not token.exists()
