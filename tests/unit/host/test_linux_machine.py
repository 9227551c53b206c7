# SPDX-License-Identifier: Apache-2.0
"""The real machine's own promises: modes, durability's leftovers, and no process left behind."""

import asyncio
import os
import select
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from metropolis.base.errors import UnavailableError
from metropolis.host import ProcessSpec
from metropolis.host.linux.directory import LinuxDirectory
from metropolis.host.linux.names import LinuxNames
from metropolis.host.linux.processes import LinuxProcesses
from metropolis.host.linux.programs import locked, run_program

PATH = {"PATH": "/usr/bin:/bin"}


def assert_ends(pid: int) -> None:
    """Wait until a process that is no child of ours has ended; its number may be gone already."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([pidfd], [], [], 10)[0], f"process {pid} goes on"
    finally:
        os.close(pidfd)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_files_and_their_parents_are_private_from_the_start(tmp_path: Path) -> None:
    directory = LinuxDirectory(tmp_path / "root")
    before = os.umask(0)
    try:
        asyncio.run(directory.write("a/b/secret", b"x"))
        asyncio.run(directory.write("a/public", b"x", mode=0o644))
    finally:
        os.umask(before)
    assert mode_of(tmp_path / "root") == 0o700
    assert mode_of(tmp_path / "root/a/b") == 0o700
    assert mode_of(tmp_path / "root/a/b/secret") == 0o600
    assert mode_of(tmp_path / "root/a/public") == 0o644


def test_a_replaced_file_gets_the_mode_of_the_last_write(tmp_path: Path) -> None:
    directory = LinuxDirectory(tmp_path)
    asyncio.run(directory.write("f", b"x", mode=0o644))
    asyncio.run(directory.write("f", b"y"))
    assert mode_of(tmp_path / "f") == 0o600


def test_what_a_crash_left_half_written_is_hidden_and_overwritten(tmp_path: Path) -> None:
    directory = LinuxDirectory(tmp_path)
    leftover = tmp_path / "f.__metropolis_tmp"
    leftover.write_bytes(b"half")
    assert list(asyncio.run(directory.list(""))) == []
    asyncio.run(directory.write("f", b"whole"))
    assert list(asyncio.run(directory.list(""))) == ["f"]
    assert not leftover.exists()


def test_a_temporary_file_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_bytes(b"precious")
    (tmp_path / "root").mkdir()
    (tmp_path / "root/f.__metropolis_tmp").symlink_to(victim)
    asyncio.run(LinuxDirectory(tmp_path / "root").write("f", b"x"))
    assert victim.read_bytes() == b"precious"


def test_whoever_a_program_left_in_its_group_dies_with_it() -> None:
    async def scenario() -> int:
        spec = ProcessSpec(argv=["/bin/sh", "-c", "sleep 1000 & echo $!"], environment=PATH)
        process = await LinuxProcesses().spawn(spec)
        line = await process.receive_line()
        assert line is not None
        assert await process.receive_line() is None  # the straggler held the pipe open
        assert await process.wait() == 0
        return int(line[1])

    straggler = asyncio.run(asyncio.wait_for(scenario(), 10))
    assert_ends(straggler)


def test_a_program_nobody_waits_for_is_no_zombie() -> None:
    async def scenario() -> None:
        process = await LinuxProcesses().spawn(ProcessSpec(argv=["/bin/true"]))
        while await process.receive_line() is not None:
            pass
        async with asyncio.timeout(10):
            while Path(f"/proc/{process.pid}").exists():  # noqa: ASYNC110  # /proc has no events
                await asyncio.sleep(0.001)

    asyncio.run(scenario())


def test_orphans_handed_to_us_are_reaped_and_our_own_exits_are_not_stolen() -> None:
    program = """
import asyncio, ctypes, os
from pathlib import Path
from metropolis.host import ProcessSpec
from metropolis.host.linux.processes import LinuxProcesses
PR_SET_CHILD_SUBREAPER = 36
ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
async def main():
    processes = LinuxProcesses()
    processes.adopt_orphans()
    spec = ProcessSpec(argv=["/bin/sh", "-c", "setsid sleep 0.1 & echo $!; exit 7"],
                       environment={"PATH": "/usr/bin:/bin"})
    process = await processes.spawn(spec)
    orphan = int((await process.receive_line())[1])
    assert await process.wait() == 7
    while Path(f"/proc/{orphan}").exists():
        await asyncio.sleep(0.01)
asyncio.run(asyncio.wait_for(main(), 10))
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_programs_die_with_us_even_when_we_are_killed() -> None:
    program = """
import asyncio, sys
from metropolis.host import ProcessSpec
from metropolis.host.linux.processes import LinuxProcesses
async def main():
    process = await LinuxProcesses().spawn(ProcessSpec(argv=["/bin/sleep", "1000"]))
    print(process.pid, flush=True)
    await process.wait()
asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        assert Path(f"/proc/{child}").exists()
        parent.send_signal(signal.SIGKILL)
    assert_ends(child)


def test_the_hosts_file_keeps_localhost_and_lists_names_sorted(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    names = LinuxNames(hosts_path=hosts)
    asyncio.run(names.set_hosts({"node-b": "10.0.0.2", "node-a": "fd00::1"}))
    expected = "127.0.0.1 localhost\n::1 localhost ip6-localhost\nfd00::1 node-a\n10.0.0.2 node-b\n"
    assert hosts.read_text() == expected
    assert mode_of(hosts) == 0o644
    asyncio.run(names.set_hosts({}))
    assert "node-a" not in hosts.read_text()


def test_a_hosts_file_that_is_a_link_stays_one(tmp_path: Path) -> None:
    link = tmp_path / "hosts"
    link.symlink_to(tmp_path / "real")
    asyncio.run(LinuxNames(hosts_path=link).set_hosts({"node-a": "10.0.0.1"}))
    assert link.is_symlink()
    assert "node-a" in (tmp_path / "real").read_text()


def test_a_tool_that_fails_is_quoted_and_one_that_hangs_is_ended() -> None:
    with pytest.raises(UnavailableError, match="exit code 4: it hurts"):
        run_program(["sh", "-c", "echo it hurts >&2; exit 4"], timeout_s=10)
    with pytest.raises(UnavailableError, match="did not end within"):
        run_program(["sleep", "1000"], timeout_s=0.05)
    with pytest.raises(UnavailableError, match="no-such-tool"):
        run_program(["no-such-tool"], timeout_s=1)
    assert run_program(["sh", "-c", "echo $X"], environment={"X": "1"}, timeout_s=10) == b"1\n"


def test_a_lock_is_held_by_one_and_freed_by_the_death_of_its_holder(tmp_path: Path) -> None:
    lock = tmp_path / "d/lock"
    held = "import fcntl,sys\nf=open(sys.argv[1])\nfcntl.flock(f, fcntl.LOCK_EX|fcntl.LOCK_NB)"
    with locked(lock):
        inside = subprocess.run(
            [sys.executable, "-c", held, str(lock)], stderr=subprocess.DEVNULL, check=False
        )
    assert inside.returncode != 0
    subprocess.run([sys.executable, "-c", held, str(lock)], check=True)
