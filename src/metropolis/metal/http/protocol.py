# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 on a connection: parsed in C, with a bound on what comes before a body."""

from typing import Final

from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX: Final = 64 * 1024  # as other servers have it
_AROUND_BYTES: Final = 4  # colon, space and the end of the line


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a request whose first line and headers are too long, or do not end."""

    _head_bytes = 0  # of the headers that are complete
    _given_bytes = 0  # while the head is not complete
    _is_in_head = False

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
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
        if len(self.url) > HEAD_BYTES_MAX:
            raise ValueError("the path of this request is too long")  # answered with 400
        super().on_headers_complete()
