# SPDX-License-Identifier: Apache-2.0
"""A seeded asyncio event loop in which time is virtual and real I/O is impossible.

When nothing is runnable the loop jumps to the next timer. What is runnable it sorts by the age of
the task (or future) it belongs to, then shuffles by seed, so that one seed names one run. The
sort matters: asyncio wakes tasks by walking sets, whose order is the tasks' memory addresses and
differs between processes. The garbage collector is kept off and called at fixed steps instead,
because finalizers run when it runs.

Callbacks of one batch run in any order. `asyncio` promises first come, first served; code that
needs this promise works by luck between machines, so here it does not work.

Anything that escapes fails loudly: a thread or a socket is refused when it is asked for, a wait
that nothing can end is a `Deadlock` that names who waits and where.
"""

import asyncio
import gc
import hashlib
import heapq
import struct
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from contextvars import Context, ContextVar
from random import Random
from typing import Any, Final, NoReturn, TypeVar

from typing_extensions import override

from metropolis.sim.waiting import describe_tasks

T = TypeVar("T")

BATCHES_WITHOUT_TIME_MAX: Final = 100_000  # at one instant; real work needs a few hundred
VIRTUAL_S_MAX: Final = 86_400.0  # a scenario that lasts longer says so
GARBAGE_BATCHES: Final = 50_000  # between two collections, about a second of real time
NOTES_KEPT_MAX: Final = 1_000  # the last ones, for the report of a failure
TIMERS_BEFORE_PURGE: Final = 100  # cancelled timers are cheap until there are many

# One entry of the trace: virtual time, age of the task, number of the step.
_STEP: Final = struct.Struct("<dqq")


class Deadlock(Exception):  # noqa: N818  # reads as a verdict
    """Nothing is runnable and no timer is pending."""


class Livelock(Exception):  # noqa: N818
    """Work never stops, so time never passes."""


class Overtime(Exception):  # noqa: N818
    """The scenario took more virtual time than it may."""


class LeakedTasks(Exception):  # noqa: N818
    """The scenario returned while tasks that it started were still running."""


class Unhandled(Exception):  # noqa: N818
    """A callback or a task failed and nobody looked."""


