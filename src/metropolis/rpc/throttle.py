# SPDX-License-Identifier: Apache-2.0
"""How often callers may ask for what needs no certificate. Pure: time is an argument.

A stranger is known by its address, a member of the cluster by its name: a whole rack may share one
address (a NAT, the proxy of a lab). Every rate leaves room for what well-behaved callers do, even
200 machines at once behind one address; who asks more often is told when to come back.

    RegisterNode   once per machine; the burst is a rack that is switched on
    CommitNode     every second, for hours, by every machine that waits for its approval
    JoinNode       every 2 s by every machine that waits for its unlock key
    Escrow         by people, and by scripts that wait for a cluster to come up
    ReportWiped    once per machine
    the rest       GetCurrentLeader, GetCACertificate: whenever somebody looks for the leader
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from metropolis.api.methods import Method
from metropolis.rpc.peer import Peer, PeerKind
from metropolis.rpc.status import ThrottledError

KEYS_MAX: Final = 4096  # callers remembered per kind of call, about 200 bytes each
_MEMBERS: Final = frozenset((PeerKind.NODE, PeerKind.USER))
_IPV6_SUBSCRIBER_BITS: Final = 64  # whoever has one address of IPv6 has 2 ** 64 of them


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """How many calls per second in the long run, and how many at once before that counts."""

    per_s: float
    burst: float


MEMBERS: Final = Rate(per_s=1000.0, burst=5000.0)  # they may ask for worse things than these
OTHERS: Final = Rate(per_s=200.0, burst=1000.0)
RATES: Final[Mapping[str, Rate]] = {
    "RegisterNode": Rate(per_s=50.0, burst=400.0),
    "CommitNode": Rate(per_s=300.0, burst=600.0),
    "JoinNode": Rate(per_s=200.0, burst=600.0),
    "Escrow": Rate(per_s=20.0, burst=100.0),
    "ReportWiped": Rate(per_s=20.0, burst=200.0),
}
WRONG_TICKETS: Final = Rate(per_s=10.0, burst=100.0)  # per address: guessing one takes 2 ** 255


class Buckets:
    """A token bucket per caller. Who was not heard of for longest is forgotten first.

    Forgetting a caller fills its bucket: whoever has that many addresses is not slowed by address.
    """

    def __init__(self, rate: Rate, *, keys_max: int = KEYS_MAX) -> None:
        self._rate = rate
        self._keys_max = keys_max
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()  # tokens, as of when

    def __len__(self) -> int:
        return len(self._levels)

    def wait_s(self, key: str, *, now_s: float) -> float:
        """Return how long a caller has to wait for a token; 0 when there is one."""
        return max(0.0, (1.0 - self._level(key, now_s)) / self._rate.per_s)

    def take(self, key: str, *, now_s: float) -> float:
        """Take a token. Returns 0, or how long to wait for one; then nothing was taken."""
        level = self._level(key, now_s)
        granted = level >= 1.0
        self._levels[key] = (level - 1.0 if granted else level, now_s)
        self._levels.move_to_end(key)
        if len(self._levels) > self._keys_max:
            self._levels.popitem(last=False)
        return 0.0 if granted else (1.0 - level) / self._rate.per_s

    def _level(self, key: str, now_s: float) -> float:
        known = self._levels.get(key)
        if known is None:
            return self._rate.burst
        tokens, as_of_s = known
        return min(self._rate.burst, tokens + max(0.0, now_s - as_of_s) * self._rate.per_s)


class Throttle:
    """The rates of all calls that need no certificate, of one server."""

    def __init__(self) -> None:
        self._members = Buckets(MEMBERS)
        self._others = Buckets(OTHERS)
        self._buckets = {name: Buckets(rate) for name, rate in RATES.items()}

    def check(self, method: Method[Any, Any], caller: Peer, *, now_s: float) -> None:
        """Count one call.

        Args:
            caller: As `identify` tells: members by name.

        Raises:
            ThrottledError: too many; the remedy says when to try again.
        """
        is_member = caller.kind in _MEMBERS
        buckets = self._members if is_member else self._buckets.get(method.name, self._others)
        wait_s = buckets.take(subject(caller), now_s=now_s)
        if wait_s:
            raise too_many(f"calls of {method.name}", wait_s=wait_s)


def subject(caller: Peer) -> str:
    """Return whose calls are counted together."""
    if caller.kind in _MEMBERS:
        return f"{caller.kind.value} {caller.identity}"
    return neighbourhood(caller.address)


def neighbourhood(address: str) -> str:
    """Return what one stranger may hold: an address of IPv4, or a network of IPv6."""
    if ":" not in address:
        return address
    try:
        network = ipaddress.ip_network(
            (address.partition("%")[0], _IPV6_SUBSCRIBER_BITS), strict=False
        )
    except ValueError:
        return address
    return str(network)


def too_many(what: str, *, wait_s: float) -> ThrottledError:
    """Return what a caller is told who asks too often."""
    return ThrottledError(
        f"too many {what} from this address",
        remedy=f"Try again in {max(wait_s, 0.1):.1f} s.",
    )
