# SPDX-License-Identifier: Apache-2.0
"""Group names of directories, and the roles they give."""

import pytest

from metropolis.metal.access.groups import access_of
from metropolis.metal.access.role import Role, groups_of, role_of


@pytest.mark.parametrize(
    ("idm_type", "name", "meaning"),
    [
        ("", "maas-all-all-view", "maas-all-all-view"),
        ("plain", "anything", "anything"),
        ("ldap", "tnnt_maas-all-all-admin", "maas-all-all-admin"),
        ("UX", "TNNT_maas-all-all-admin", "maas-all-all-admin"),
        ("ldap", "tnnt_k8s_kaas-view", "k8s_kaas-view"),
        ("ldap", "other_maas-all-all-admin", ""),
        ("ldap", "maas-all-all-admin", ""),
        ("ldap", "tnnt_maas-a$b-all-view", "maas-a-b-all-view"),
        ("ldap", "tnnt_maas-tnnt#all-all-view", "maas-all-all-view"),
        ("ldap", "tnnt_maas-other#all-all-view", ""),
        ("ldap", "tnnt_maas-all-view", ""),
        ("ldap", "tnnt_maas--all-view", ""),
        ("AD", "TnPg_Srv_Appmaas-all-all-edit_full", "maas-all-all-edit"),
        ("ad", "TNPG_SRV_APPMAAS-ALL-ALL-EDIT_FULL", "maas-all-all-edit"),
        ("ad", "XyPg_Srv_Appmaas-all-all-edit_full", ""),
        ("ad", "TnPg_Srv_Appmaas-all-all-edit_mod", ""),
    ],
)
def test_a_group_means_what_its_directory_spells(idm_type: str, name: str, meaning: str) -> None:
    wanted = (meaning,) if meaning else ()
    assert access_of([name, name], idm_type=idm_type, tenant="tnnt") == wanted


def test_the_greatest_role_counts_and_strangers_have_none() -> None:
    assert role_of(["x", "maas-all-all-view", "k8s_kaas-edit"]) is Role.EDIT
    assert role_of(["maas-all-all-owner"]) is Role.ANY
    assert role_of([]) is Role.ANY


def test_whoever_has_a_greater_role_is_among_those_that_may() -> None:
    assert "maas-all-all-admin" in groups_of(Role.VIEW)
    assert "maas-all-all-view" not in groups_of(Role.EDIT)
