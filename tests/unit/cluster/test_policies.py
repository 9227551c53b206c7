# SPDX-License-Identifier: Apache-2.0
"""TPM and storage policies: every combination."""

import pytest

from metropolis.api.common_pb2 import (
    NODE_STORAGE_SECURITY_AUTHENTICATED_ENCRYPTED as AUTHENTICATED,
)
from metropolis.api.common_pb2 import NODE_STORAGE_SECURITY_ENCRYPTED as ENCRYPTED
from metropolis.api.common_pb2 import NODE_STORAGE_SECURITY_INSECURE as INSECURE
from metropolis.api.common_pb2 import NODE_TPM_USAGE_NOT_PRESENT as NOT_PRESENT
from metropolis.api.common_pb2 import NODE_TPM_USAGE_PRESENT_AND_USED as USED
from metropolis.api.common_pb2 import NODE_TPM_USAGE_PRESENT_BUT_UNUSED as UNUSED
from metropolis.api.common_pb2 import ClusterConfiguration as Configuration
from metropolis.base.errors import (
    FailedPreconditionError,
    InvalidArgumentError,
    PermissionDeniedError,
)
from metropolis.cluster.planner import storage, tpm

REQUIRED = Configuration.TPM_MODE_REQUIRED
BEST_EFFORT = Configuration.TPM_MODE_BEST_EFFORT
DISABLED = Configuration.TPM_MODE_DISABLED
PERMISSIVE = Configuration.STORAGE_SECURITY_POLICY_PERMISSIVE
NEEDS_ENCRYPTION = Configuration.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION
NEEDS_BOTH = Configuration.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION_AND_AUTHENTICATION
NEEDS_INSECURE = Configuration.STORAGE_SECURITY_POLICY_NEEDS_INSECURE


@pytest.mark.parametrize(
    ("mode", "has_tpm", "usage"),
    [
        (REQUIRED, True, USED),
        (BEST_EFFORT, True, USED),
        (BEST_EFFORT, False, NOT_PRESENT),
        (DISABLED, True, UNUSED),
        (DISABLED, False, NOT_PRESENT),
    ],
)
def test_a_machine_uses_its_tpm_as_the_mode_says(
    mode: tpm.Mode, has_tpm: bool, usage: tpm.Usage
) -> None:
    assert tpm.usage_at_enrolment(mode, has_tpm=has_tpm) == usage
    tpm.check_commit(mode, usage)  # who registered under a mode may commit under it


def test_a_machine_without_the_required_tpm_is_denied() -> None:
    with pytest.raises(PermissionDeniedError, match="TPM required but not available"):
        tpm.usage_at_enrolment(REQUIRED, has_tpm=False)


@pytest.mark.parametrize("usage", [NOT_PRESENT, UNUSED, USED])
@pytest.mark.parametrize("mode", [REQUIRED, BEST_EFFORT, DISABLED])
def test_a_mode_changed_after_registration_is_judged_at_commit(
    mode: tpm.Mode, usage: tpm.Usage
) -> None:
    is_refused = (mode == REQUIRED and usage != USED) or (mode == DISABLED and usage == USED)
    if is_refused:
        with pytest.raises(FailedPreconditionError):
            tpm.check_commit(mode, usage)
    else:
        tpm.check_commit(mode, usage)


@pytest.mark.parametrize("is_sealed", [True, False])
@pytest.mark.parametrize("usage", [NOT_PRESENT, UNUSED, USED])
def test_a_join_is_sealed_exactly_if_the_node_uses_its_tpm(
    usage: tpm.Usage, is_sealed: bool
) -> None:
    problem = tpm.join_problem(usage, is_sealed=is_sealed)
    assert (problem is None) == (is_sealed == (usage == USED))
    assert problem is None or isinstance(problem, PermissionDeniedError)


@pytest.mark.parametrize("mode", [0, 9])
def test_an_unknown_mode_admits_nobody(mode: tpm.Mode) -> None:
    with pytest.raises(FailedPreconditionError):
        tpm.usage_at_enrolment(mode, has_tpm=True)
    with pytest.raises(FailedPreconditionError):
        tpm.check_commit(mode, USED)


@pytest.mark.parametrize(
    ("policy", "recommended", "accepted"),
    [
        (PERMISSIVE, AUTHENTICATED, {INSECURE, ENCRYPTED, AUTHENTICATED}),
        (NEEDS_ENCRYPTION, ENCRYPTED, {ENCRYPTED, AUTHENTICATED}),
        (NEEDS_BOTH, AUTHENTICATED, {AUTHENTICATED}),
        (NEEDS_INSECURE, INSECURE, {INSECURE}),
    ],
)
def test_a_storage_policy_recommends_and_accepts(
    policy: storage.Policy, recommended: storage.Security, accepted: set[storage.Security]
) -> None:
    assert storage.recommended(policy) == recommended
    for security in (INSECURE, ENCRYPTED, AUTHENTICATED):
        if security in accepted:
            storage.check_accepted(policy, security)
        else:
            with pytest.raises(FailedPreconditionError, match="not accepted"):
                storage.check_accepted(policy, security)


@pytest.mark.parametrize("security", [0, 4, -1])
def test_an_unknown_storage_security_is_a_bad_request(security: int) -> None:
    with pytest.raises(InvalidArgumentError):
        storage.check_known(security)


@pytest.mark.parametrize("length", [0, 31, 33])
def test_an_encrypted_disk_needs_a_whole_key(length: int) -> None:
    with pytest.raises(InvalidArgumentError):
        storage.kept_unlock_key(ENCRYPTED, b"k" * length)


def test_no_key_is_kept_for_a_disk_that_nobody_unlocks() -> None:
    assert storage.kept_unlock_key(INSECURE, b"k" * 32) == b""
    assert storage.kept_unlock_key(AUTHENTICATED, b"k" * 32) == b"k" * 32


def test_an_unknown_storage_policy_accepts_nothing() -> None:
    with pytest.raises(FailedPreconditionError):
        storage.recommended(0)  # type: ignore[arg-type]
