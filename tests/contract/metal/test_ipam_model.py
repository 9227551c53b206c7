# SPDX-License-Identifier: Apache-2.0
"""Random histories of the address books agree with a naive model, on either database.

The model is sets and the standard library's `ipaddress`: no marks, no blocks, no batches.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from typing_extensions import override

from kits.postgres import PostgresServer
from metropolis.base.errors import MetropolisError
from metropolis.metal.ipam import addresses, pools, prefixes
from metropolis.metal.store import Store, Transaction
from metropolis.metal.store.opening import open_store
from unit.metal.kit import StillClock

ResultT = TypeVar("ResultT")
Network = IPv4Network | IPv6Network

ROOTS = [ip_network(text) for text in ("10.0.0.0/25", "10.0.0.128/26", "10.0.0.0/26")]
ROOTS += [ip_network(text) for text in ("2001:db8::/120", "2001:db8::80/122", "10.0.1.0/30")]
POOL = pools.Pool(name="small", first=3, last=9)


@dataclass
class Naive:
    """What one prefix holds."""

    parent: Network | None = None
    children: set[Network] = field(default_factory=set)
    taken: set[Any] = field(default_factory=set)


def hosts(network: Network) -> set[Any]:
    """All addresses that may be handed out, found by listing."""
    every = list(network)
    return set(every[1:-1] if network.version == 4 else every[1:])


def free_of(network: Network, children: set[Network]) -> list[Network]:
    """What is left of a network without its children, in as few prefixes as can be."""
    rest: list[Any] = [network]
    for child in children:
        rest = [
            piece
            for each in rest
            for piece in (each.address_exclude(child) if child.subnet_of(each) else [each])
        ]
    return sorted(rest)


class Books(RuleBasedStateMachine):
    """Does the same to the books and to the model."""

    url: str
    drop: Callable[[], None]

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.store: Store = self.runner.run(open_store(self.new_url(), clock=StillClock()))
        self.model: dict[Network, Naive] = {}
        self.integers: dict[int, int] = {}

    def new_url(self) -> str:
        raise NotImplementedError

    @override
    def teardown(self) -> None:
        self.runner.run(self.store.close())
        self.runner.close()

    def change(self, change: Callable[[Transaction], Awaitable[ResultT]]) -> ResultT | None:
        """Run a transaction; None when it was refused."""

        async def write() -> ResultT:
            return await self.store.write(change, serial=False)

        try:
            return self.runner.run(write())
        except MetropolisError:
            return None

    def pick(self, data: st.DataObject, *, child: bool | None = None) -> Network | None:
        known = sorted(self.model, key=str)
        if child is not None:
            known = [each for each in known if (self.model[each].parent is not None) is child]
        return data.draw(st.sampled_from(known)) if known else None

    @rule(network=st.sampled_from(ROOTS))
    def create(self, network: Network) -> None:
        tops = [each for each, naive in self.model.items() if naive.parent is None]
        is_free = not any(
            each.version == network.version and each.overlaps(network) for each in tops
        )
        made = self.change(lambda tx: prefixes.create_prefix(tx, str(network)))
        assert (made is not None) == is_free
        if made is not None:
            self.model[network] = Naive()

    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        network = self.pick(data)
        if network is None:
            return
        naive = self.model[network]
        gone = self.change(lambda tx: prefixes.delete_prefix(tx, str(network)))
        assert (gone is not None) == (not naive.children and not naive.taken)
        if gone is not None:
            del self.model[network]
            if naive.parent is not None:
                self.model[naive.parent].children.remove(network)

    @rule(data=st.data(), more=st.integers(-1, 4))
    def cut_any(self, data: st.DataObject, more: int) -> None:
        network = self.pick(data)
        if network is None:
            return
        naive, bits = self.model[network], network.prefixlen + more
        fitting = [each for each in free_of(network, naive.children) if each.prefixlen <= bits]
        can = more > 0 and bits <= network.max_prefixlen and not naive.taken and bool(fitting)
        made = self.change(lambda tx: prefixes.acquire_child(tx, str(network), bits))
        assert (made is not None) == can
        if made is not None:
            best: Any = max(fitting, key=lambda each: each.prefixlen)  # the first of the smallest
            child: Network = next(best.subnets(new_prefix=bits))
            assert made.cidr == str(child)
            self.add_child(network, child)

    @rule(data=st.data(), more=st.integers(0, 4), where=st.floats(0, 1, exclude_max=True))
    def cut_certain(self, data: st.DataObject, more: int, where: float) -> None:
        network = self.pick(data)
        if network is None or network.prefixlen + more > network.max_prefixlen:
            return
        naive = self.model[network]
        choices: list[Any] = list(network.subnets(prefixlen_diff=more))
        child = choices[int(where * len(choices))]
        free = free_of(network, naive.children)
        can = more > 0 and not naive.taken and any(child.subnet_of(each) for each in free)
        made = self.change(lambda tx: prefixes.acquire_child(tx, str(network), child=str(child)))
        assert (made is not None) == can
        if made is not None:
            self.add_child(network, child)

    def add_child(self, network: Network, child: Network) -> None:
        self.model[network].children.add(child)
        self.model[child] = Naive(parent=network)

    @rule(data=st.data(), count=st.integers(1, 40))
    def take_any(self, data: st.DataObject, count: int) -> None:
        network = self.pick(data)
        if network is None:
            return
        naive = self.model[network]
        free = hosts(network) - naive.taken
        got = self.change(lambda tx: addresses.acquire_addresses(tx, str(network), count))
        assert (got is not None) == (not naive.children and len(free) >= count)
        if got is not None:
            found = {ip_address(each.address) for each in got}
            assert len(found) == count
            assert found <= free
            naive.taken |= found

    @rule(data=st.data(), where=st.floats(0, 1, exclude_max=True))
    def take_certain(self, data: st.DataObject, where: float) -> None:
        network = self.pick(data)
        if network is None:
            return
        naive = self.model[network]
        address = network[int(where * network.num_addresses)]
        can = not naive.children and address in hosts(network) - naive.taken
        got = self.change(lambda tx: addresses.acquire_address(tx, str(network), str(address)))
        assert (got is not None) == can
        if got is not None:
            naive.taken.add(address)

    @rule(data=st.data(), where=st.floats(0, 1, exclude_max=True))
    def release(self, data: st.DataObject, where: float) -> None:
        network = self.pick(data)
        if network is None:
            return
        naive = self.model[network]
        choices = sorted(naive.taken) or [network[0]]
        address = choices[int(where * len(choices))]
        gone = self.change(lambda tx: addresses.release_address(tx, str(network), str(address)))
        assert (gone is not None) == (address in naive.taken)
        naive.taken.discard(address)

    @rule(data=st.data())
    def fail_half_way(self, data: st.DataObject) -> None:
        network = self.pick(data)
        if network is None:
            return

        async def half(tx: Transaction) -> None:
            try:
                await addresses.acquire_addresses(tx, str(network), 3)
            except MetropolisError:
                await prefixes.acquire_child(tx, str(network), network.prefixlen + 1)
            await pools.acquire_integer(tx, POOL)
            await prefixes.get_prefix(tx, "10.9.9.0/24")

        assert self.change(half) is None

    @rule(value=st.none() | st.integers(2, 10), shared=st.booleans())
    def take_integer(self, value: int | None, shared: bool) -> None:
        got = self.change(lambda tx: pools.acquire_integer(tx, POOL, value, shared=shared))
        everything = range(POOL.first, POOL.last + 1)
        if value is None:
            assert (got is not None) == (len(self.integers) < len(everything))
            assert got is None or (got in everything and got not in self.integers)
        else:
            can = value in everything and (shared or value not in self.integers)
            assert got == (value if can else None)
        if got is not None:
            self.integers[got] = self.integers.get(got, 0) + 1

    @rule(value=st.integers(2, 10))
    def release_integer(self, value: int) -> None:
        async def give_back(tx: Transaction) -> bool:
            await pools.release_integer(tx, POOL, value)
            return True

        assert bool(self.change(give_back)) == (value in self.integers)
        if value in self.integers:
            self.integers[value] -= 1
            if not self.integers[value]:
                del self.integers[value]

    @invariant()
    def the_books_say_what_the_model_says(self) -> None:
        found = self.runner.run(self.read_everything())
        assert found == (
            {str(each): str(naive.parent or "") for each, naive in self.model.items()},
            {
                str(each): {str(address) for address in naive.taken}
                for each, naive in self.model.items()
            },
            {str(each): self.usage(each, naive) for each, naive in self.model.items()},
            self.integers,
        )

    @staticmethod
    def usage(network: Network, naive: Naive) -> tuple[int, int, tuple[str, ...], int]:
        smallest = network.max_prefixlen - 2
        free = [each for each in free_of(network, naive.children) if each.prefixlen <= smallest]
        return (
            network.num_addresses,
            network.num_addresses - len(hosts(network)) + len(naive.taken),
            tuple(str(each) for each in free),
            len(naive.children),
        )

    async def read_everything(self) -> tuple[Any, ...]:
        parents, taken, used = {}, {}, {}
        for each in await self.store.read(prefixes.list_prefixes):
            parents[each.cidr] = each.parent
            listed = await self.store.read(
                lambda reader, cidr=each.cidr: addresses.list_addresses(reader, cidr)  # type: ignore[misc]
            )
            taken[each.cidr] = {found.address for found in listed}
            usage = await self.store.read(
                lambda reader, cidr=each.cidr: prefixes.usage(reader, cidr)  # type: ignore[misc]
            )
            used[each.cidr] = (
                usage.available_ips,
                usage.acquired_ips,
                usage.available_prefixes,
                usage.acquired_prefixes,
            )
        held = await self.store.read(lambda reader: pools.list_integers(reader, POOL))
        return parents, taken, used, held


def explore(new_url: Callable[[], str], examples: int) -> None:
    class Machine(Books):
        @override
        def new_url(self) -> str:
            return new_url()

    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_on_sqlite() -> None:
    explore(lambda: ":memory:", examples=120)


def test_on_postgres(postgres_server: PostgresServer) -> None:
    explore(lambda: postgres_server.url(postgres_server.new_database()), examples=15)
