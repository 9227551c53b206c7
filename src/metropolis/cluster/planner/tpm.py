# SPDX-License-Identifier: Apache-2.0
"""TPM policy: what the cluster's mode makes of a machine. Pure.

The mode binds a machine when it enrols. A member keeps the usage it enrolled with, whatever the
mode becomes later, so changing the mode never locks out a node that is in.
"""

from typing import Final, TypeAlias

from metropolis.api.common_pb2 import (
    NODE_TPM_USAGE_NOT_PRESENT,
    NODE_TPM_USAGE_PRESENT_AND_USED,
    NODE_TPM_USAGE_PRESENT_BUT_UNUSED,
    ClusterConfiguration,
    NodeTPMUsage,
)
from metropolis.base.errors import (
    FailedPreconditionError,
    MetropolisError,
    PermissionDeniedError,
)

Mode: TypeAlias = ClusterConfiguration.TPMMode.ValueType
Usage: TypeAlias = NodeTPMUsage.ValueType

_CFG: Final = ClusterConfiguration

# (mode, the machine has a TPM) -> usage; None: the machine may not enrol.
USAGE: Final[dict[tuple[Mode, bool], Usage | None]] = {
    (_CFG.TPM_MODE_REQUIRED, True): NODE_TPM_USAGE_PRESENT_AND_USED,
    (_CFG.TPM_MODE_REQUIRED, False): None,
    (_CFG.TPM_MODE_BEST_EFFORT, True): NODE_TPM_USAGE_PRESENT_AND_USED,
    (_CFG.TPM_MODE_BEST_EFFORT, False): NODE_TPM_USAGE_NOT_PRESENT,
    (_CFG.TPM_MODE_DISABLED, True): NODE_TPM_USAGE_PRESENT_BUT_UNUSED,
    (_CFG.TPM_MODE_DISABLED, False): NODE_TPM_USAGE_NOT_PRESENT,
}

# Usages with which a machine that registered under an earlier mode may still commit.
ACCEPTED: Final[dict[Mode, tuple[Usage, ...]]] = {
    _CFG.TPM_MODE_REQUIRED: (NODE_TPM_USAGE_PRESENT_AND_USED,),
    _CFG.TPM_MODE_BEST_EFFORT: (
        NODE_TPM_USAGE_PRESENT_AND_USED,
        NODE_TPM_USAGE_PRESENT_BUT_UNUSED,
        NODE_TPM_USAGE_NOT_PRESENT,
    ),
    _CFG.TPM_MODE_DISABLED: (
        NODE_TPM_USAGE_PRESENT_BUT_UNUSED,
        NODE_TPM_USAGE_NOT_PRESENT,
    ),
}


def usage_at_enrolment(mode: Mode, *, has_tpm: bool) -> Usage:
    """Decide how a machine uses its TPM.

    Raises:
        PermissionDeniedError: the mode requires a TPM and the machine has none.
        FailedPreconditionError: the stored mode is none we know.
    """
    _check_mode(mode)
    usage = USAGE[mode, has_tpm]
    if usage is None:
        raise PermissionDeniedError(
            "TPM required but not available",
            remedy="Enable the machine's TPM in its firmware, or set the cluster's tpm_mode to "
            "TPM_MODE_BEST_EFFORT with `metroctl cluster configure`.",
        )
    return usage


def check_commit(mode: Mode, usage: Usage) -> None:
    """Check that the mode still admits what the machine registered with.

    Raises:
        FailedPreconditionError: it does not.
    """
    _check_mode(mode)
    if usage not in ACCEPTED[mode]:
        raise FailedPreconditionError(
            f"the machine registered with {NodeTPMUsage.Name(usage)}, which "
            f"{_CFG.TPMMode.Name(mode)} does not admit",
            remedy="Delete the node with `metroctl node delete` and install the machine again.",
        )


def join_problem(usage: Usage, *, is_sealed: bool) -> MetropolisError | None:
    """Judge a join: the join key comes out of a TPM exactly if the node enrolled that way."""
    if is_sealed == (usage == NODE_TPM_USAGE_PRESENT_AND_USED):
        return None
    wanted = "does not" if is_sealed else "does"
    return PermissionDeniedError(
        f"the node enrolled as one that {wanted} seal its configuration to a TPM",
        remedy="Put the machine's TPM and firmware settings back to what they were when it "
        "enrolled, or delete the node and install the machine again.",
    )


def _check_mode(mode: Mode) -> None:
    if mode not in ACCEPTED:
        raise FailedPreconditionError(
            f"the cluster's TPM mode {mode} is unknown to this build",
            remedy="Set tpm_mode with `metroctl cluster configure`.",
        )
