# SPDX-License-Identifier: Apache-2.0
"""Copies of the sources, and images built from them in other surroundings."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metropolis.host.linux.debian.checkout import project_root

BUILD_TIMEOUT_S = 600
FSCK = "usr/bin/fsck.erofs"
LOADER = "usr/lib64/ld-linux-x86-64.so.2"
LIBRARIES = "usr/lib/x86_64-linux-gnu"
PYTHON = "usr/bin/python3.13"


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What must not show in an image."""

    umask: str
    hash_seed: str
    locale: str
    time_zone: str
    file_time_s: int


@dataclass(frozen=True, kw_only=True)
class Built:
    """One finished build."""

    output: Path
    checkout: Path
    cache: Path
    said: Sequence[str]

    @property
    def description(self) -> Mapping[str, Any]:
        described: Mapping[str, Any] = json.loads((self.output / "image.json").read_text())
        return described

    def files(self) -> Mapping[str, bytes]:
        return {
            path.relative_to(self.output).as_posix(): path.read_bytes()
            for path in sorted(self.output.rglob("*"))
            if path.is_file()
        }


def copy_sources(target: Path, *, file_time_s: int, source: Path | None = None) -> Path:
    """Copy what an image is built from, without git's history, with other times."""
    root = source or project_root()
    target.mkdir(parents=True)
    for name in ("src", "images"):
        shutil.copytree(root / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("requirements.lock", "LICENSE"):
        shutil.copyfile(root / name, target / name)
    for path in target.rglob("*"):
        os.utime(path, (file_time_s, file_time_s))
    return target


def build(
    checkout: Path,
    output: Path,
    *,
    cache: Path,
    keys: Path,
    around: Surroundings,
    kind: str = "release",
) -> Built:
    """Build in a process of its own, which imports the copy's code."""
    program = Path(__file__).with_name("elsewhere.py")
    packages = project_root() / ".cache" / "debian"
    environment = {
        **os.environ,
        "PYTHONPATH": str(checkout / "src"),
        "PYTHONHASHSEED": around.hash_seed,
        "LC_ALL": around.locale,
        "TZ": around.time_zone,
        "TEST_UMASK": around.umask,
    }
    done = subprocess.run(
        [sys.executable, program, checkout, output, cache, keys, packages, kind],
        env=environment,
        cwd=checkout,
        capture_output=True,
        check=False,
        timeout=BUILD_TIMEOUT_S,
    )
    assert done.returncode == 0, done.stderr.decode()
    return Built(
        output=output, checkout=checkout, cache=cache, said=done.stdout.decode().splitlines()
    )


def run_inside(root: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a program of a root file system or sysroot by its own C library."""
    executable = str(root / program)
    return subprocess.run(
        [
            *(root / LOADER, "--library-path", root / LIBRARIES, "--argv0", executable),
            *(executable, *arguments),
        ],
        env={"PATH": "/nonexistent"},
        capture_output=True,
        check=False,
        timeout=BUILD_TIMEOUT_S,
    )


def extract(built: Built, target: Path) -> Path:
    """Unpack the system partition by the locked erofs-utils, which check it on the way."""
    (sysroot,) = (built.cache / "sysroot").iterdir()
    image = str(built.output / "system.img")
    done = run_inside(sysroot, FSCK, f"--extract={target}", image)
    assert done.returncode == 0, done.stderr.decode()
    return target
