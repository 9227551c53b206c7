# SPDX-License-Identifier: Apache-2.0
"""Fields of the cluster's configuration that people read and change by name."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from metropolis.api import management_pb2
from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.api.rpc_management import Management
from metropolis.base.errors import InvalidArgumentError
from metropolis.ctl.nodes import cluster_info
from metropolis.ctl.suggestions import did_you_mean
from metropolis.rpc.channel import Channel

_TPM_PREFIX: Final = "TPM_MODE_"
_STORAGE_PREFIX: Final = "STORAGE_SECURITY_POLICY_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field.

    Attributes:
        path: As in an update mask.
        read: Its values, as people write them.
        write: Puts values into a configuration; None: it never changes.
    """

    path: str
    read: Callable[[ClusterConfiguration], Sequence[str]]
    write: Callable[[ClusterConfiguration, Sequence[str]], None] | None


async def change(
    channel: Channel, field: Field, values: Sequence[str], *, timeout_s: float
) -> ClusterConfiguration:
    """Change one field, unless somebody else changes it at the same time.

    Raises:
        InvalidArgumentError: the values do not fit the field.
        FailedPreconditionError: somebody else was faster.
    """
    if field.write is None:
        raise InvalidArgumentError(
            f"{field.path} cannot be changed: names that were given out contain it",
            remedy="Bootstrap a new cluster to use another value.",
        )
    new = ClusterConfiguration()
    new.kubernetes.SetInParent()
    field.write(new, values)  # before anything is asked: what is wrong here is wrong anywhere
    info = await cluster_info(channel, timeout_s=timeout_s)
    base = ClusterConfiguration()
    base.CopyFrom(info.cluster_configuration)
    base.kubernetes.SetInParent()
    response = await channel.call(
        Management.CONFIGURE_CLUSTER,
        management_pb2.ConfigureClusterRequest(
            base_config=base, new_config=new, update_mask=FieldMask(paths=[field.path])
        ),
        timeout_s=timeout_s,
    )
    return response.resulting_config


def find(name: str) -> Field:
    """Return a field by its path.

    Raises:
        InvalidArgumentError: there is none; the remedy names the nearest.
    """
    if name not in FIELDS:
        raise InvalidArgumentError(
            f"there is no field {name[:64]!r} in the configuration",
            remedy=did_you_mean(name, FIELDS) or f"Choose from: {', '.join(FIELDS)}.",
        )
    return FIELDS[name]


def _read_rules(config: ClusterConfiguration) -> Sequence[str]:
    return [rule.regexp for rule in config.kubernetes.node_labels_to_synchronize]


def _write_rules(config: ClusterConfiguration, values: Sequence[str]) -> None:
    for value in values:
        try:
            re.compile(value)
        except re.error as cause:
            raise InvalidArgumentError(
                f"{value[:64]!r} is not a regular expression: {cause}",
                remedy=r"Quote it for the shell, e.g. '^example\.com/.*$'.",
            ) from None
        config.kubernetes.node_labels_to_synchronize.add(regexp=value)


def tpm_mode_text(config: ClusterConfiguration) -> str:
    """Render the mode as people write it, e.g. "best-effort"."""
    return _spelled(ClusterConfiguration.TPMMode.items(), config.tpm_mode, _TPM_PREFIX)


def storage_policy_text(config: ClusterConfiguration) -> str:
    """Render the policy as people write it, e.g. "needs-encryption"."""
    return _spelled(
        ClusterConfiguration.StorageSecurityPolicy.items(),
        config.storage_security_policy,
        _STORAGE_PREFIX,
    )


def _write_tpm_mode(config: ClusterConfiguration, values: Sequence[str]) -> None:
    number = _choose("tpm_mode", values, ClusterConfiguration.TPMMode.items(), _TPM_PREFIX)
    config.tpm_mode = ClusterConfiguration.TPMMode.ValueType(number)


def _write_storage_policy(config: ClusterConfiguration, values: Sequence[str]) -> None:
    items = ClusterConfiguration.StorageSecurityPolicy.items()
    number = _choose("storage_security_policy", values, items, _STORAGE_PREFIX)
    policy = ClusterConfiguration.StorageSecurityPolicy.ValueType(number)
    config.storage_security_policy = policy


def _choose(
    field: str, values: Sequence[str], items: Sequence[tuple[str, int]], prefix: str
) -> int:
    """Understand the one value of an enum: `best-effort`, `BEST_EFFORT` or the full name."""
    choices = {_spell(name, prefix): number for name, number in items if number}
    hint = f"The values are {', '.join(choices)}."
    if len(values) != 1:
        raise InvalidArgumentError(f"{field} takes exactly one value", remedy=hint)
    wanted = _spell(values[0].upper().replace("-", "_"), prefix)
    if wanted not in choices:
        raise InvalidArgumentError(
            f"{values[0][:64]!r} is no value of {field}",
            remedy=f"{did_you_mean(wanted, choices)} {hint}".strip(),
        )
    return choices[wanted]


def _spelled(items: Sequence[tuple[str, int]], number: int, prefix: str) -> str:
    return next((_spell(name, prefix) for name, value in items if value == number), str(number))


def _spell(name: str, prefix: str) -> str:
    return name.removeprefix(prefix).lower().replace("_", "-")


FIELDS: Final[Mapping[str, Field]] = {
    field.path: field
    for field in (
        Field(path="kubernetes.node_labels_to_synchronize", read=_read_rules, write=_write_rules),
        Field(path="tpm_mode", read=lambda c: [tpm_mode_text(c)], write=_write_tpm_mode),
        Field(
            path="storage_security_policy",
            read=lambda c: [storage_policy_text(c)],
            write=_write_storage_policy,
        ),
        Field(path="cluster_domain", read=lambda c: [c.cluster_domain], write=None),
    )
}
