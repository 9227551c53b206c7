# SPDX-License-Identifier: Apache-2.0
"""Three-way merge of the cluster's configuration. Pure.

A caller says what it believes the masked fields to be, what they shall become, and which they are.
What somebody else changed in between is not overwritten. A caller that says nothing about what was
before wants its values whatever they replace: that is how the original's command line sets fields.

Which fields can change:

    kubernetes.node_labels_to_synchronize   any time
    tpm_mode, storage_security_policy       any time and in any direction: they bind machines when
                                            they enrol, never a node that is in, so nobody is
                                            locked out; a machine between registration and commit
                                            is judged by what holds when it commits
    cluster_domain                          never: it is part of names that were given out
"""

import re
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from google.protobuf.field_mask_pb2 import FieldMask

from metropolis.api.common_pb2 import ClusterConfiguration
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.base.names import cluster_domain_problem

MASK_PATHS_MAX: Final = 32
LABEL_RULES_MAX: Final = 64
REGEXP_CHARS_MAX: Final = 512
_SHOWN_CHARS_MAX: Final = 64

_TPM_MODES: Final = (
    ClusterConfiguration.TPM_MODE_REQUIRED,
    ClusterConfiguration.TPM_MODE_BEST_EFFORT,
    ClusterConfiguration.TPM_MODE_DISABLED,
)
_STORAGE_POLICIES: Final = (
    ClusterConfiguration.STORAGE_SECURITY_POLICY_PERMISSIVE,
    ClusterConfiguration.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION,
    ClusterConfiguration.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION_AND_AUTHENTICATION,
    ClusterConfiguration.STORAGE_SECURITY_POLICY_NEEDS_INSECURE,
)
_KNOWN_PATHS: Final = frozenset(
    {
        "cluster_domain",
        "tpm_mode",
        "storage_security_policy",
        "kubernetes",
        "kubernetes.node_labels_to_synchronize",
    }
)
_UNCHANGEABLE: Final[Mapping[str, str]] = {
    "cluster_domain": "names that were given out contain it",
    "kubernetes": "name the fields below it, such as kubernetes.node_labels_to_synchronize",
}


def default_configuration() -> ClusterConfiguration:
    """Return what a cluster gets whose owner said nothing: the safest."""
    return ClusterConfiguration(
        cluster_domain="cluster.internal",
        tpm_mode=ClusterConfiguration.TPM_MODE_REQUIRED,
        storage_security_policy=(
            ClusterConfiguration.STORAGE_SECURITY_POLICY_NEEDS_ENCRYPTION_AND_AUTHENTICATION
        ),
    )


def check_configuration(configuration: ClusterConfiguration) -> None:
    """Check a whole configuration, as a bootstrap brings it.

    Raises:
        InvalidArgumentError: a field that must be set is not, or is bad.
    """
    problem = cluster_domain_problem(configuration.cluster_domain)
    if problem is not None:
        raise InvalidArgumentError(
            f"cluster_domain {problem}", remedy="Set it like cluster.internal."
        )
    _check_tpm_mode(configuration)
    _check_storage_policy(configuration)
    _check_label_rules(configuration)


def merge(
    current: ClusterConfiguration,
    *,
    base: ClusterConfiguration | None,
    new: ClusterConfiguration | None,
    mask: FieldMask | None,
) -> ClusterConfiguration:
    """Return the configuration after a change.

    Args:
        base: What the caller believes to be there; None if it does not care.

    Raises:
        InvalidArgumentError: an incomplete request, a path that cannot change, or a bad value.
        FailedPreconditionError: the stored value is not what the caller believes.
    """
    if new is None or mask is None:
        raise InvalidArgumentError(
            f"{'new_config' if new is None else 'update_mask'} is required",
            remedy="Send new_config and update_mask; base_config is what you read before.",
        )
    paths = _normalised(mask.paths)
    for path in paths:
        if path not in _KNOWN_PATHS:
            raise InvalidArgumentError(
                f"update_mask: {path[:_SHOWN_CHARS_MAX]!r} is no field of the configuration",
                remedy="Write paths like kubernetes.node_labels_to_synchronize.",
            )
        if path in _UNCHANGEABLE:
            raise InvalidArgumentError(
                f"cannot modify {path}: {_UNCHANGEABLE[path]}",
                remedy=f"Leave {path} out of the update mask.",
            )
    merged = ClusterConfiguration()
    merged.CopyFrom(current)
    for path in paths:
        _MERGERS[path](merged, base, new)
    return merged


def _normalised(paths: Sequence[str]) -> Sequence[str]:
    """Sort, and drop what is named twice or lies below another path."""
    if len(paths) > MASK_PATHS_MAX:
        raise InvalidArgumentError(
            f"an update mask of {len(paths)} paths is longer than {MASK_PATHS_MAX}",
            remedy="Name every field once.",
        )
    kept: list[str] = []
    for path in sorted(set(paths)):
        if not any(path.startswith(f"{parent}.") for parent in kept):
            kept.append(path)
    return kept


