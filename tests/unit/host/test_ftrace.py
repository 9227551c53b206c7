# SPDX-License-Identifier: Apache-2.0
"""What is written into the kernel's tracing files, in which order, and that nothing is left on."""

import asyncio
import os
from collections.abc import Callable, Coroutine, Sequence
from pathlib import Path

import pytest
import uvloop

from metropolis.base.errors import FailedPreconditionError
from metropolis.host.linux.ftrace import LinuxFtrace

Run = Callable[[Coroutine[None, None, list[str]]], list[str]]
FILES = {
    "available_tracers": "function_graph function nop\n",
    "current_tracer": "nop",
    "tracing_on": "0",
    "trace": "",
    "set_ftrace_filter": "",
    "set_graph_function": "",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A directory like tracefs, in which files keep what is written into them."""
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    os.mkfifo(tmp_path / "trace_pipe")
    return tmp_path


def read(root: Path, name: str) -> str:
    return (root / name).read_text()


async def traced(root: Path, tracer: str, functions: Sequence[str] = ()) -> list[str]:
    """Trace until two lines have come."""
    lines: list[str] = []
    async with LinuxFtrace(root).trace(
        tracer, functions=functions, graph_functions=["do_x"]
    ) as found:
        assert read(root, "current_tracer") == tracer
        assert read(root, "tracing_on") == "1"
        assert read(root, "set_ftrace_filter").split() == list(functions)
        assert read(root, "set_graph_function").split() == ["do_x"]
        with (root / "trace_pipe").open("w") as pipe:
            pipe.write("one\ntwo\nthr")
            pipe.flush()
            async for line in found:
                lines.append(line)
                if len(lines) == 2:
                    break
    return lines


@pytest.mark.parametrize("run", [uvloop.run, asyncio.run], ids=["uvloop", "asyncio"])
def test_lines_come_as_the_kernel_writes_them_and_everything_is_off_afterwards(
    root: Path, run: Run
) -> None:
    assert run(traced(root, "function", ["vfs_read", "vfs_write"])) == ["one", "two"]
    assert {name: read(root, name) for name in FILES} == FILES


def test_a_tracer_that_the_kernel_lacks_is_refused_by_the_names_of_those_it_has(
    root: Path,
) -> None:
    with pytest.raises(FailedPreconditionError, match="no tracer hwlat") as refused:
        asyncio.run(traced(root, "hwlat"))
    assert refused.value.remedy == "It has function_graph, function, nop."
    assert {name: read(root, name) for name in FILES} == FILES


def test_functions_that_the_kernel_does_not_take_trace_nothing(root: Path) -> None:
    (root / "set_ftrace_filter").unlink()
    (root / "set_ftrace_filter").symlink_to("/dev/full")  # refuses every write
    with pytest.raises(FailedPreconditionError, match="refuses 'no_such'"):
        asyncio.run(traced(root, "function", ["no_such"]))
    assert read(root, "current_tracer") == "nop"
    assert read(root, "tracing_on") == "0"


def test_a_kernel_without_tracing_says_so(tmp_path: Path) -> None:
    with pytest.raises(FailedPreconditionError, match="offers no tracing"):
        asyncio.run(traced(tmp_path / "nothing", "function"))
