# SPDX-License-Identifier: Apache-2.0
"""Options that say with which certificates the gRPC services of Metal are served."""

import ipaddress
from collections.abc import Callable
from typing import Any, Final, TypeVar

import click

from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.access.secret_files import read_secret
from metropolis.rpc.grpc.mutual import MutualTls
from metropolis.rpc.transport import Endpoint

CommandT = TypeVar("CommandT", bound=Callable[..., Any])

_TCP_PORT_MAX: Final = 65535
_OPTIONS: Final = (
    click.option(
        "--tls-certificate-file",
        metavar="FILE",
        help="Certificate of the gRPC services, in PEM, with its chain.",
    ),
    click.option("--tls-key-file", metavar="FILE", help="Its private key, in PEM."),
    click.option(
        "--tls-authority-file",
        metavar="FILE",
        help="Authorities of the clients of the gRPC services, in PEM.",
    ),
)


def tls_options(command: CommandT) -> CommandT:
    """Add the options to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def tls_files(
    *,
    tls_certificate_file: str | None,
    tls_key_file: str | None,
    tls_authority_file: str | None,
) -> MutualTls | None:
    """Return what the options say; None when there are none.

    Raises:
        InvalidArgumentError: some are missing, naming them.
        NotFoundError: the key is not there.
        FailedPreconditionError: the key can be read by others, or is empty.
    """
    given = {
        "--tls-certificate-file": tls_certificate_file,
        "--tls-key-file": tls_key_file,
        "--tls-authority-file": tls_authority_file,
    }
    if not any(given.values()):
        return None
    missing = [name for name, value in given.items() if not value]
    if missing or not (tls_certificate_file and tls_key_file and tls_authority_file):
        raise InvalidArgumentError(
            f"certificates for gRPC are named, but not all of them: {', '.join(missing)} missing",
            remedy="Give all of these options, or none.",
        )
    read_secret(tls_key_file)  # for what it says of a file that others can read
    return MutualTls(
        certificate=tls_certificate_file, key=tls_key_file, authority=tls_authority_file
    )


def endpoint_of(option: str, listen: str) -> Endpoint:
    """Read a literal address and a TCP port.

    Raises:
        InvalidArgumentError: it is none, naming the option.
    """
    host, _, tcp_port = listen.rpartition(":")
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not tcp_port.isdigit() or int(tcp_port) > _TCP_PORT_MAX:
        raise InvalidArgumentError(
            f"{option} {listen!r} is no address to listen on",
            remedy="Write it as 127.0.0.1:50051 or [::1]:50051.",
        )
    return Endpoint(str(address), int(tcp_port))
