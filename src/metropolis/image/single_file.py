# SPDX-License-Identifier: Apache-2.0
"""metroctl as one file, for CPython 3.11 to 3.14 of an x86-64 Linux.

The file is a zip with a shell script in front (pex): the first start unpacks it below the user's
cache directory, every later one goes straight there. It holds our code without the rooms that no
operator's computer needs, and the locked wheels for each Python; the same sources give the same
bytes, whatever Python builds it.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from metropolis.host.linux.programs import run_program
from metropolis.image.steps import Steps, digest_of
from metropolis.image.wheels import Requirement, choose, locked_requirements

PROGRAM: Final = "metroctl"
PYTHON_VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
# What `project.dependencies` and theirs say, without what only nodes and the lab import.
DISTRIBUTIONS: Final = (
    *("cffi", "click", "cryptography", "grpclib", "h11", "h2", "hpack", "hyperframe"),
    *("markdown-it-py", "mdurl", "multidict", "protobuf", "pycparser", "pygments", "pyopenssl"),
    *("python-socks", "pyyaml", "rich", "typing-extensions"),
)
ROOMS_WITHOUT: Final = ("kubernetes", "lab", "metal", "node", "sim")

_CONSTRAINT: Final = "CPython>=3.11,<3.15"  # a Python outside of it is told so
_ENTRY_POINT: Final = "metropolis.ctl.metroctl:main"
_PLATFORM: Final = "manylinux2014_x86_64"
_TOOL: Final = "pex"
_TIMEOUT_S: Final = 600.0


def make_metroctl(checkout: Path, steps: Steps) -> Path:
    """Return the file, made anew if what it is made of has changed.

    Raises:
        NotFoundError: the lock lacks a distribution.
        UnavailableError: a wheel could not be fetched, or pex failed.
    """
    lock = (checkout / "requirements.lock").read_text(encoding="utf-8")
    wanted = choose(lock, DISTRIBUTIONS)
    tool = locked_requirements(lock)[_TOOL]
    text = "".join(each.line() for each in wanted)
    wheels = steps.done(
        f"{PROGRAM}-wheels",
        digest_of(text, *PYTHON_VERSIONS, _PLATFORM),
        lambda scratch: _download(text, scratch),
        title=f"downloading wheels of {len(wanted)} distributions for metroctl",
    )
    sources = _sources(checkout / "src")
    place = steps.done(
        PROGRAM,
        digest_of(
            *(text, tool.version, _ENTRY_POINT, _CONSTRAINT, *PYTHON_VERSIONS),
            *(part for name, path in sources.items() for part in (name, path.read_bytes())),
        ),
        lambda scratch: _make(sources, wheels, wanted, scratch),
        title="packing metroctl into one file",
    )
    return place / PROGRAM


def _sources(root: Path) -> Mapping[str, Path]:
    package = root / "metropolis"
    found = {
        path.relative_to(root).as_posix(): path
        for path in package.rglob("*")
        if path.is_file()
        and "__pycache__" not in path.parts
        and path.relative_to(package).parts[0] not in ROOMS_WITHOUT
    }
    return dict(sorted(found.items()))


def _download(requirements: str, scratch: Path) -> None:
    wanted = scratch / "requirements.txt"
    wanted.write_text(requirements, encoding="utf-8")
    for version in PYTHON_VERSIONS:
        run_program(
            [
                *(sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "-q"),
                *("--require-hashes", "--no-deps", "--only-binary=:all:"),
                *("--implementation=cp", f"--python-version={version}"),
                *(f"--abi=cp{version.replace('.', '')}", "--abi=abi3", "--abi=none"),
                *(f"--platform={_PLATFORM}", "--dest", str(scratch)),
                *("--requirement", str(wanted)),
            ],
            timeout_s=_TIMEOUT_S,
        )
    wanted.unlink()


def _make(
    sources: Mapping[str, Path], wheels: Path, wanted: Sequence[Requirement], scratch: Path
) -> None:
    code = scratch / "code"
    for name, path in sources.items():
        (code / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, code / name)
    versions = (version.replace(".", "") for version in PYTHON_VERSIONS)
    platforms = (f"{_PLATFORM}-cp-{version}-cp{version}" for version in versions)
    run_program(
        [
            *(sys.executable, "-m", _TOOL, "--disable-cache", "--no-pypi", "--no-emit-warnings"),
            *("--sources-directory", str(code), "--find-links", str(wheels), "--intransitive"),
            *(f"--platform={platform}" for platform in platforms),
            *(f"{each.name}=={each.version}" for each in wanted),
            *("--venv", "--sh-boot", "--interpreter-constraint", _CONSTRAINT),
            *("--entry-point", _ENTRY_POINT),
            *("--output-file", str(scratch / PROGRAM)),
        ],
        environment={"PEX_IGNORE_RCFILES": "1"},
        timeout_s=_TIMEOUT_S,
    )
    shutil.rmtree(code)
    (scratch / PROGRAM).chmod(0o755)
