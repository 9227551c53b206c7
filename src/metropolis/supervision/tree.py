# SPDX-License-Identifier: Apache-2.0
"""The supervision tree. Its axioms are listed on the room's page."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping
from functools import partial
from random import Random
from typing import NoReturn

from metropolis.base.errors import leaves
from metropolis.host import Clock
from metropolis.supervision.entries import LeveledLine, Severity
from metropolis.supervision.failure import awaited_by, describe
from metropolis.supervision.log_tree import Logger, LogTree, RawLogger
from metropolis.supervision.names import NAME_LENGTH_MAX, is_name
from metropolis.supervision.status import (
    Observer,
    RestartRequestedError,
    RunnableStatus,
    State,
    TreeMisuseError,
)

BACKOFF_FIRST_S = 0.5
BACKOFF_FACTOR = 1.5
BACKOFF_JITTER = 0.5  # a wait is drawn from the interval x (1 - this .. 1 + this)
BACKOFF_MAX_S = 60.0
HEALTHY_RESET_S = 10.0  # continuously HEALTHY this long, and earlier failures are forgotten
STUCK_S = 5.0  # a cancelled runnable still running after this is reported
STUCK_AGAIN_S = 30.0  # from then on it is cancelled and reported again this often
STOP_S = 20.0  # how long `Supervisor.run` waits for runnables once it is cancelled
LOG_DN = "supervisor"  # where the tree itself logs

Runnable = Callable[["Context"], Awaitable[None]]


class _Node:
    """One place in the tree. It outlives the incarnations of its runnable."""

    __slots__ = (
        "backoff_until_s",
        "cancelled",
        "children",
        "context",
        "dn",
        "finished",
        "group",
        "interval_s",
        "last_error",
        "live",
        "name",
        "parent",
        "reserved",
        "restarts",
        "runnable",
        "since_s",
        "state",
        "stuck_at",
        "task",
        "timer",
    )

    def __init__(self, name: str, runnable: Runnable, *, parent: "_Node | None") -> None:
        self.name = name
        self.dn: str = name if parent is None else f"{parent.dn}.{name}"
        self.runnable = runnable
        self.parent = parent
        self.group: tuple[_Node, ...] = ()  # who is cancelled when this one dies; itself included
        self.children: dict[str, _Node] | None = None
        self.reserved: dict[str, None] | None = None  # names of sub-loggers
        self.state: State | None = None
        self.since_s = 0.0
        self.restarts = -1
        self.last_error: str | None = None
        self.interval_s = BACKOFF_FIRST_S
        self.timer: asyncio.TimerHandle | None = None
        self.backoff_until_s: float | None = None
        self.context: Context | None = None
        self.task: asyncio.Task[None] | None = None
        self.cancelled = False  # since the last start: this incarnation has to end
        self.finished = False  # it signalled DONE
        self.live = 0  # running tasks in this subtree, itself included
        self.stuck_at: str | None = None


class Context:
    """What one incarnation of a runnable may do to the tree. Useless once it has returned."""

    __slots__ = ("_log", "_node", "_supervisor")

    def __init__(self, supervisor: "Supervisor", node: _Node) -> None:
        self._supervisor = supervisor
        self._node = node
        self._log: Logger | None = None

    @property
    def dn(self) -> str:
        """The distinguished name, e.g. `root.role.heartbeat`."""
        return self._node.dn

    @property
    def log(self) -> Logger:
        """The leveled logger at this DN."""
        if self._log is None:
            self._log = self.log_tree.leveled(self._node.dn)
        return self._log

    @property
    def log_tree(self) -> LogTree:
        """The log of the whole node."""
        return self._supervisor.log_tree

    def run(self, name: str, runnable: Runnable) -> None:
        """Start a child that fails alone. Allowed until this runnable is healthy."""
        self.run_group({name: runnable})

    def run_group(self, runnables: Mapping[str, Runnable]) -> None:
        """Start children of which none keeps running when one fails.

        Names match `[a-z0-9_]{1,64}` and are unique among children and sub-loggers. Allowed until
        this runnable is healthy.
        """
        self._supervisor.adopt(self._live_node(), runnables)

    def healthy(self) -> None:
        """Say: set up, children added, serving. Once per incarnation."""
        node = self._live_node()
        if node.state is not State.NEW:
            raise TreeMisuseError(f"{node.dn} signalled HEALTHY when {_name_of(node.state)}")
        self._supervisor.move(node, State.HEALTHY)

    def done(self) -> None:
        """Say: finished on purpose, do not restart. Takes effect when the runnable returns."""
        node = self._live_node()
        if node.state is not State.HEALTHY or node.finished:
            raise TreeMisuseError(f"{node.dn} signalled DONE when {_name_of(node.state)}")
        node.finished = True

    async def wait_cancelled(self) -> NoReturn:
        """Sleep until the tree cancels this runnable."""
        while True:
            await asyncio.get_running_loop().create_future()

    def sub_logger(self, name: str) -> Logger:
        """Return a logger at a DN below this one; no child may have that name."""
        return self.log_tree.leveled(self._reserve(name))

    def raw_logger(self, name: str | None = None) -> RawLogger:
        """Return a writer for other programs' output, at this DN or at one below it."""
        return self.log_tree.raw(self._node.dn if name is None else self._reserve(name))

    def _reserve(self, name: str) -> str:
        node = self._live_node()
        _check_name(node, name)
        if node.children is not None and name in node.children:
            raise TreeMisuseError(f"{node.dn}.{name} is a runnable, so it cannot be a sub-logger")
        if node.reserved is None:
            node.reserved = {}
        node.reserved[name] = None
        return f"{node.dn}.{name}"

    def _live_node(self) -> _Node:
        if self._node.context is not self:
            raise TreeMisuseError(f"{self._node.dn} used its context after it had ended")
        return self._node


