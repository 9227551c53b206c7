# SPDX-License-Identifier: Apache-2.0
"""Logging in with OpenID Connect: authorization code, PKCE, a listener on this computer.

    discovery ─ browser to the issuer ─ back to http://127.0.0.1:PORT/callback?code=…&state=…
              ─ code and verifier to the token endpoint ─ id token

Nothing that comes back is believed without our state, and the code is of no use without the
verifier, which never leaves this process but to the issuer.
"""

import base64
import hashlib
import hmac
import http.client
import json
import os
import secrets
import ssl
import urllib.parse
import webbrowser
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any, Final, cast

from typing_extensions import override

from metropolis.base.errors import (
    DeadlineExceededError,
    FailedPreconditionError,
    InvalidArgumentError,
    UnavailableError,
)
from metropolis.ctl.metal.configuration import MetalContext
from metropolis.host.linux.clock import LinuxClock

TIMEOUT_S: Final = 300.0  # for a person to type a password
CALL_TIMEOUT_S: Final = 30.0
TCP_PORTS: Final = (8000, 18000)  # that issuers know as redirect URIs; then any
_DISCOVERY: Final = "/.well-known/openid-configuration"
_DOCUMENT_BYTES_MAX: Final = 1 << 20
_VERIFIER_BYTES: Final = 48
_DONE: Final = "You are logged in; go back to your terminal.\n"
_FAILED: Final = "Logging in failed; your terminal says why.\n"


def log_in(context: MetalContext, *, timeout_s: float, told: Callable[[str], None]) -> str:
    """Have a person log in; return the id token.

    Raises:
        FailedPreconditionError: the issuer refused.
        DeadlineExceededError: the person did not finish in time.
        UnavailableError: the issuer cannot be reached, or is none.
    """
    issuer = context.issuer_url.rstrip("/")
    metadata = _fetch("GET", issuer + _DISCOVERY, authority=context.authority)
    endpoint, token_url = (
        _url(metadata, f"{name}_endpoint", issuer) for name in ("authorization", "token")
    )
    state = secrets.token_urlsafe()
    verifier = secrets.token_urlsafe(_VERIFIER_BYTES)
    with _listen() as server:
        redirect = f"http://localhost:{server.server_port}/callback"
        url = _authorization_url(context, endpoint, redirect, state=state, verifier=verifier)
        told(f"Log in with your browser at\n  {url}")
        if os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
            webbrowser.open(url)
        code = server.wait_code(state, timeout_s=timeout_s)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": redirect,
        "client_id": context.client_id,
        "code_verifier": verifier,
    }
    if context.client_secret:
        form["client_secret"] = context.client_secret
    answer = _fetch("POST", token_url, form=form, authority=context.authority)
    token = answer.get("id_token")
    if not isinstance(token, str) or not token:
        raise FailedPreconditionError(
            "the issuer gave no id token", remedy="Let its client have the scope openid."
        )
    return token


def _authorization_url(
    context: MetalContext, endpoint: str, redirect: str, *, state: str, verifier: str
) -> str:
    digest = hashlib.sha256(verifier.encode()).digest()
    scopes = context.custom_scopes.replace(",", " ").split()
    query = {
        "response_type": "code",
        "client_id": context.client_id,
        "redirect_uri": redirect,
        "scope": " ".join(dict.fromkeys(["openid", *(scopes or _scopes(context))])),
        "state": state,
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urllib.parse.urlencode(query)}"


def _scopes(context: MetalContext) -> list[str]:
    extra = ["federated:id"] if context.issuer_type == "dex" else []
    return ["profile", "email", "groups", "offline_access", *extra]


