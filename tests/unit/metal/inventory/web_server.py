# SPDX-License-Identifier: Apache-2.0
"""A real web server on a port of this host that answers from a table."""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import override

# Path -> status, where it sends to, body.
Table = Mapping[str, tuple[int, str, bytes]]


class Served:
    """What a server was asked, and where it is."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []


@contextmanager
def web_server(table: Table) -> Iterator[Served]:
    """Serve a table until the context is left; paths that it does not have are 404."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:  # the library calls it so
            self.answer(with_body=False)

        def do_GET(self) -> None:  # the library calls it so
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            served.asked.append(f"{self.command} {self.path}")
            status, location, body = table.get(self.path, (404, "", b""))
            self.send_response(status)
            if location:
                self.send_header("location", location)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        @override
        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    served = Served(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
