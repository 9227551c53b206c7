# SPDX-License-Identifier: Apache-2.0
"""Storage policy: how a machine should protect its data partition, and how it may. Pure.

Like the TPM mode it binds a machine when it enrols, and no node that is in.
"""

from typing import Final, TypeAlias

from metropolis.api.common_pb2 import (
    NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
    NODE_STORAGE_SECURITY_ENCRYPTED,
    NODE_STORAGE_SECURITY_INSECURE,
    ClusterConfiguration,
    NodeStorageSecurity,
)
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError

Policy: TypeAlias = ClusterConfiguration.StorageSecurityPolicy.ValueType
Security: TypeAlias = NodeStorageSecurity.ValueType

CLUSTER_UNLOCK_KEY_BYTES: Final = 32

_CFG: Final = ClusterConfiguration
_ALL: Final = (
    NODE_STORAGE_SECURITY_INSECURE,
    NODE_STORAGE_SECURITY_ENCRYPTED,
    NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
)

# policy -> (recommended to the machine, accepted at commit)
POLICIES: Final[dict[Policy, tuple[Security, tuple[Security, ...]]]] = {
    _CFG.STORAGE_SECURITY_POLICY_PERMISSIVE: (
        NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
        _ALL,
    ),
    _CFG.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION: (
        NODE_STORAGE_SECURITY_ENCRYPTED,
        (NODE_STORAGE_SECURITY_ENCRYPTED, NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED),
    ),
    _CFG.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION_AND_AUTHENTICATION: (
        NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,
        (NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED,),
    ),
    _CFG.STORAGE_SECURITY_POLICY_NEEDS_INSECURE: (
        NODE_STORAGE_SECURITY_INSECURE,
        (NODE_STORAGE_SECURITY_INSECURE,),
    ),
}


def recommended(policy: Policy) -> Security:
    """Return what a machine is told to use.

    Raises:
        FailedPreconditionError: the stored policy is none we know.
    """
    return _policy(policy)[0]


def check_known(security: int) -> Security:
    """Check what a machine says it did.

    Raises:
        InvalidArgumentError: not one of the three kinds.
    """
    for known in _ALL:
        if security == known:
            return known
    raise InvalidArgumentError(
        f"storage security {security} is unknown",
        remedy="Send INSECURE, ENCRYPTED or AUTHENTICATED_ENCRYPTED.",
    )


def check_accepted(policy: Policy, security: Security) -> None:
    """Check that the cluster accepts what the machine did.

    Raises:
        FailedPreconditionError: it does not.
    """
    if security not in _policy(policy)[1]:
        raise FailedPreconditionError(
            f"{NodeStorageSecurity.Name(security)} is not accepted under "
            f"{_CFG.StorageSecurityPolicy.Name(policy)}",
            remedy="Install the machine again, so that it follows the cluster's policy, or change "
            "storage_security_policy with `metroctl cluster configure`.",
        )


def kept_unlock_key(security: Security, cluster_unlock_key: bytes) -> bytes:
    """Return what the cluster keeps: nothing for a disk that nobody unlocks.

    Raises:
        InvalidArgumentError: an encrypted disk without a key of 32 bytes.
    """
    if security == NODE_STORAGE_SECURITY_INSECURE:
        return b""
    if len(cluster_unlock_key) != CLUSTER_UNLOCK_KEY_BYTES:
        raise InvalidArgumentError(
            f"a cluster unlock key has {CLUSTER_UNLOCK_KEY_BYTES} bytes, "
            f"this one has {len(cluster_unlock_key)}",
            remedy="Send the whole key, unless the storage is INSECURE.",
        )
    return cluster_unlock_key


def _policy(policy: Policy) -> tuple[Security, tuple[Security, ...]]:
    if policy not in POLICIES:
        raise FailedPreconditionError(
            f"the cluster's storage policy {policy} is unknown to this build",
            remedy="Set storage_security_policy with `metroctl cluster configure`.",
        )
    return POLICIES[policy]