def _merge_tpm_mode(
    merged: ClusterConfiguration, base: ClusterConfiguration | None, new: ClusterConfiguration
) -> None:
    is_same = base is None or merged.tpm_mode == base.tpm_mode
    _check_unchanged("tpm_mode", is_same=is_same)
    _check_tpm_mode(new)
    merged.tpm_mode = new.tpm_mode


def _merge_storage_policy(
    merged: ClusterConfiguration, base: ClusterConfiguration | None, new: ClusterConfiguration
) -> None:
    is_same = base is None or merged.storage_security_policy == base.storage_security_policy
    _check_unchanged("storage_security_policy", is_same=is_same)
    _check_storage_policy(new)
    merged.storage_security_policy = new.storage_security_policy


def _merge_label_rules(
    merged: ClusterConfiguration, base: ClusterConfiguration | None, new: ClusterConfiguration
) -> None:
    for name, side in (("new_config", new), ("base_config", base)):
        if side is not None and not side.HasField("kubernetes"):
            raise InvalidArgumentError(
                f"cannot mutate kubernetes.node_labels_to_synchronize: {name} has no kubernetes",
                remedy=f"Set kubernetes in {name}, if only empty.",
            )
    if base is not None:
        current_rules = list(merged.kubernetes.node_labels_to_synchronize)
        base_rules = list(base.kubernetes.node_labels_to_synchronize)
        is_same = current_rules == base_rules
        _check_unchanged("kubernetes.node_labels_to_synchronize", is_same=is_same)
    _check_label_rules(new)
    del merged.kubernetes.node_labels_to_synchronize[:]
    merged.kubernetes.SetInParent()
    merged.kubernetes.node_labels_to_synchronize.extend(new.kubernetes.node_labels_to_synchronize)


_Merger = Callable[[ClusterConfiguration, ClusterConfiguration | None, ClusterConfiguration], None]

_MERGERS: Final[Mapping[str, _Merger]] = {
    "tpm_mode": _merge_tpm_mode,
    "storage_security_policy": _merge_storage_policy,
    "kubernetes.node_labels_to_synchronize": _merge_label_rules,
}


def _check_unchanged(path: str, *, is_same: bool) -> None:
    if not is_same:
        raise FailedPreconditionError(
            f"{path} is not what base_config says it is",
            remedy="Somebody changed it. Read the configuration again, then retry.",
        )


def _check_tpm_mode(configuration: ClusterConfiguration) -> None:
    if configuration.tpm_mode not in _TPM_MODES:
        raise InvalidArgumentError(
            f"tpm_mode {configuration.tpm_mode} is not a mode",
            remedy="Use TPM_MODE_REQUIRED, TPM_MODE_BEST_EFFORT or TPM_MODE_DISABLED.",
        )


def _check_storage_policy(configuration: ClusterConfiguration) -> None:
    if configuration.storage_security_policy not in _STORAGE_POLICIES:
        raise InvalidArgumentError(
            f"storage_security_policy {configuration.storage_security_policy} is not a policy",
            remedy="Use PERMISSIVE, NEEDS_ENCRYPTION, NEEDS_ENCRYPTION_AND_AUTHENTICATION or "
            "NEEDS_INSECURE, with STORAGE_SECURITY_POLICY_ before it.",
        )


def _check_label_rules(configuration: ClusterConfiguration) -> None:
    rules = configuration.kubernetes.node_labels_to_synchronize
    if len(rules) > LABEL_RULES_MAX:
        raise InvalidArgumentError(
            f"{len(rules)} label rules are more than {LABEL_RULES_MAX}",
            remedy="Join several expressions with |.",
        )
    for rule in rules:
        problem = regexp_problem(rule.regexp)
        if problem is not None:
            raise InvalidArgumentError(
                f"regular expression {rule.regexp[:_SHOWN_CHARS_MAX]!r} {problem}",
                remedy="Use what RE2 and Python both understand, e.g. ^example\\.com/.*$.",
            )


# What one of the two dialects refuses, or reads differently. Escapes are looked at on their own.
_FOREIGN: Final = (
    (re.compile(r"\(\?(?:[=!>#(]|<[=!]|P[=>]|&)"), "looks around, refers back or cannot fail back"),
    (re.compile(r"[*+?}]\+"), "has a possessive quantifier"),
    (re.compile(r"\[\[?\^?[.:=]"), "has a named character class"),
)
_ESCAPES: Final = frozenset("AbBdDsSwWntrfvax0" + r"""\.+*?()|[]{}^$/-_:=!<>,"'#&%@~; """)


def regexp_problem(regexp: str) -> str | None:
    """Say why an expression does not mean the same to RE2 and to Python, or None if it does."""
    if len(regexp) > REGEXP_CHARS_MAX:
        return f"is longer than {REGEXP_CHARS_MAX} characters"
    for match in re.finditer(r"\\(.?)", regexp, re.DOTALL):
        if match[1] not in _ESCAPES:
            return f"has the escape \\{match[1]}, which not both dialects know"
    bare = re.sub(r"\\.", "_", regexp, flags=re.DOTALL)
    for pattern, problem in _FOREIGN:
        if pattern.search(bare) is not None:
            return problem
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            re.compile(regexp)
    except (re.error, FutureWarning, DeprecationWarning, OverflowError, RecursionError) as error:
        return f"is not valid: {error}"
    return None