class Trace:
    """What happened: a running hash of every step and note, and the last notes in clear.

    Hand one to `simulate` to read it afterwards, also when the scenario failed.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.steps = 0
        self.virtual_s = 0.0  # when the last step was made
        self.notes: deque[tuple[float, str]] = deque(maxlen=NOTES_KEPT_MAX)

    def step(self, now_s: float, age: int) -> None:
        """Record that the task of this age made a step; -1 is a callback without a task."""
        self.steps += 1
        self.virtual_s = now_s
        self._hash.update(_STEP.pack(now_s, age, self.steps))

    def note(self, now_s: float, text: str) -> None:
        """Record a sentence."""
        self.notes.append((now_s, text))
        self._hash.update(text.encode())

    def hexdigest(self) -> str:
        """SHA-256 over everything recorded until now."""
        return self._hash.hexdigest()


OWNER: Final[ContextVar[object]] = ContextVar(
    "OWNER", default=None
)  # of the tasks started from here


class SimTask(asyncio.Task[Any]):
    """A task that knows its age, and on whose behalf it runs."""

    age: int = -1
    owner: object = None


class SimFuture(asyncio.Future[Any]):
    """A future that knows its age, so that its plain callbacks have an order, too."""

    age: int = -1


class SimLoop(asyncio.BaseEventLoop):
    """See the module's docstring."""

    # Private to asyncio, stable since 3.4.
    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool
    _timer_cancelled_count: int

    def __init__(
        self, *, seed: int, trace: Trace | None = None, limit_s: float = VIRTUAL_S_MAX
    ) -> None:
        super().__init__()
        self.seed = seed
        self.trace = Trace() if trace is None else trace
        self.after_batch: list[Callable[[], None]] = []
        self._limit_s = limit_s
        self._now_s = 0.0
        self._rng = Random(seed)
        self._born = 0
        self._batches = 0
        self._batches_now = 0
        self._failure: BaseException | None = None
        self._held: dict[object, list[asyncio.Handle]] = {}
        self.set_task_factory(self._spawn)  # type: ignore[arg-type]  # options are a protocol
        self.set_exception_handler(self._remember)

    # What tasks see

    @override
    def time(self) -> float:
        return self._now_s

    @override
    def create_future(self) -> "SimFuture":
        future = SimFuture(loop=self)
        self._born += 1
        future.age = self._born
        return future

    def _spawn(
        self,
        loop: asyncio.AbstractEventLoop,
        coro: Coroutine[Any, Any, Any],
        **options: Any,  # noqa: ANN401  # asyncio's own: name, context and what it invents later
    ) -> "SimTask":
        self._born += 1
        if options.get("name") is None:  # asyncio's own names count tasks of the whole process
            options["name"] = f"task-{self._born}"
        task = SimTask(coro, loop=loop, **options)
        task.age = self._born
        context: Context | None = options.get("context")
        task.owner = OWNER.get() if context is None else context.get(OWNER)
        return task

    @override
    def run_in_executor(self, executor: object, func: object, *args: object) -> NoReturn:
        raise RuntimeError(f"a thread inside a simulation, for {func!r}: inject an edge instead")

    def hold(self, owner: object) -> None:
        """Let nothing run on behalf of somebody, as SIGSTOP does; others and time go on."""
        self._held.setdefault(owner, [])

    def release(self, owner: object) -> None:
        """Let run, all at once, what was held."""
        self._ready.extend(self._held.pop(owner, []))

    # The turn of the loop

    def _run_once(self) -> None:
        self._purge_timers()
        if not self._ready and not self._stopping:
            self._jump()
        while self._scheduled and self._scheduled[0].when() <= self._now_s:
            timer = heapq.heappop(self._scheduled)
            timer._scheduled = False  # type: ignore[attr-defined]
            self._ready.append(timer)
        self._run_batch()
        for check in self.after_batch:
            check()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def _jump(self) -> None:
        """Let time pass until the next timer."""
        if not self._scheduled:
            raise Deadlock(self._verdict("nothing is runnable and no timer is pending"))
        self._now_s = max(self._now_s, self._scheduled[0].when())
        self._batches_now = 0
        if self._now_s > self._limit_s:
            raise Overtime(self._verdict(f"the scenario may last {self._limit_s} s"))

    def _run_batch(self) -> None:
        batch = [handle for _, handle in sorted(enumerate(self._ready), key=_age_of_entry)]
        self._rng.shuffle(batch)
        self._ready.clear()
        for handle in batch:
            if self._held and (owner := _owner(handle)) in self._held:
                self._held[owner].append(handle)
            elif not handle.cancelled():
                self.trace.step(self._now_s, _age(handle)[1])
                handle._run()
        self._batches += 1
        self._batches_now += 1
        if self._batches % GARBAGE_BATCHES == 0:
            gc.collect()
        if self._batches_now > BATCHES_WITHOUT_TIME_MAX:
            raise Livelock(self._verdict(f"{self._batches_now} batches while no time passed"))

    def _purge_timers(self) -> None:
        while self._scheduled and self._scheduled[0].cancelled():
            self._timer_cancelled_count -= 1
            heapq.heappop(self._scheduled)._scheduled = False  # type: ignore[attr-defined]
        if self._timer_cancelled_count > max(TIMERS_BEFORE_PURGE, len(self._scheduled) // 2):
            kept = [timer for timer in self._scheduled if not timer.cancelled()]
            heapq.heapify(kept)
            self._scheduled = kept
            self._timer_cancelled_count = 0

    def _write_to_self(self) -> None:
        """Only threads need waking, and there are none."""

    def _remember(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Keep what asyncio would only log; it ends the run after this batch."""
        if self._failure is None:
            error = context.get("exception")
            if isinstance(error, AssertionError):
                self._failure = error
                return
            self._failure = Unhandled(f"{context['message']} ({error!r})")
            self._failure.__cause__ = error

    def _verdict(self, text: str) -> str:
        waiting = describe_tasks(self.pending())
        return f"{text} at t={self._now_s:.6f} s, seed {self.seed}\n{waiting}"

    # The end of a run

    def pending(self) -> list[SimTask]:
        """The tasks that have not ended, oldest first."""
        tasks = [task for task in asyncio.all_tasks(self) if isinstance(task, SimTask)]
        return sorted(tasks, key=lambda task: task.age)

    def sweep(self) -> None:
        """Cancel what is left and close the loop. Never raises; what resists is abandoned."""
        self.after_batch.clear()
        self.set_exception_handler(_ignore)
        for owner in [*self._held]:
            self.release(owner)
        try:
            leftovers = self.pending()
            for task in leftovers:
                task.cancel()
            if leftovers:
                self._limit_s = self._now_s + VIRTUAL_S_MAX
                self._batches_now = 0
                self.run_until_complete(_ended(leftovers))
            self.run_until_complete(self.shutdown_asyncgens())
        except (Deadlock, Livelock, Overtime):
            for task in self.pending():
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        finally:
            self.close()


def _refuse(_loop: SimLoop, *_args: object, **_options: object) -> NoReturn:
    raise RuntimeError("real I/O inside a simulation: inject an edge of metropolis.host.sim")


for _name in (
    "add_reader",
    "add_writer",
    "connect_read_pipe",
    "connect_write_pipe",
    "create_connection",
    "create_datagram_endpoint",
    "create_server",
    "create_unix_connection",
    "create_unix_server",
    "sock_accept",
    "sock_connect",
    "sock_recv",
    "sock_sendall",
    "subprocess_exec",
    "subprocess_shell",
):
    setattr(SimLoop, _name, _refuse)


def _age(handle: asyncio.Handle) -> tuple[int, int]:
    """Order steps of tasks by age, then callbacks of futures by theirs, then everything else."""
    owner = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    if isinstance(owner, SimTask):
        return (0, owner.age)
    arguments = handle._args
    if arguments and isinstance(arguments[0], SimTask | SimFuture):
        return (1, arguments[0].age)
    return (2, -1)


def _owner(handle: asyncio.Handle) -> object:
    """Whose task a step belongs to; callbacks are nobody's, they only wake tasks."""
    task = getattr(handle._callback, "__self__", None)  # type: ignore[attr-defined]
    return task.owner if isinstance(task, SimTask) else None


def _age_of_entry(entry: tuple[int, asyncio.Handle]) -> tuple[int, int, int]:
    index, handle = entry
    return (*_age(handle), index)


def _ignore(_loop: asyncio.AbstractEventLoop, _context: dict[str, Any]) -> None:
    """Say nothing: the run is over and its verdict is known."""


async def _ended(tasks: Iterable[SimTask]) -> None:
    await asyncio.gather(*tasks, return_exceptions=True)


async def _run(scenario: Callable[[], Awaitable[T]]) -> T:
    return await scenario()


def running_loop() -> SimLoop | None:
    """Return the simulation that runs this code, or None on a real loop or outside of any."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return None
    return loop if isinstance(loop, SimLoop) else None


def note(text: str) -> None:
    """Write a sentence into the trace of the running simulation; nothing happens outside of one."""
    loop = running_loop()
    if loop is not None:
        loop.trace.note(loop.time(), text)


def simulate(
    scenario: Callable[[], Awaitable[T]],
    *,
    seed: int,
    trace: Trace | None = None,
    limit_s: float = VIRTUAL_S_MAX,
) -> T:
    """Run `scenario` to its end in virtual time and return its result.

    Args:
        seed: Names the run: every choice of the loop follows from it.
        trace: Filled while the scenario runs; readable also when it raises.
        limit_s: Virtual seconds that the scenario may last.

    Raises:
        Deadlock: everybody waits for somebody; the text names the tasks and where they wait.
        Livelock: tasks wake each other for ever without time passing.
        Overtime: the scenario did not end within `limit_s`.
        LeakedTasks: the scenario ended and left tasks running.
        Unhandled: a callback raised, or a task failed and nobody awaited it.
    """
    loop = SimLoop(seed=seed, trace=trace, limit_s=limit_s)
    had_garbage_collector = gc.isenabled()
    gc.disable()
    try:
        result = loop.run_until_complete(
            loop.create_task(_run(scenario), name="scenario", context=Context())
        )
        leaked = loop.pending()
        if leaked:
            raise LeakedTasks(f"tasks outlive the scenario, seed {seed}\n{describe_tasks(leaked)}")
        return result
    finally:
        loop.sweep()
        if had_garbage_collector:
            gc.enable()
