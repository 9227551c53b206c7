# SPDX-License-Identifier: Apache-2.0
"""Options that say how machines and agents are served, and certificates for them."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from metropolis.base.errors import InvalidArgumentError
from metropolis.host.linux.clock import LinuxClock
from metropolis.lab.commands.metal_places import default_directory
from metropolis.lab.commands.metal_tls import endpoint_of
from metropolis.metal.access.secret_files import read_secret
from metropolis.metal.boot.authority import Subject, issue
from metropolis.metal.boot.server import BootServing
from metropolis.metal.messages.subscribers import BMC_AGENT
from metropolis.metal.rules.entity_ids import check_id
from metropolis.metal.seed import PARTITION
from metropolis.metal.simulated.fleet import MACHINES_MAX, Fleet
from metropolis.rpc.grpc.mutual import MutualTls

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

CERTIFICATES: Final = "grpc"  # below the directory of the control plane
MACHINE: Final = "machine"
_ANYWHERE: Final = frozenset({"0.0.0.0", "::"})  # noqa: S104  # nothing is bound here
_OPTIONS: Final = (
    click.option(
        "--grpc-listen",
        metavar="HOST:PORT",
        help="Where machines and agents are served over gRPC; port 50051 is usual.",
    ),
    click.option(
        "--grpc-certificate-file",
        metavar="FILE",
        help="Certificate shown to machines and agents, in PEM, with its chain.  [default: made]",
    ),
    click.option("--grpc-key-file", metavar="FILE", help="Its private key, in PEM."),
    click.option(
        "--grpc-authority-file",
        metavar="FILE",
        help="Authorities of machines and agents, in PEM.",
    ),
    click.option(
        "--grpc-name",
        metavar="NAME",
        multiple=True,
        help="Name or address under which machines reach it, for the certificate that is made.",
    ),
    click.option(
        "--machines",
        "grpc_machines",
        type=click.IntRange(0, MACHINES_MAX),
        default=0,
        show_default=True,
        help="Simulate so many machines in the partition of the example.",
    ),
)


def boot_options(command: CommandT) -> CommandT:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def boot_serving(
    directory: Path,
    *,
    grpc_listen: str | None,
    grpc_certificate_file: str | None,
    grpc_key_file: str | None,
    grpc_authority_file: str | None,
    grpc_name: tuple[str, ...],
    grpc_machines: int,
) -> tuple[BootServing | None, Fleet | None]:
    """Return what the options say; certificates that are not named are made.

    Raises:
        InvalidArgumentError: some files are named and others are missing, or there is no address.
        NotFoundError: the key is not there.
        FailedPreconditionError: the key can be read by others, or is empty.
    """
    given = {
        "--grpc-certificate-file": grpc_certificate_file,
        "--grpc-key-file": grpc_key_file,
        "--grpc-authority-file": grpc_authority_file,
    }
    if grpc_listen is None:
        if any(given.values()) or grpc_name or grpc_machines:
            raise InvalidArgumentError(
                "there are options for gRPC, but none says where it is served",
                remedy="Give --grpc-listen, too.",
            )
        return None, None
    endpoint = endpoint_of("--grpc-listen", grpc_listen)
    fleet = None
    if not any(given.values()):
        tls = _made(directory / CERTIFICATES, (endpoint.host, *grpc_name))
        if grpc_machines:
            fleet = _fleet(directory / CERTIFICATES, grpc_machines)
    elif grpc_machines:
        raise InvalidArgumentError(
            "simulated machines need certificates of an authority that signs for everybody",
            remedy="Leave out the files of certificates, or --machines.",
        )
    elif grpc_certificate_file and grpc_key_file and grpc_authority_file:
        read_secret(grpc_key_file)  # for what it says of a file that others can read
        tls = MutualTls(
            certificate=grpc_certificate_file, key=grpc_key_file, authority=grpc_authority_file
        )
    else:
        missing = ", ".join(name for name, value in given.items() if not value)
        raise InvalidArgumentError(
            f"certificates for gRPC are named, but not all of them: {missing} missing",
            remedy="Give all of these options, or none.",
        )
    return BootServing(endpoint=endpoint, tls=tls), fleet


def _made(directory: Path, names: tuple[str, ...]) -> MutualTls:
    now = LinuxClock().wall()
    hosts = ("localhost", "127.0.0.1", "::1", *(name for name in names if name not in _ANYWHERE))
    issue(directory, Subject(name=MACHINE), now=now)
    return issue(directory, Subject(name="server", hosts=hosts), now=now)


def _fleet(directory: Path, count: int) -> Fleet:
    now = LinuxClock().wall()
    agent = Subject(name=BMC_AGENT, partition_id=PARTITION)
    return Fleet(
        count=count,
        machine_tls=issue(directory, Subject(name=MACHINE), now=now),
        agent_tls=issue(directory, agent, now=now),
    )


@click.command("certificate")
@click.argument("name")
@click.option("--partition", "partition_id", help="Partition of an agent; machines have none.")
@click.option(
    "--directory",
    type=click.Path(file_okay=False, path_type=Path),
    default=default_directory,
    show_default="$XDG_STATE_HOME/metropolis/metal",
    help="That of `serve`, whose authority signs.",
)
def certificate(*, name: str, partition_id: str | None, directory: Path) -> None:
    """Make a certificate for NAME: `machine`, or an agent of a partition such as `bmc-agent`.

    Only for the authority that `serve` makes when no certificates are named.
    """
    subject = Subject(
        name=check_id("NAME", name),
        partition_id=check_id("--partition", partition_id) if partition_id else "",
    )
    files = issue(directory / CERTIFICATES, subject, now=LinuxClock().wall())
    print(f"certificate: {files.certificate}\nkey: {files.key}\nauthority: {files.authority}")
    print("Bring the key to where it is used, and nowhere else.", file=sys.stderr)
