# SPDX-License-Identifier: Apache-2.0
"""Making an install medium: what goes on it, and writing it."""

import hashlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.api.configuration_pb2 import NodeParameters
from metropolis.api.management_pb2 import GetClusterInfoResponse
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from metropolis.ctl import contexts, credentials, medium_target, node_parameters, nodes
from metropolis.ctl.choice import context_of
from metropolis.ctl.connection import Cluster
from metropolis.ctl.contexts import Context
from metropolis.ctl.printing import say
from metropolis.ctl.progress_line import ProgressLine
from metropolis.ctl.session import run
from metropolis.ctl.settings import Settings
from metropolis.formats.install_medium import MediumSettings
from metropolis.host import Entropy
from metropolis.host.linux.raw_disk import RawDisk
from metropolis.image.media import MediumContent, MediumPlan, plan_medium, write_medium
from metropolis.image.medium_source import MediumSource
from metropolis.pki import keys

_UUID_BYTES: Final = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the medium is to do, besides installing.

    Attributes:
        disk: Serial number, WWN or path of the disk to install to; empty: by the rules.
    """

    disk: str = ""
    may_replace_node: bool = False
    keeps_vendor_keys: bool = False


def founding_parameters(
    settings: Settings,
    entropy: Entropy,
    configuration: ClusterConfiguration,
    given: NodeParameters | None,
) -> tuple[NodeParameters, Context]:
    """Return what founds a cluster that belongs to the owner key of the context.

    The key is made if the context has none; a context that is named and does not exist is made.

    Raises:
        FailedPreconditionError: the context belongs to a cluster already.
        InvalidArgumentError: the parameters contradict each other.
    """
    context = _founding_context(settings)
    if context.is_owner or context.is_user or credentials.read_ca(context) is not None:
        name = f"context {context.name!r}" if context.name else f"directory {context.directory}"
        raise FailedPreconditionError(
            f"the {name} belongs to a cluster already, and --bootstrap founds another",
            remedy="Add --context NAME with a new name, or leave out --bootstrap to add a node.",
        )
    key = credentials.create_owner_key(context, entropy)
    configuration.cluster_domain = settings.cluster
    parameters = node_parameters.bootstrap_parameters(
        owner_public_key=keys.raw_public_key(key), configuration=configuration, given=given
    )
    if context.name:  # for people who ask which cluster that is
        founded = parameters.cluster_bootstrap.initial_cluster_configuration.cluster_domain
        contexts.rename_cluster(contexts.default_root(), context.name, founded)
    return parameters, context


def joining_parameters(settings: Settings, given: NodeParameters | None) -> NodeParameters:
    """Return what registers a machine with the cluster of the context, which is asked if needed.

    Raises:
        MetropolisError: the cluster cannot be asked, or none of its nodes has an address yet.
    """
    if given is not None and node_parameters.is_complete(given):
        return given

    async def act(cluster: Cluster) -> tuple[GetClusterInfoResponse, bytes]:
        info = await nodes.cluster_info(cluster.channel, timeout_s=cluster.timeout_s)
        ticket = await nodes.register_ticket(cluster.channel, timeout_s=cluster.timeout_s)
        return info, ticket

    info, ticket = run(settings, act)
    parameters = node_parameters.register_parameters(info, ticket=ticket, given=given)
    if not parameters.cluster_register.cluster_directory.nodes:
        raise FailedPreconditionError(
            "no node of the cluster has reported an address that a new one could dial",
            remedy="Wait until `metroctl node list` shows one, then run the command again.",
        )
    return parameters


def medium_content(
    source: MediumSource,
    parameters: bytes,
    wishes: Wishes,
    entropy: Entropy,
    more: Mapping[str, bytes],
) -> MediumContent:
    """Put together what goes on a medium; every medium has an id of its own."""
    drawn = UUID(bytes=entropy.token_bytes(_UUID_BYTES), version=4)
    return MediumContent(
        settings=MediumSettings(
            install_id=drawn,
            product=source.product,
            system_bytes=source.system_bytes,
            root_hash=source.root_hash,
            kernel_sha256=hashlib.sha256(source.kernel).digest(),
            disk=wishes.disk,
            may_replace_node=wishes.may_replace_node,
            keeps_vendor_keys=wishes.keeps_vendor_keys,
        ),
        kernel=source.kernel,
        parameters=parameters,
        enrolment=source.enrolment,
        more=more,
    )


def check_target(target: Path, *, force: bool) -> None:
    """Refuse what a medium cannot be written to, before anything else is done.

    Raises:
        MetropolisError: as `write`.
    """
    if medium_target.is_device(target):
        medium_target.check_device(medium_target.look_at(target), force=force)
    elif not target.absolute().parent.is_dir():
        raise NotFoundError(
            f"there is no directory {target.absolute().parent}",
            remedy="Make it, or name another place.",
        )


def write(target: Path, content: MediumContent, source: MediumSource, *, force: bool) -> int:
    """Write a medium to a file or a device; return its size in bytes.

    Raises:
        FailedPreconditionError: the device may not be overwritten, or the target fails.
        InvalidArgumentError: the target is unfit; the message says what is needed.
        DataLossError: the bundle is damaged; the medium does not boot.
    """
    if not medium_target.is_device(target):
        plan = plan_medium(content)
        with medium_target.new_file(target, plan.disk_bytes) as disk:
            _write(disk, plan, content, source, target)
        return plan.disk_bytes
    facts = medium_target.look_at(target)
    found = medium_target.check_device(facts, force=force)
    plan = plan_medium(content, device_bytes=found.size_bytes)
    say(f"Erasing {target} ({medium_target.describe(facts)}).")
    with medium_target.open_device(target, force=force) as disk:
        _write(disk, plan, content, source, target)
    return plan.disk_bytes


def restoring_files(directory: Path) -> tuple[bytes, bytes]:
    """Return parameters.pb and restore.pb as `metroctl cluster restore --to` wrote them.

    Raises:
        NotFoundError: they are not there.
    """
    try:
        return (directory / "parameters.pb").read_bytes(), (directory / "restore.pb").read_bytes()
    except OSError as cause:
        raise NotFoundError(
            f"{directory} holds no prepared restoration: {cause.strerror or cause}",
            remedy="Run `metroctl cluster restore FILE --to DIR` first.",
        ) from cause


def given_parameters(path: Path) -> NodeParameters:
    """Read node parameters that a person wrote.

    Raises:
        InvalidArgumentError: the file cannot be read or understood.
    """
    try:
        with path.open("rb") as file:
            text = file.read(node_parameters.PARAMETERS_BYTES_MAX).decode("utf-8")
    except (OSError, UnicodeDecodeError) as cause:
        reason = cause.strerror if isinstance(cause, OSError) else "it is no UTF-8"
        raise InvalidArgumentError(
            f"cannot read {path}: {reason}", remedy="Correct --node-params."
        ) from cause
    return node_parameters.parse_text(text)


def _founding_context(settings: Settings) -> Context:
    try:
        return context_of(settings)
    except NotFoundError:
        if settings.context is None:
            raise
        root = contexts.default_root()
        return contexts.create(root, settings.context, cluster_domain=settings.cluster)


def _write(
    disk: RawDisk, plan: MediumPlan, content: MediumContent, source: MediumSource, target: Path
) -> None:
    total = content.settings.system_bytes
    with ProgressLine(sys.stderr, title=f"Writing {target}", total_bytes=total) as progress:
        write_medium(disk, plan, content, source.system(), report=progress.report)
