# SPDX-License-Identifier: Apache-2.0
"""A watched cache of a prefix: reads from memory that are never stale.

    store ── range, then watch ──▶ Mirror.items, .revision ──▶ MirrorWatcher: newest per key
                                        ▲
            read the store's revision, then wait_revision(it), then read items

The cache survives every error of the store: it watches again from where it was, or, when history
was compacted, loads again and shows the difference, deletions included, as ordinary changes.
"""

import asyncio
import weakref
from bisect import bisect_left, insort
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from typing_extensions import override

from metropolis.base.errors import MetropolisError, UnavailableError
from metropolis.consensus.store import KeyValue, Store, Watch, WatchCompactedError, WatchEvent
from metropolis.supervision import Value

RETRY_S_MIN = 0.1
RETRY_S_MAX = 2.0
ASK_PAUSE_S = 0.005  # between two questions of one waiter, doubling up to the next number
PROGRESS_TIMEOUT_S = 0.1  # etcd ignores a progress request while a watch catches up


@dataclass(frozen=True, slots=True)
class Change:
    """A key with its newest value; None: it was deleted."""

    key: bytes
    item: KeyValue | None


class MirrorItems(Mapping[bytes, KeyValue]):
    """The cached keys in byte order: a live view, so copy it before awaiting anything."""

    def __init__(self) -> None:
        self._items: dict[bytes, KeyValue] = {}
        self._order: list[bytes] = []

    @override
    def __getitem__(self, key: bytes) -> KeyValue:
        return self._items[key]

    @override
    def __iter__(self) -> Iterator[bytes]:
        return iter(self._order)

    @override
    def __len__(self) -> int:
        return len(self._order)

    def under(self, prefix: bytes) -> list[KeyValue]:
        """Return what starts with `prefix`, in byte order."""
        found: list[KeyValue] = []
        for index in range(bisect_left(self._order, prefix), len(self._order)):
            key = self._order[index]
            if not key.startswith(prefix):
                break
            found.append(self._items[key])
        return found

    def put(self, item: KeyValue) -> None:
        """Only the mirror writes."""
        if item.key not in self._items:
            insort(self._order, item.key)
        self._items[item.key] = item

    def delete(self, key: bytes) -> None:
        """Only the mirror writes."""
        if self._items.pop(key, None) is not None:
            del self._order[bisect_left(self._order, key)]

    def replace(self, items: Sequence[KeyValue]) -> list[tuple[bytes, bool]]:
        """Take `items`, sorted, as the truth; return the keys that differ, and which are new."""
        before = self._items
        fresh = {item.key: item for item in items}
        gone = [(key, False) for key in self._order if key not in fresh]
        changed = [
            (item.key, item.key not in before) for item in items if before.get(item.key) != item
        ]
        self._items, self._order = fresh, list(fresh)
        return gone + changed


