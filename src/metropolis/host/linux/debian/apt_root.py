# SPDX-License-Identifier: Apache-2.0
"""apt-get with a configuration, state and cache of its own.

Nothing of the host's apt is read except how it reaches the network (proxies, certificates) and
mirror passwords; nothing of it is written. Packages are accepted only with a signature of Debian's
archive key, which the host's own `debian-archive-keyring` brought along.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError, NotFoundError
from metropolis.host.linux.debian.lock import Package
from metropolis.host.linux.programs import run_program

SUITE: Final = "trixie"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_TOOL_TIMEOUT_S: Final = 30.0
_NETWORK_TIMEOUT_S: Final = 600.0
_NETWORK_OPTION: Final = re.compile(r"Acquire::(http|https|ftp|ForceIPv[46]|Retries)\b.*;")

# /dev/null where apt would otherwise read the host's: configuration, sources, keys, preferences.
_CONFIGURATION: Final = """\
Dir::Etc::parts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::sourcelist "{root}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::trusted "/dev/null";
Dir::Etc::trustedparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "{root}/state";
Dir::State::lists "{root}/state/lists";
Dir::State::status "{root}/state/status";
Dir::Cache "{root}/cache";
Dir::Log "{root}/log";
APT::Architecture "{architecture}";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Get::AllowUnauthenticated "false";
Acquire::AllowInsecureRepositories "false";
Acquire::AllowDowngradeToInsecureRepositories "false";
Acquire::Languages "none";
Acquire::PDiffs "false";
Acquire::Retries "3";
"""


class AptRoot:
    """A private apt root below one directory.

    Raises:
        FailedPreconditionError: Debian's archive key is not installed on this machine.
    """

    def __init__(self, directory: Path) -> None:
        if not KEYRING.exists():
            raise FailedPreconditionError(
                f"{KEYRING} is missing, so packages cannot be verified",
                remedy="Run `apt-get install debian-archive-keyring`.",
            )
        self._directory = directory.absolute()
        self.architecture = (
            run_program(["dpkg", "--print-architecture"], timeout_s=_TOOL_TIMEOUT_S)
            .decode()
            .strip()
        )
        for name in ("state/lists/partial", "cache/archives/partial", "log"):
            (self._directory / name).mkdir(parents=True, exist_ok=True)
        (self._directory / "state/status").touch()
        options = run_program(["apt-config", "dump"], timeout_s=_TOOL_TIMEOUT_S).decode()
        (self._directory / "apt.conf").write_text(
            "\n".join(line for line in options.splitlines() if _NETWORK_OPTION.fullmatch(line))
            + "\n"
            + _CONFIGURATION.format(root=self._directory, architecture=self.architecture),
            encoding="utf-8",
        )

    def update(self, mirror: str) -> None:
        """Fetch and verify the package list of the suite from one mirror.

        Raises:
            UnavailableError: the mirror does not answer, lacks the suite, or the signature is not
                Debian's.
        """
        if re.search(r"[\s\[\]]", mirror):
            raise FailedPreconditionError(
                f"{mirror!r} is not the address of a mirror", remedy="Give one URI."
            )
        (self._directory / "sources.list").write_text(
            f"deb [signed-by={KEYRING} arch={self.architecture}] {mirror} {SUITE} main\n",
            encoding="utf-8",
        )
        self._run(["apt-get", "-q", "update"], timeout_s=_NETWORK_TIMEOUT_S)

    def available(self, names: Sequence[str]) -> Mapping[str, Sequence[Package]]:
        """Versions in the verified list by package name, the newest first; unknown names absent."""
        shown = self._run(["apt-cache", "show", "--", *sorted(names)], timeout_s=_TOOL_TIMEOUT_S)
        found: dict[str, list[Package]] = {}
        for fields in map(_fields, shown.decode().split("\n\n")):
            if fields.get("Package") in names:
                package = Package(
                    name=fields["Package"],
                    version=fields["Version"],
                    architecture=fields["Architecture"],
                    sha256=fields["SHA256"],
                )
                found.setdefault(package.name, []).append(package)
        return found

    def depends(self, name: str) -> Sequence[str]:
        """Names of the packages that the newest version of a package depends on.

        Raises:
            NotFoundError: the suite has no such package.
        """
        shown = self._run(["apt-cache", "show", "--", name], timeout_s=_TOOL_TIMEOUT_S).decode()
        for fields in map(_fields, shown.split("\n\n")):
            if fields.get("Package") == name:
                wanted = fields.get("Depends", "").split(",")
                return tuple(each.split()[0] for each in wanted if each.strip())
        raise NotFoundError(f"Debian {SUITE} has no package {name}")

    def download(self, packages: Sequence[Package], destination: Path) -> Mapping[Package, Path]:
        """Download exact versions; apt compares them with the signed list.

        Raises:
            UnavailableError: the mirror failed, or sent other bytes.
        """
        self._run(
            ["apt-get", "-q", "download", *(f"{p.name}={p.version}" for p in packages)],
            working_directory=destination,
            timeout_s=_NETWORK_TIMEOUT_S,
        )
        files: dict[Package, Path] = {}
        for package in packages:
            (files[package],) = destination.glob(f"{package.name}_*.deb")
        return files

    def _run(
        self, argv: Sequence[str], *, timeout_s: float, working_directory: Path | None = None
    ) -> bytes:
        environment = {"APT_CONFIG": str(self._directory / "apt.conf"), "LC_ALL": "C.UTF-8"}
        return run_program(
            argv,
            environment=environment,
            timeout_s=timeout_s,
            working_directory=working_directory or self._directory,
        )


def _fields(record: str) -> Mapping[str, str]:
    """Single-line fields of a control record; continuation lines are of no interest here."""
    pairs = (line.split(": ", 1) for line in record.splitlines() if re.match(r"[\w-]+: ", line))
    return {name: value.strip() for name, value in pairs}
