# SPDX-License-Identifier: Apache-2.0
"""Three-way merge of the cluster's configuration."""

import pytest
from google.protobuf.field_mask_pb2 import FieldMask
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api.common_pb2 import ClusterConfiguration as Configuration
from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.cluster.planner.reconfigure import (
    check_configuration,
    default_configuration,
    merge,
    regexp_problem,
)

RULES = "kubernetes.node_labels_to_synchronize"


def configuration(*regexps: str, domain: str = "cluster.internal") -> Configuration:
    made = default_configuration()
    made.cluster_domain = domain
    made.kubernetes.SetInParent()
    for regexp in regexps:
        made.kubernetes.node_labels_to_synchronize.add(regexp=regexp)
    return made


def apply(
    current: Configuration, base: Configuration | None, new: Configuration | None, *paths: str
) -> Configuration:
    return merge(current, base=base, new=new, mask=FieldMask(paths=paths))


def test_label_rules_are_replaced() -> None:
    result = apply(configuration("a"), configuration("a"), configuration("b", "c"), RULES)
    assert result == configuration("b", "c")


def test_only_masked_fields_change() -> None:
    new = configuration("b", domain="other.example")
    new.tpm_mode = Configuration.TPM_MODE_DISABLED
    assert apply(configuration("a"), configuration("a"), new, RULES) == configuration("b")


def test_rules_can_be_added_to_a_configuration_without_kubernetes() -> None:
    base = Configuration(kubernetes=Configuration.Kubernetes())
    assert apply(default_configuration(), base, configuration("b"), RULES) == configuration("b")


@pytest.mark.parametrize("mode", Configuration.TPMMode.values()[1:])
@pytest.mark.parametrize("before", Configuration.TPMMode.values()[1:])
def test_the_tpm_mode_changes_in_every_direction(before: int, mode: int) -> None:
    current = Configuration(tpm_mode=before)  # type: ignore[arg-type]
    new = Configuration(tpm_mode=mode)  # type: ignore[arg-type]
    assert apply(current, current, new, "tpm_mode").tpm_mode == mode


@pytest.mark.parametrize("policy", Configuration.StorageSecurityPolicy.values()[1:])
def test_the_storage_policy_changes_in_every_direction(policy: int) -> None:
    new = Configuration(storage_security_policy=policy)  # type: ignore[arg-type]
    current = default_configuration()
    result = apply(current, current, new, "storage_security_policy")
    assert result.storage_security_policy == policy


def test_a_caller_that_says_nothing_about_what_was_before_gets_its_values() -> None:
    new = configuration("b")
    new.tpm_mode = Configuration.TPM_MODE_DISABLED
    new.storage_security_policy = Configuration.STORAGE_SECURITY_POLICY_NEEDS_INSECURE
    paths = (RULES, "tpm_mode", "storage_security_policy")
    assert apply(configuration("a"), None, new, *paths) == new


def test_an_empty_mask_changes_nothing() -> None:
    assert apply(configuration("a"), None, configuration("b")) == configuration("a")


def test_a_path_may_be_named_twice() -> None:
    result = apply(configuration("a"), configuration("a"), configuration("b"), RULES, RULES)
    assert result == configuration("b")


