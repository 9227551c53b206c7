# SPDX-License-Identifier: Apache-2.0
"""What users are told on machines that keep user namespaces from them."""

import pytest

from metropolis.host.linux.capabilities import user_namespace_remedy


@pytest.mark.parametrize(
    ("settings", "command"),
    [
        (
            {"kernel.unprivileged_userns_clone": "0", "user.max_user_namespaces": "96365"},
            "sysctl -w kernel.unprivileged_userns_clone=1",
        ),
        (
            {"kernel.unprivileged_userns_clone": "1", "user.max_user_namespaces": "0"},
            "sysctl -w user.max_user_namespaces=15000",
        ),
        (
            {
                "user.max_user_namespaces": "96365",
                "kernel.apparmor_restrict_unprivileged_userns": "1",
            },
            "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
    ],
)
def test_the_remedy_names_the_setting_that_forbids_user_namespaces(
    settings: dict[str, str], command: str
) -> None:
    assert command in user_namespace_remedy(settings.get)


def test_without_such_a_setting_root_is_the_remedy() -> None:
    remedy = user_namespace_remedy({"user.max_user_namespaces": "96365"}.get)
    assert "sysctl" not in remedy
    assert "as root" in remedy
