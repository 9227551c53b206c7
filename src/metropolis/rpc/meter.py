# SPDX-License-Identifier: Apache-2.0
"""What a server counts about its calls. Cheap: a call costs two dictionary look-ups and a search.

There are as many series as methods that are served, times the codes they have answered with: what
callers make up (paths, say) is counted under one name.
"""

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Final

from metropolis.api.methods import Cardinality, Method

UNKNOWN: Final = ""  # the path under which calls of methods that nobody serves are counted
CANCELLED: Final = 1  # gRPC's code of a call whose caller went away
UNIMPLEMENTED: Final = 12
# Upper bounds of the time of a call. A read from the cache takes 1 ms, a write with its disk
# flushes 10 to 100 ms, a call that waits for an election a second or two.
BOUNDS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class MethodCalls:
    """The calls of one method.

    Attributes:
        by_code: How many have ended, by gRPC code.
        in_flight: How many have begun and not ended.
        is_timed: Whether how long they take says anything: it does not of streams, which last.
        counts: How many took how long, by bucket: one per bound, and one above.
        total_s: How long all of them took.
    """

    __slots__ = ("by_code", "counts", "in_flight", "is_timed", "total_s")

    def __init__(self, *, is_timed: bool) -> None:
        self.is_timed = is_timed
        self.by_code: dict[int, int] = {}
        self.in_flight = 0
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.total_s = 0.0

    def end(self, code: int, elapsed_s: float) -> None:
        """Count a call that has begun."""
        self.in_flight -= 1
        self.by_code[code] = self.by_code.get(code, 0) + 1
        if self.is_timed:
            self.counts[bisect_left(BOUNDS_S, elapsed_s)] += 1
            self.total_s += elapsed_s


class CallMeter:
    """Counts the calls and connections of the servers that share it.

    Attributes:
        connections: Open ones, of which the handshake may not have ended.
        refused_handshakes: Connections that ended before their first call could begin.
    """

    __slots__ = ("_methods", "connections", "refused_handshakes")

    def __init__(self) -> None:
        self._methods: dict[str, MethodCalls] = {}
        self.connections = 0
        self.refused_handshakes = 0

    def begin(self, method: Method[Any, Any]) -> MethodCalls:
        """Count a call that begins, of a method that the server offers."""
        calls = self._methods.get(method.path)
        if calls is None:
            is_stream = method.cardinality is not Cardinality.UNARY_UNARY
            calls = self._methods[method.path] = MethodCalls(is_timed=not is_stream)
        calls.in_flight += 1
        return calls

    def refuse_unknown(self) -> None:
        """Count a call of a method that nobody serves."""
        calls = self._methods.setdefault(UNKNOWN, MethodCalls(is_timed=False))
        calls.in_flight += 1
        calls.end(UNIMPLEMENTED, 0.0)

    def __iter__(self) -> Iterator[tuple[str, MethodCalls]]:
        """Yield the path of every method that was called, as "/package.Service/Method"."""
        return iter(sorted(self._methods.items()))