@pytest.mark.parametrize(
    ("base", "new", "paths", "message"),
    [
        pytest.param(configuration(), None, [RULES], "new_config is required", id="no new"),
        pytest.param(
            configuration(), configuration(), ["kubernetes"], "cannot modify kubernetes",
            id="whole message",
        ),
        pytest.param(
            configuration(), configuration(), ["kubernetes", RULES], "cannot modify kubernetes",
            id="whole message and a part",
        ),
        pytest.param(
            configuration(), configuration(), ["cluster_domain"], "cannot modify cluster_domain",
            id="domain",
        ),
        pytest.param(configuration(), configuration(), ["nonsense"], "no field", id="unknown"),
        pytest.param(configuration(), configuration(), [""], "no field", id="empty path"),
        pytest.param(
            configuration(), configuration(), ["kubernetes.nodeLabelsToSynchronize"], "no field",
            id="camel case",
        ),
        pytest.param(
            configuration(), Configuration(), [RULES], "cannot mutate", id="new lacks kubernetes"
        ),
        pytest.param(
            Configuration(), configuration(), [RULES], "cannot mutate", id="base lacks kubernetes"
        ),
        pytest.param(
            configuration(), configuration("("), [RULES], "not valid", id="bad expression"
        ),
        pytest.param(
            configuration(), Configuration(), ["tpm_mode"], "not a mode", id="no mode"
        ),
        pytest.param(
            configuration(), Configuration(), ["storage_security_policy"], "not a policy",
            id="no policy",
        ),
        pytest.param(
            configuration(), configuration(*["a"] * 65), [RULES], "more than 64", id="many rules"
        ),
        pytest.param(
            configuration(), configuration(), [f"p{i}" for i in range(33)], "longer than",
            id="many paths",
        ),
    ],
)  # fmt: skip
def test_a_bad_request_is_refused(
    base: Configuration | None, new: Configuration | None, paths: list[str], message: str
) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        apply(configuration(), base, new, *paths)
    assert caught.value.remedy


def test_a_missing_mask_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="update_mask is required"):
        merge(configuration(), base=configuration(), new=configuration(), mask=None)


def test_what_somebody_else_changed_is_not_overwritten() -> None:
    with pytest.raises(FailedPreconditionError):
        apply(configuration("theirs"), configuration("a"), configuration("b"), RULES)
    changed = default_configuration()
    changed.tpm_mode = Configuration.TPM_MODE_DISABLED
    with pytest.raises(FailedPreconditionError):
        apply(changed, default_configuration(), default_configuration(), "tpm_mode")


@pytest.mark.parametrize(
    "regexp",
    ["", "^a$", r"^example\.com/.*$", "(a|b)+?", "[a-z]{2,3}", r"\bx\b", "(?i)a", r"\]["[:2]],
)
def test_expressions_both_dialects_understand_are_accepted(regexp: str) -> None:
    assert regexp_problem(regexp) is None


@pytest.mark.parametrize(
    "regexp",
    ["(", "[", "a**", "(?=a)", "(?<!a)b", r"(a)\1", "(?P<n>a)(?P=n)", "a++", "(?>a)", "[[:alpha:]]",
     r"\pL", r"\Qa\E", r"\Z", "a" * 513, "a{2}+", "(?#c)", "[[a]]", "\\"],
)  # fmt: skip
def test_expressions_only_one_dialect_understands_are_refused(regexp: str) -> None:
    assert regexp_problem(regexp) is not None


@given(st.text(max_size=60))
def test_no_expression_breaks_the_check(regexp: str) -> None:
    regexp_problem(regexp)


def test_the_default_configuration_is_valid() -> None:
    check_configuration(default_configuration())


@pytest.mark.parametrize("field", ["cluster_domain", "tpm_mode", "storage_security_policy"])
def test_a_bootstrap_needs_all_of_its_configuration(field: str) -> None:
    incomplete = default_configuration()
    incomplete.ClearField(field)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        check_configuration(incomplete)


def test_limits_are_reached_before_they_are_exceeded() -> None:
    rules = configuration(*["a"] * 64)
    assert apply(configuration(), configuration(), rules, *[RULES] * 32) == rules
    assert regexp_problem("a" * 512) is None
    assert regexp_problem("a" * 513) == "is longer than 512 characters"


def test_a_founding_configuration_has_rules_that_both_dialects_understand() -> None:
    check_configuration(configuration("^a$"))
    with pytest.raises(InvalidArgumentError, match="not valid"):
        check_configuration(configuration("("))


def test_rules_that_are_deleted_leave_kubernetes_present() -> None:
    before = default_configuration()
    before.ClearField("kubernetes")
    base = Configuration(kubernetes=Configuration.Kubernetes())
    assert apply(before, base, configuration(), RULES).HasField("kubernetes")