class MirrorWatcher:
    """Changes since the last `receive`, one per key. Close it, or drop the last reference.

    Holds a mark per key that changed since then, and nothing per key that exists: what its reader
    believes to exist is what existed then.
    """

    def __init__(self, mirror: "Mirror", prefix: bytes = b"") -> None:
        self._mirror = mirror
        self.prefix = prefix
        self.number = 0  # given by the mirror
        self._dirty: dict[bytes, None] = {}
        self._born: set[bytes] = set()  # of those, which did not exist then
        self._is_first = True
        self._news = asyncio.Event()

    async def receive(self) -> list[Change]:
        """Wait for changes and return the newest value of every changed key. Cancel-safe.

        The first answer is everything that exists, perhaps nothing.
        """
        mirror = self._mirror
        await mirror.wait_loaded()
        if self._is_first:
            self._is_first = False
            found = mirror.items.under(self.prefix)
            self._dirty, self._born = {}, set()
            return [Change(item.key, item) for item in found]
        while not self._dirty:
            self._news.clear()
            await self._news.wait()
        dirty, self._dirty, self._born = self._dirty, {}, set()
        return [Change(key, mirror.items.get(key)) for key in dirty]

    def mark(self, key: bytes, *, is_deleted: bool, is_new: bool) -> None:
        """Note a change; only the mirror does."""
        if self._is_first:
            return  # who reads nothing yet will read it all
        if is_deleted and key in self._born:
            self._born.discard(key)  # the reader never heard of it
            self._dirty.pop(key, None)
            return
        if is_new and key not in self._dirty:
            self._born.add(key)
        self._dirty[key] = None
        self._news.set()

    def close(self) -> None:
        """Stop taking notes."""
        self._mirror.forget(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Mirror:
    """See the module docstring. `run` must be running for anything to happen."""

    def __init__(self, store: Store, prefix: bytes) -> None:
        self._store = store
        self._prefix = prefix
        self._items = MirrorItems()
        self._revision = Value(0)
        self._is_stale = True  # must load before it can watch
        self._watch: Watch | None = None
        self._asked_until_s = float("-inf")
        # By prefix, for a change concerns few of very many watchers; and by how long prefixes are.
        self._watchers: dict[bytes, dict[int, weakref.ref[MirrorWatcher]]] = {}
        self._lengths: dict[int, int] = {}  # how many of those prefixes are so long
        self._watchers_made = 0

    @property
    def items(self) -> MirrorItems:
        """The cached keys, as of `revision`."""
        return self._items

    @property
    def revision(self) -> int:
        """The store's revision up to which the cache is complete; 0: not loaded yet."""
        return self._revision.current

    def watch(self, prefix: bytes = b"") -> MirrorWatcher:
        """Return a new subscription; with `prefix`, to keys that start with it."""
        watcher = MirrorWatcher(self, prefix)
        self._watchers_made += 1
        number = watcher.number = self._watchers_made
        reference = weakref.ref(watcher, lambda _: self._drop(prefix, number))
        if prefix not in self._watchers:
            self._watchers[prefix] = {}
            self._lengths[len(prefix)] = self._lengths.get(len(prefix), 0) + 1
        self._watchers[prefix][number] = reference
        return watcher

    def forget(self, watcher: MirrorWatcher) -> None:
        """End a subscription; one that nobody holds any more ends by itself."""
        self._drop(watcher.prefix, watcher.number)

    def _drop(self, prefix: bytes, number: int) -> None:
        interested = self._watchers.get(prefix)
        if interested is None or interested.pop(number, None) is None or interested:
            return
        del self._watchers[prefix]
        self._lengths[len(prefix)] -= 1
        if not self._lengths[len(prefix)]:
            del self._lengths[len(prefix)]

    async def wait_loaded(self) -> None:
        """Wait until the cache was loaded for the first time."""
        await self._revision.wait_for(lambda revision: revision > 0)

    async def wait_revision(self, revision: int) -> None:
        """Wait until the cache is complete up to a revision that the store has reached.

        It does not wait for the next write, but asks the store how far the watch has come; many
        waiters share one question. While the store is not reached this waits: bound it.
        """
        loop = asyncio.get_running_loop()
        pause_s, ask_again_s = ASK_PAUSE_S, loop.time()
        while self._revision.current < revision:
            version = self._revision.version
            if self._watch is not None and loop.time() >= max(self._asked_until_s, ask_again_s):
                self._asked_until_s = loop.time() + PROGRESS_TIMEOUT_S
                # A member that lags answers at once, with too little, as often as it is asked.
                ask_again_s = loop.time() + pause_s
                pause_s = min(pause_s * 2, PROGRESS_TIMEOUT_S)
                await self._ask(self._watch)
            try:
                async with asyncio.timeout(pause_s):
                    await self._revision.wait_newer(version)
            except TimeoutError:
                continue

    async def run(self) -> None:
        """Keep the cache. Ends only by cancellation; an unreachable store is tried again."""
        delay_s = RETRY_S_MIN
        while True:
            try:
                if self._is_stale:
                    await self._load()
                async with self._store.watch(
                    self._prefix, start_revision=self.revision + 1
                ) as watch:
                    delay_s = RETRY_S_MIN
                    self._watch = watch
                    self._asked_until_s = float("-inf")
                    await self._follow(watch)
            except WatchCompactedError:
                self._is_stale = True
            except MetropolisError:
                await asyncio.sleep(delay_s)
                delay_s = min(delay_s * 2, RETRY_S_MAX)
            finally:
                self._watch = None

    async def _load(self) -> None:
        found = await self._store.range(self._prefix)
        for key, is_new in self._items.replace(found.items):
            self._mark(key, is_new=is_new)
        self._is_stale = False
        self._reach(found.revision)

    async def _follow(self, watch: Watch) -> None:
        while True:
            batch = await watch.receive()
            for event in batch.events:
                self._take(event)
            self._asked_until_s = float("-inf")
            self._reach(batch.revision)

    def _take(self, event: WatchEvent) -> None:
        is_new = event.key not in self._items
        if event.is_deleted:
            self._items.delete(event.key)
        else:
            self._items.put(
                KeyValue(
                    key=event.key,
                    value=event.value,
                    create_revision=event.create_revision,
                    mod_revision=event.mod_revision,
                    version=event.version,
                    lease_id=event.lease_id,
                )
            )
        if not (is_new and event.is_deleted):
            self._mark(event.key, is_new=is_new)

    def _reach(self, revision: int) -> None:
        # A member that lags may answer with less than we know from another one. Setting even an
        # equal revision lets waiters ask again at once.
        self._revision.set(max(revision, self._revision.current))

    def _mark(self, key: bytes, *, is_new: bool) -> None:
        is_deleted = key not in self._items
        for length in list(self._lengths):
            for reference in list(self._watchers.get(key[:length], {}).values()):
                if (watcher := reference()) is not None:
                    watcher.mark(key, is_deleted=is_deleted, is_new=is_new)

    async def _ask(self, watch: Watch) -> None:
        try:
            await watch.request_progress()
        except UnavailableError:
            return  # `run` notices, too, and watches again