class _Server(HTTPServer):
    """Waits for the browser to come back."""

    query: Mapping[str, list[str]] | None = None
    state = ""

    def wait_code(self, state: str, *, timeout_s: float) -> str:
        """Return the code of the answer that has our state."""
        self.state = state
        clock = LinuxClock()
        end_s = clock.monotonic_s() + timeout_s
        while self.query is None:
            self.timeout = end_s - clock.monotonic_s()
            if self.timeout <= 0:
                raise DeadlineExceededError(
                    "nobody logged in in time", remedy="Run `metalctl login` again."
                )
            self.handle_request()
        if error := self.query.get("error"):
            text = " ".join([*error, *self.query.get("error_description", [])])
            raise FailedPreconditionError(
                f"the issuer refused: {text[:500]}", remedy="Ask who runs the issuer."
            )
        return self.query["code"][0]


class _Handler(BaseHTTPRequestHandler):
    """Takes the one request that counts; everything else is not for us."""

    timeout = 10.0  # type: ignore[mutable-override]  # as its documentation wants it

    def do_GET(self) -> None:
        server = cast("_Server", self.server)
        parts = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(parts.query)
        state = query.get("state", [""])[0]
        is_ours = hmac.compare_digest(state.encode(), server.state.encode())
        if parts.path != "/callback" or not is_ours or not ({"code", "error"} & set(query)):
            self.send_error(http.client.NOT_FOUND)
            return
        server.query = query
        body = (_FAILED if "error" in query else _DONE).encode()
        self.send_response(http.client.OK)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @override
    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing: codes are secrets."""


def _listen() -> _Server:
    for tcp_port in TCP_PORTS:
        try:
            return _Server(("127.0.0.1", tcp_port), _Handler)
        except OSError:
            continue
    return _Server(("127.0.0.1", 0), _Handler)


def _url(metadata: Mapping[str, Any], name: str, issuer: str) -> str:
    """Return where an issuer is asked; of one with https it is never without."""
    found = metadata.get(name)
    if not isinstance(found, str):
        raise UnavailableError(
            f"the issuer does not publish its {name}", remedy="Correct issuer_url of the context."
        )
    if issuer.startswith("https:") and not found.startswith("https:"):
        raise UnavailableError(
            f"the issuer wants secrets sent to {found[:200]}, without https",
            remedy="Ask who runs the issuer to correct its discovery document.",
        )
    return found


def _fetch(
    method: str, url: str, *, form: Mapping[str, str] | None = None, authority: str
) -> dict[str, Any]:
    """Call the issuer; return the JSON object that it answers."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidArgumentError(
            f"{url[:200]!r} is no URL of an issuer", remedy="Correct issuer_url of the context."
        )
    connection = _connection(parts, authority)
    target = urllib.parse.urlunsplit(("", "", parts.path or "/", parts.query, ""))
    headers = {"Accept": "application/json"}
    if form is not None:
        headers["Content-Type"] = "application/x-www-form-urlencoded"
    try:
        body = None if form is None else urllib.parse.urlencode(form)
        connection.request(method, target, body=body, headers=headers)
        response = connection.getresponse()
        status, answer = response.status, response.read(_DOCUMENT_BYTES_MAX)
    except (OSError, http.client.HTTPException) as cause:
        raise UnavailableError(
            f"the issuer {parts.hostname} cannot be reached: {cause}",
            remedy="Check issuer_url of the context, and your network.",
        ) from cause
    finally:
        connection.close()
    try:
        document: object = json.loads(answer)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise UnavailableError(
            f"{parts.hostname} answered {status}, which no issuer does",
            remedy="Check issuer_url of the context.",
        )
    found = cast("dict[str, Any]", document)
    if status >= http.client.BAD_REQUEST:
        text = found.get("error_description") or found.get("error") or status
        raise FailedPreconditionError(
            f"the issuer refused: {str(text)[:500]}",
            remedy="Check client_id and client_secret of the context, and log in again.",
        )
    return found


def _connection(parts: urllib.parse.SplitResult, authority: str) -> http.client.HTTPConnection:
    assert parts.hostname
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=CALL_TIMEOUT_S)
    context = ssl.create_default_context()
    if authority:
        context.load_verify_locations(cadata=authority)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return http.client.HTTPSConnection(
        parts.hostname, parts.port, timeout=CALL_TIMEOUT_S, context=context
    )