class Supervisor:
    """Runs one tree: starts, cancels and restarts runnables as the axioms say. Single use.

    It acts only on events (a runnable ended, a back-off passed), so an idle tree costs nothing.
    """

    def __init__(
        self,
        root: Runnable,
        *,
        log_tree: LogTree,
        clock: Clock,
        rng: Random,
        root_name: str = "root",
        observer: Observer | None = None,
    ) -> None:
        """Prepare a tree whose root runnable is `root`.

        Args:
            rng: Draws the back-off jitter; never used for secrets.
        """
        self.log_tree = log_tree
        self._log = log_tree.leveled(LOG_DN)
        self._now_s = clock.monotonic_s
        self._rng = rng
        self._observer = observer
        self._root = _Node(root_name, root, parent=None)
        # Cancelled and still running -> (when it was cancelled, when to look again), in loop time.
        self._stopping: dict[_Node, tuple[float, float]] = {}
        self._watchdog: asyncio.TimerHandle | None = None
        self._drained: asyncio.Future[None] | None = None  # set up when the whole tree has to end

    async def run(self) -> None:
        """Run until cancelled, then cancel every runnable and wait for all of them.

        Waits `STOP_S` at most; runnables that have not ended by then are named in the log.
        """
        assert self._root.state is None, "a supervisor runs once"
        loop = asyncio.get_running_loop()
        self._start(self._root)
        try:
            await loop.create_future()
        except asyncio.CancelledError:
            await self._stop(loop)
            raise

    async def _stop(self, loop: asyncio.AbstractEventLoop) -> None:
        self._drained = loop.create_future()
        for node in self._stopping:
            if node.stuck_at is not None and node.task is not None:
                node.task.cancel()  # it has missed the first one
        self._cancel(self._root)
        try:
            if self._root.live:
                await asyncio.wait([self._drained], timeout=STOP_S)
        finally:
            if self._watchdog is not None:
                self._watchdog.cancel()
            for node in self._stopping:
                self._report_stuck(node)

    def states(self) -> Mapping[str, RunnableStatus]:
        """Describe every runnable of the tree by DN, parents first, in the order of starting."""
        return {
            node.dn: RunnableStatus(
                state=node.state,
                since_s=node.since_s,
                restarts=node.restarts,
                last_error=node.last_error,
                backoff_until_s=node.backoff_until_s,
                stuck_at=node.stuck_at,
            )
            for node in _walk(self._root)
            if node.state is not None
        }

    def adopt(self, parent: _Node, runnables: Mapping[str, Runnable]) -> None:
        """Add a group of children and start them. For `Context` only."""
        if parent.state is not State.NEW:
            raise TreeMisuseError(f"cannot run new runnable on non-NEW node {parent.dn}")
        if not runnables:
            raise TreeMisuseError(f"{parent.dn} ran a group without runnables")
        if parent.cancelled:
            raise asyncio.CancelledError  # it is being told so; children would only be cancelled
        children = parent.children if parent.children is not None else {}
        for name in runnables:
            _check_name(parent, name)
            if name in children or (parent.reserved is not None and name in parent.reserved):
                raise TreeMisuseError(f"the name {parent.dn}.{name} is taken")
        group = tuple(_Node(name, what, parent=parent) for name, what in runnables.items())
        parent.children = children
        for node in group:
            children[node.name] = node
            if len(group) > 1:
                node.group = group
        for node in group:
            self._start(node)

    def move(self, node: _Node, state: State) -> None:
        """Record a change of state."""
        before, node.state = node.state, state
        node.since_s = self._now_s()
        if self._observer is not None:
            try:
                self._observer.state_changed(node.dn, before, state)
            except Exception as error:  # noqa: BLE001  # watching must not break what is watched
                self._log.error("The observer of %s failed: %s", node.dn, describe(error).summary)

    def _start(self, node: _Node) -> None:
        node.timer = node.backoff_until_s = None
        node.cancelled = node.finished = False
        node.restarts += 1
        self.move(node, State.NEW)
        node.context = Context(self, node)
        loop = asyncio.get_running_loop()
        node.task = loop.create_task(self._drive(node, node.context), name=node.dn)
        node.task.add_done_callback(partial(self._ended_unstarted, node))
        above: _Node | None = node
        while above is not None:
            above.live += 1
            above = above.parent

    async def _drive(self, node: _Node, context: Context) -> None:
        """Run one incarnation. SystemExit is a failure like any other: no library stops a node."""
        try:
            await node.runnable(context)
        except GeneratorExit:
            raise  # the loop was closed under us
        except KeyboardInterrupt as interrupt:
            self._exited(node, interrupt)
            raise
        except BaseException as error:  # noqa: BLE001  # the one catch-all: restart, never swallow
            self._exited(node, error)
        else:
            self._exited(node, None)

    def _ended_unstarted(self, node: _Node, task: asyncio.Task[None]) -> None:
        """Notice a task that was cancelled before its first step: its coroutine never ran."""
        if not task.cancelled():
            task.exception()  # a KeyboardInterrupt, which has ended the program already
        elif node.task is task:
            self._exited(node, asyncio.CancelledError())

    def _exited(self, node: _Node, error: BaseException | None) -> None:
        if node.state is State.HEALTHY and self._now_s() - node.since_s >= HEALTHY_RESET_S:
            node.interval_s = BACKOFF_FIRST_S
        node.task = node.context = node.stuck_at = None
        self._stopping.pop(node, None)
        above: _Node | None = node
        while above is not None:
            above.live -= 1
            above = above.parent
        if error is None and node.finished:
            self.move(node, State.DONE)
        elif node.cancelled and error is not None and _is_cancellation(error):
            self.move(node, State.CANCELED)
        elif isinstance(error, RestartRequestedError) and node.state is State.HEALTHY:
            self.log_tree.leveled(node.dn).info("Starting anew: %s", error)
            self.move(node, State.CANCELED)
            self._cancel(node)
        else:
            self._died(node, error)
        self._restart_if_due(node)
        if self._drained is not None and not self._root.live and not self._drained.done():
            self._drained.set_result(None)

    def _died(self, node: _Node, error: BaseException | None) -> None:
        failure = describe(error or RuntimeError(f"returned nil when {_name_of(node.state)}"))
        text = self.log_tree.redaction.text("\n".join(failure.lines))
        node.last_error = self.log_tree.redaction.text(failure.summary)
        line = LeveledLine(text=text, severity=Severity.FATAL, file=failure.file, line=failure.line)
        self.log_tree.leveled(node.dn).entry(line)
        self.move(node, State.DEAD)
        self._cancel(node)
        if node.parent is None or node.parent.cancelled:
            return  # the siblings end, too, and are forgotten when the parent starts again
        siblings = [sibling for sibling in node.group if sibling is not node]
        for sibling in siblings:
            if sibling.timer is None:  # one in back-off has failed itself, and goes on waiting
                self._cancel(sibling)
        for sibling in siblings:
            self._restart_if_due(sibling)

    def _cancel(self, node: _Node) -> None:
        """End the incarnations of a whole subtree. They are given time; see `_watch_stopping`."""
        if node.timer is not None:
            node.timer.cancel()
            node.timer = node.backoff_until_s = None
            self.move(node, State.CANCELED)
        if node.cancelled:
            return
        node.cancelled = True
        if node.task is not None:
            node.task.cancel()
            loop = asyncio.get_running_loop()
            self._stopping[node] = (loop.time(), loop.time() + STUCK_S)
            if self._watchdog is None:
                self._watchdog = loop.call_later(STUCK_S, self._watch_stopping)
        for child in (node.children or {}).values():
            self._cancel(child)

    def _restart_if_due(self, node: _Node) -> None:
        """Restart the largest cancelled subtree around `node`, once nothing in it runs."""
        if not node.cancelled or self._drained is not None:
            return
        while node.parent is not None and node.parent.cancelled:
            node = node.parent
        if node.live or node.timer is not None:
            return
        node.children = node.reserved = None
        if node.state is not State.DEAD:
            self._start(node)
            return
        jitter = self._rng.uniform(1 - BACKOFF_JITTER, 1 + BACKOFF_JITTER)
        wait_s = min(node.interval_s * jitter, BACKOFF_MAX_S)
        node.interval_s = min(node.interval_s * BACKOFF_FACTOR, BACKOFF_MAX_S)
        node.backoff_until_s = self._now_s() + wait_s
        node.timer = asyncio.get_running_loop().call_later(wait_s, self._start, node)

    def _watch_stopping(self) -> None:
        """Name runnables that ignore cancellation, and cancel them again now and then."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        for node, (since_s, due_s) in self._stopping.items():
            if due_s > now_s + 0.001:
                continue
            if node.stuck_at is not None and node.task is not None:
                node.task.cancel()  # one swallowed CancelledError must not last forever
            self._report_stuck(node)
            self._stopping[node] = (since_s, now_s + STUCK_AGAIN_S)
        self._watchdog = None
        if self._stopping:
            first_s = min(due_s for _, due_s in self._stopping.values())
            self._watchdog = loop.call_later(max(0.0, first_s - now_s), self._watch_stopping)

    def _report_stuck(self, node: _Node) -> None:
        assert node.task is not None, "what has ended is not stuck"
        node.stuck_at = awaited_by(node.task)
        since_s, _ = self._stopping[node]
        self._log.error(
            "%s still runs %.0f s after it was cancelled; it awaits %s",
            node.dn,
            asyncio.get_running_loop().time() - since_s,
            node.stuck_at,
        )


def _check_name(parent: _Node, name: str) -> None:
    if not is_name(name):
        raise TreeMisuseError(
            f"{parent.dn} used the name {name!r}: names are 1 to {NAME_LENGTH_MAX} of a-z, 0-9, _"
        )


def _name_of(state: State | None) -> str:
    return "not started" if state is None else state.value


def _is_cancellation(error: BaseException) -> bool:
    return all(isinstance(leaf, asyncio.CancelledError) for leaf in leaves(error))


def _walk(node: _Node) -> Iterator[_Node]:
    yield node
    for child in (node.children or {}).values():
        yield from _walk(child)
