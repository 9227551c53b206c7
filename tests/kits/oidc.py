# SPDX-License-Identifier: Apache-2.0
"""An OpenID Connect provider: real HTTP on a port of its own, real RSA keys.

with provider() as issuer:
    token = issuer.token(roles=["maas-all-all-view"])
"""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from typing_extensions import override

CLIENT_ID = "metal"


def new_key(bits: int = 2048) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


_FIRST = new_key()  # making one takes long; the tests that need another make it


@dataclass(kw_only=True)
class Issuer:
    """What the provider publishes, and how often it was asked for its keys."""

    url: str = ""
    keys: dict[str, rsa.RSAPrivateKey] = field(default_factory=lambda: {"first": _FIRST})
    questions: int = 0
    is_broken: bool = False
    claimed: str = ""  # as issuer, when it lies

    def document(self, path: str) -> dict[str, Any] | None:
        if self.is_broken:
            return None
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.claimed or self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            self.questions += 1
            return {"keys": [self._published(name) for name in self.keys]}
        return None

    def _published(self, name: str) -> dict[str, Any]:
        public = json.loads(RSAAlgorithm.to_jwk(self.keys[name].public_key()))
        return {**public, "kid": name, "use": "sig"}

    def token(
        self,
        *,
        key: str = "first",
        signed_with: rsa.RSAPrivateKey | None = None,
        algorithm: str = "RS256",
        without: str = "",
        **claims: Any,
    ) -> str:
        """A token of a user, with claims replaced or added."""
        now = int(time.time())
        content = {
            "iss": self.url,
            "aud": CLIENT_ID,
            "sub": "42",
            "iat": now,
            "exp": now + 3600,
            "email": "ada@example.org",
            "preferred_username": "ada",
            "roles": ["maas-all-all-edit"],
            **claims,
        }
        content.pop(without, None)
        return jwt.encode(
            content, signed_with or self.keys[key], algorithm=algorithm, headers={"kid": key}
        )


@contextmanager
def provider() -> Iterator[Issuer]:
    """Serve until the end of the block."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            document = issuer.document(self.path)
            body = json.dumps(document).encode()
            self.send_response(200 if document is not None else 503)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            del format, args

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
