# SPDX-License-Identifier: Apache-2.0
"""Keeps one private PostgreSQL while its standard input is open, then leaves nothing behind.

A program of its own, because it must outlive a test run that is killed: the end of its input is
the end of whoever started it. Should it be killed itself, the kernel stops the server.

    python postgres_keeper.py DIRECTORY [durable]     prints "ready" or why not

A durable one has the settings that a server has by default, for figures.
"""

import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

PR_SET_PDEATHSIG = 1
START_S = 60.0
# Nothing here outlives a test: durability would only cost time.
LIGHT = {
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "max_wal_size": "512MB",
    "autovacuum": "off",
}
ALWAYS = {"listen_addresses": "", "max_connections": "200", "timezone": "UTC"}


def say(text: str) -> None:
    """Tell whoever started us."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def programs() -> Path:
    """Return the directory of the newest PostgreSQL's programs."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/postgres"),
        key=lambda program: int(program.parts[-3]),
    )
    if not found:
        say("no PostgreSQL: run `make setup`")
        raise SystemExit(1)
    return found[-1].parent


def user() -> tuple[int, int]:
    """Return who runs the server: it refuses to be root."""
    if os.geteuid() != 0:
        return os.geteuid(), os.getegid()
    for name in ("postgres", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return entry.pw_uid, entry.pw_gid
    return 65534, 65534


def become(uid: int, gid: int) -> None:
    """In the child: give up root, and die with the keeper."""
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)


def keep(directory: Path, *, durable: bool) -> None:
    """Start a server inside of a directory and stop it when nobody needs it any more."""
    uid, gid = user()
    binaries = programs()
    os.chown(directory, uid, gid)
    data = directory / "data"
    made = subprocess.run(
        [binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "--no-sync",
         "--no-instructions", "-E", "UTF8", "--locale", "C.UTF-8"],
        preexec_fn=lambda: become(uid, gid), cwd="/", capture_output=True, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        say(f"initdb failed: {made.stderr}")
        raise SystemExit(1)
    settings = ALWAYS if durable else ALWAYS | LIGHT
    options = [f"--{name}={value}" for name, value in settings.items()]
    with (directory / "log").open("wb") as log:
        server = subprocess.Popen(
            [binaries / "postgres", "-D", data, f"--unix_socket_directories={directory}", *options],
            preexec_fn=lambda: become(uid, gid),  # noqa: PLW1509  # this program has one thread
            cwd="/",
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    try:
        deadline_s = time.monotonic() + START_S
        while subprocess.run(
            [binaries / "pg_isready", "-q", "-h", directory], check=False
        ).returncode:
            if server.poll() is not None or time.monotonic() > deadline_s:
                say((directory / "log").read_text(errors="replace"))
                raise SystemExit(1)
            time.sleep(0.02)
        say("ready")
        sys.stdin.buffer.read()
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait()


def main() -> None:
    """Keep a server; whatever happens, remove its files."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: sys.exit(1))
    directory = Path(sys.argv[1])
    try:
        keep(directory, durable="durable" in sys.argv[2:])
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
