# SPDX-License-Identifier: Apache-2.0
"""`metroctl install genusb`."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import click

from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl import configuration, recovery_key
from metropolis.ctl.command_line import command
from metropolis.ctl.options import settings_of
from metropolis.ctl.printing import say
from metropolis.formats.backup.sealing import public_key_of
from metropolis.formats.install_medium import RECOVERY_KEY, RESTORE
from metropolis.host import Entropy

_PATH: Final = click.Path(path_type=Path)
_MIB: Final = 1 << 20
# Other spellings that the original understands.
_TPM_MODES: Final = {"require": "required", "besteffort": "best-effort", "disable": "disabled"}
_DEFAULT_TPM_MODE: Final = "required"
_DEFAULT_STORAGE: Final = "needs-encryption-and-authentication"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Options:
    """The command's own flags."""

    bundle: Path
    bootstrap: bool
    bootstrap_tpm_mode: str | None
    bootstrap_storage_security: str | None
    node_params: Path | None
    recovery_key: Path | None
    restore: Path | None
    disk: str
    reinstall: bool
    keep_vendor_keys: bool
    force: bool


@command("genusb")
@click.argument("target", type=_PATH, metavar="IMAGE-or-DEVICE")
@click.option("--bundle", required=True, type=_PATH, help="bundle.zip, or a built image.")
@click.option("--bootstrap", is_flag=True, help="For the first node: it founds a cluster.")
@click.option(
    "--bootstrap-tpm-mode",
    metavar="MODE",
    help=f"required|best-effort|disabled  [{_DEFAULT_TPM_MODE}]",
)
@click.option(
    "--bootstrap-storage-security",
    metavar="POLICY",
    help="permissive|needs-encryption|needs-encryption-and-authentication|needs-insecure  "
    f"[{_DEFAULT_STORAGE}]",
)
@click.option(
    "--node-params", type=_PATH, help="NodeParameters as JSON or text: network, labels, anything."
)
@click.option(
    "--recovery-key", type=_PATH, help="Key that can open the node's disk, too; made if missing."
)
@click.option("--restore", type=_PATH, help="Directory of `metroctl cluster restore --to`.")
@click.option("--disk", default="", metavar="NAME", help="Serial number, WWN or path of the disk.")
@click.option("--reinstall", is_flag=True, help="Overwrite the node on the machine, once.")
@click.option("--keep-vendor-keys", is_flag=True, help="Keep the firmware's Secure Boot keys, too.")
@click.option("--force", is_flag=True, help="Write to a device in use, or not removable.")
@click.pass_context
def genusb(ctx: click.Context, /, target: Path, **flags: Any) -> None:  # noqa: ANN401  # click's own
    """Write an install medium to a file, or to a stick.

    A machine that starts from it gets the system without a question: its first suitable disk is
    erased. With --bootstrap the medium founds a cluster that belongs to the owner key of the
    context, which is made if there is none; use it on one machine only. Without, the cluster of the
    context is asked for its ticket, CA and addresses, and machines register with it.
    """
    from metropolis.ctl import install_medium  # noqa: PLC0415  # heavy, and for one command
    from metropolis.host.linux.entropy import LinuxEntropy  # noqa: PLC0415  # only who writes a medium waits for these
    from metropolis.image.medium_source import open_source  # noqa: PLC0415  # only who writes a medium waits for these

    settings, options, entropy = settings_of(ctx), _Options(**flags), LinuxEntropy()
    _check(options)
    founded = _cluster_configuration(options)
    given = install_medium.given_parameters(options.node_params) if options.node_params else None
    source = open_source(options.bundle)
    install_medium.check_target(target, force=options.force)
    more: dict[str, bytes] = {}
    owner_key: Path | None = None
    if options.restore is not None:
        parameters, more[RESTORE] = install_medium.restoring_files(options.restore)
    elif options.bootstrap:
        made, context = install_medium.founding_parameters(settings, entropy, founded, given)
        parameters, owner_key = made.SerializeToString(deterministic=True), context.owner_key_path
    else:
        joining = install_medium.joining_parameters(settings, given)
        parameters = joining.SerializeToString(deterministic=True)
    if options.recovery_key is not None:
        more[RECOVERY_KEY] = _recovery_key(options.recovery_key, entropy)
    wishes = install_medium.Wishes(
        disk=options.disk,
        may_replace_node=options.reinstall,
        keeps_vendor_keys=options.keep_vendor_keys,
    )
    content = install_medium.medium_content(source, parameters, wishes, entropy, more)
    say("Generating installer image (this can take a while).")
    size_bytes = install_medium.write(target, content, source, force=options.force)
    say(f"Wrote {target}: {source.product}, {size_bytes // _MIB} MiB.")
    for line in _advice(options, owner_key):
        say(line)


def _check(options: _Options) -> None:
    policies = options.bootstrap_tpm_mode or options.bootstrap_storage_security
    if policies and not options.bootstrap:
        raise InvalidArgumentError(
            "--bootstrap-tpm-mode and --bootstrap-storage-security need --bootstrap",
            remedy="Add --bootstrap. A running cluster has `metroctl cluster configure`.",
        )
    if options.disk.startswith("/dev/disk/"):
        raise InvalidArgumentError(
            f"the machine will not know its disk by the name {options.disk!r}",
            remedy="Give the disk's serial number or WWN, or a path such as /dev/sda.",
        )
    if options.restore is not None and (options.bootstrap or options.node_params is not None):
        raise InvalidArgumentError(
            "--restore brings node parameters of its own",
            remedy="Leave out --bootstrap and --node-params.",
        )


def _cluster_configuration(options: _Options) -> ClusterConfiguration:
    """Return the policies of a cluster that is to be founded."""
    founded = ClusterConfiguration()
    mode = options.bootstrap_tpm_mode or _DEFAULT_TPM_MODE
    policy = options.bootstrap_storage_security or _DEFAULT_STORAGE
    for name, value in (
        ("tpm_mode", _TPM_MODES.get(mode, mode)),
        ("storage_security_policy", policy),
    ):
        write = configuration.find(name).write
        assert write is not None
        write(founded, [value])
    return founded


def _recovery_key(path: Path, entropy: Entropy) -> bytes:
    """Return the public half of a recovery key; make the key if there is none."""
    if recovery_key.create(path, entropy):
        say(f"Made a recovery key: {path}. Keep it where no node is, and not only there.")
    return public_key_of(recovery_key.read(path))


def _advice(options: _Options, owner_key: Path | None) -> Sequence[str]:
    """Say what the medium is good for, and what to take care of."""
    lines = ["Whatever machine starts from it is installed without a question: mind its disks."]
    if owner_key is not None:
        lines.append(
            f"It founds a cluster that belongs to {owner_key}: use it on one machine only."
        )
        lines.append("Then run `metroctl takeownership ADDRESS` with that machine's address.")
    elif options.restore is not None:
        lines.append(
            "It brings a cluster back and holds all its keys: use it once, then destroy it."
        )
    else:
        lines.append("It holds the ticket that admits machines to the cluster: keep it like a key.")
        lines.append("Approve what registers with `metroctl approve`.")
    if options.reinstall:
        lines.append("It overwrites an enrolled node, once for each machine.")
    return lines
