# SPDX-License-Identifier: Apache-2.0
"""Run a program as an ordinary user, as if the checkout and the interpreter were installed for all.

Arguments: [--forbid] PROGRAM [ARGUMENTS]. Started as root, in the checkout; HOME is the user's.
What of them other users may not reach is opened for them, in a mount namespace of this process
only. With --forbid the kernel refuses them user namespaces of their own.
"""

import os
import sys
from pathlib import Path

from metropolis.host.linux import mounts
from metropolis.host.linux.namespaces import Namespaces, enter_new_namespaces

USER = 54321  # nobody's account
_ENTER_BY_OTHERS = 0o001


def open_up(needed: list[Path]) -> None:
    """Let everybody reach these directories, and nothing else that is hidden beside them."""
    enter_new_namespaces(Namespaces.MOUNT)
    mounts.keep_mounts_private()
    held = {path: os.open(path, os.O_PATH | os.O_DIRECTORY) for path in needed}
    for path, descriptor in held.items():
        for parent in reversed(path.parents):
            if not parent.stat().st_mode & _ENTER_BY_OTHERS:
                mounts.mount_new("tmpfs", parent, options="mode=0755")
                break
        if not path.exists():
            path.mkdir(mode=0o755, parents=True)
            mounts.bind(Path(f"/proc/self/fd/{descriptor}"), path)
        os.close(descriptor)


def forbid_user_namespaces() -> None:
    """Enter a user namespace with the same users, in which no further ones can be made."""
    reading, writing = os.pipe()
    process = os.getpid()
    child = os.fork()
    if child == 0:  # only the parent namespace may map more users than one
        os.read(reading, 1)
        for kind in ("uid_map", "gid_map"):
            Path(f"/proc/{process}/{kind}").write_text("0 0 65536")
        os._exit(0)
    enter_new_namespaces(Namespaces.USER)
    os.write(writing, b"1")
    assert os.waitpid(child, 0)[1] == 0
    Path("/proc/sys/user/max_user_namespaces").write_text("0")


def main(arguments: list[str]) -> None:
    is_forbidden = arguments[0] == "--forbid"
    argv = arguments[is_forbidden:]
    open_up([Path(sys.base_prefix).resolve(), Path.cwd(), Path(os.environ["HOME"])])
    if is_forbidden:
        forbid_user_namespaces()
    os.setgroups([])
    os.setresgid(USER, USER, USER)
    os.setresuid(USER, USER, USER)
    os.execv(argv[0], argv)


if __name__ == "__main__":
    main(sys.argv[1:])
