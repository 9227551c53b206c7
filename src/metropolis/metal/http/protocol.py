# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 on a connection, parsed in C: what comes before a body is bounded, and in time."""

import asyncio
from typing import Any, Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX: Final = 64 * 1024  # as other servers have it
HEAD_S: Final = (
    30.0  # nobody has said who he is before that: he must not keep a connection for ever
)
_AROUND_BYTES: Final = 4  # colon, space and the end of the line


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a request whose first line and headers are too long, or do not end in time."""

    head_s = HEAD_S
    _head_bytes = 0  # of the headers that are complete
    _given_bytes = 0  # while the head is not complete
    _is_in_head = False
    _limit: asyncio.TimerHandle | None = None  # until the head must be there

    @override
    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._set_limit()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._unset_limit()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._is_in_head and self._limit is None:
            self._set_limit()
        if self._is_in_head and not self.transport.is_closing():
            self._given_bytes += len(data)
            if self._given_bytes > HEAD_BYTES_MAX:
                self.send_400_response("The headers of this request are too long.")

    @override
    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = self._given_bytes = 0

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + _AROUND_BYTES
        if self._head_bytes > HEAD_BYTES_MAX:
            raise ValueError("the headers of this request are too long")  # answered with 400
        super().on_header(name, value)

    @override
    def on_headers_complete(self) -> None:
        self._is_in_head = False
        self._unset_limit()
        if len(self.url) > HEAD_BYTES_MAX:
            raise ValueError("the path of this request is too long")  # answered with 400
        super().on_headers_complete()

    def _set_limit(self) -> None:
        self._limit = self.loop.call_later(self.head_s, self._give_up)

    def _unset_limit(self) -> None:
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _give_up(self) -> None:
        self._limit = None
        if not self.transport.is_closing():
            self.transport.close()
