# SPDX-License-Identifier: Apache-2.0
"""What follows from grants, and who may give what."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metropolis.api.authorization_pb2 import Permission
from metropolis.api.rpc_management import Management
from metropolis.api.rpc_users import Users
from metropolis.base.errors import InvalidArgumentError, PermissionDeniedError
from metropolis.cluster.planner.authorization import (
    GROUPS_PER_USER_MAX,
    NOT_GRANTABLE,
    PERMISSIONS,
    ROLES,
    UPSTREAM,
    Granted,
    HeldPermissions,
    check_grants,
    check_reach,
    effective,
    needed,
    roles_that_hold,
)
from metropolis.cluster.services.whoami import find_method

NAMES = st.frozensets(st.sampled_from([*ROLES, *PERMISSIONS, "unknown"]), max_size=4)
GRANTED = st.builds(
    Granted, roles=NAMES, permissions=NAMES, groups=st.frozensets(st.sampled_from(["a", "b", "c"]))
)
GROUPS = st.dictionaries(st.sampled_from(["a", "b"]), GRANTED)


def test_every_permission_of_upstream_has_a_name() -> None:
    numbers = set(Permission.values()) - {Permission.PERMISSION_UNSPECIFIED}
    assert set(UPSTREAM) == numbers
    assert set(UPSTREAM.values()) <= set(PERMISSIONS)
    assert len(set(UPSTREAM.values())) == len(UPSTREAM)


@given(GRANTED, GRANTED, GROUPS)
def test_grants_add_up_and_never_give_what_cannot_be_granted(
    one: Granted, other: Granted, groups: dict[str, Granted]
) -> None:
    held = effective(one | other, groups)
    assert held == effective(one, groups) | effective(other, groups)
    assert held <= set(PERMISSIONS) - NOT_GRANTABLE
    assert effective((one | other) - one - other, groups) == frozenset()


def test_a_group_gives_nothing_by_its_own_memberships() -> None:
    groups = {"a": Granted(groups=frozenset({"b"})), "b": Granted(roles=frozenset({"operator"}))}
    assert effective(Granted(groups=frozenset({"a"})), groups) == frozenset()


def test_a_permission_is_found_by_its_number_and_by_its_name() -> None:
    held = HeldPermissions(frozenset({"node.approve", "audit.read"}))
    assert Permission.PERMISSION_APPROVE_NODE in held
    assert "audit.read" in held
    assert Permission.PERMISSION_DELETE_NODE not in held
    assert 999 not in held
    assert None not in held
    assert "" not in held


def test_what_a_method_takes_has_names() -> None:
    assert needed(Management.APPROVE_NODE) == ("node.approve",)
    assert needed(Users.CREATE_USER) == ("users.write",)
    assert needed(Users.WHO_AM_I) == ()
    assert roles_that_hold(needed(Management.APPROVE_NODE)) == ["node-admin", "operator"]
    assert roles_that_hold(["users.write"]) == []


def test_nobody_reaches_beyond_what_it_holds() -> None:
    check_reach(None, frozenset(PERMISSIONS), "user 'x'")
    check_reach(frozenset({"a", "b"}), frozenset({"a"}), "user 'x'")
    with pytest.raises(PermissionDeniedError, match="user 'x' holds b, c, which"):
        check_reach(frozenset({"a"}), frozenset({"c", "a", "b"}), "user 'x'")


def test_a_user_is_in_so_many_groups_and_no_more() -> None:
    names = [f"g{number}" for number in range(GROUPS_PER_USER_MAX + 1)]
    check_grants(Granted(groups=frozenset(names[:-1])), names, is_group=False)
    with pytest.raises(InvalidArgumentError):
        check_grants(Granted(groups=frozenset(names)), names, is_group=False)


@pytest.mark.parametrize(
    "text",
    [
        "ApproveNode",
        "approvenode",
        "Management.ApproveNode",
        "Management/ApproveNode",
        "/metropolis.proto.api.Management/ApproveNode",
    ],
)
def test_a_method_is_found_as_people_name_it(text: str) -> None:
    assert find_method(text) is Management.APPROVE_NODE
