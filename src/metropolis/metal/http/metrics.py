# SPDX-License-Identifier: Apache-2.0
"""What a replica counts, as Prometheus reads it, on a port of its own.

    metal_api_requests_total{code,method}
    metal_api_request_duration_seconds{route,method}      a histogram
    metal_api_watchers                                    lists that are being watched

Routes are paths of the table, `/v1/machine/{id}`, so their number is bounded whatever is asked.
"""

import asyncio
from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from metropolis.metal.http.exchange import Exchange, Receive, Response, Scope, Send, problem

BUCKETS_S: Final = (0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PATH: Final = "/metrics"
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
METHODS: Final = frozenset({"GET", "POST", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH"})


class Metrics:
    """The counters of one replica; all of them only grow, but for `watchers`."""

    def __init__(self) -> None:
        self.watchers = 0
        self._requests: dict[tuple[int, str], int] = {}
        self._buckets: dict[tuple[str, str], list[int]] = {}  # the last one has no upper end
        self._sums_s: dict[tuple[str, str], float] = {}

    def count(self, route: str, method: str, status: int, duration_s: float) -> None:
        """Count one answered request."""
        method = method if method in METHODS else "other"
        key = (status, method)
        self._requests[key] = self._requests.get(key, 0) + 1
        place = (route, method)
        buckets = self._buckets.get(place)
        if buckets is None:
            buckets = self._buckets[place] = [0] * (len(BUCKETS_S) + 1)
            self._sums_s[place] = 0.0
        buckets[bisect_left(BUCKETS_S, duration_s)] += 1
        self._sums_s[place] += duration_s

    def text(self) -> str:
        """Return everything in the exposition format."""
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        name = "metal_api_requests_total"
        yield f"# HELP {name} Requests that were answered."
        yield f"# TYPE {name} counter"
        for (code, method), count in sorted(self._requests.items()):
            yield f'{name}{{code="{code}",method="{method}"}} {count}'
        name = "metal_api_request_duration_seconds"
        yield f"# HELP {name} How long answering took."
        yield f"# TYPE {name} histogram"
        for place, buckets in sorted(self._buckets.items()):
            labels = f'route="{place[0]}",method="{place[1]}"'
            total = 0
            for bound, count in zip((*BUCKETS_S, "+Inf"), buckets, strict=True):
                total += count
                yield f'{name}_bucket{{{labels},le="{bound}"}} {total}'
            yield f"{name}_sum{{{labels}}} {self._sums_s[place]:.6f}"
            yield f"{name}_count{{{labels}}} {total}"
        yield "# HELP metal_api_watchers Lists that are being watched."
        yield "# TYPE metal_api_watchers gauge"
        yield f"metal_api_watchers {self.watchers}"


class MetricsApplication:
    """Serves the counters, and nothing else."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._closing = asyncio.Event()

    def close(self) -> None:
        """Nobody stays here."""
        self._closing.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        assert scope["type"] == "http"
        exchange = Exchange(scope, receive)
        if exchange.path != PATH:
            response = problem(404, f"there is only {PATH} here")
        elif exchange.method != "GET":
            response = problem(405, "this can only be read", {"allow": "GET"})
        else:
            body = self._metrics.text().encode()
            response = Response(body=body, content_type=CONTENT_TYPE)
        await response.send(receive, send, {}, self._closing)
