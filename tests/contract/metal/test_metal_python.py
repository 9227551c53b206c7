# SPDX-License-Identifier: Apache-2.0
"""The original's own client library against a running server: every one of its operations."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from metal_python.rest import ApiException  # type: ignore[import-untyped]  # has no types

from contract.metal import story, story_machines, story_networks
from contract.metal.story import Teller
from kits.metal import Replica, replica
from kits.oidc import CLIENT_ID, new_key, provider
from metropolis.metal.access.role import Role
from metropolis.metal.settings import Settings
from unit.metal.inventory.s3_server import s3_server

OPERATIONS = 114

# The library takes its time by a call that Python warns of from 3.12 on.
pytestmark = pytest.mark.filterwarnings(
    r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:metal_python\."
)


@pytest.mark.timeout(240)
def test_every_operation_of_the_library_works_in_one_story(store_url: str, tmp_path: Path) -> None:
    file = tmp_path / "bios.bin"
    file.write_bytes(b"\0firmware" * 100)
    with s3_server() as firmware:
        settings = Settings(check_urls=False, firmware=firmware)
        with replica(store_url, settings=settings) as metal:
            tell = Teller(metal=metal, client=metal.driver())
            tell_story(tell, file)
            assert len(tell.operations) == OPERATIONS
            assert sorted(set(tell.operations) - tell.called) == []


def tell_story(tell: Teller, file: Path) -> None:
    story.general(tell)
    story.masterdata(tell)
    story.partition(tell)
    story.sizes(tell)
    story.reservations(tell)
    story.images(tell)
    story.layouts(tell)
    story_networks.switches(tell)
    story_networks.networks(tell)
    story_networks.addresses(tell)
    story_machines.discovery(tell)
    story_machines.bmc(tell)
    story.upload(tell, file)
    story_machines.allocation(tell)
    story_machines.console(tell)
    story_machines.commands(tell)
    story_machines.reinstall(tell)
    story_machines.firewalls(tell)
    tell.refused(
        422,
        "get_vpn_auth_key",
        {"pid": "shop", "ephemeral": True, "reason": "to look"},
        says="headscale-address",
    )
    story_machines.freeing(tell)
    audit(tell)


def audit(tell: Teller) -> None:
    """All of that was written down, without secrets."""
    found = tell.do("find_audit_traces", {"path": "/consolepassword"})
    assert [(each.phase, each.detail) for each in found] == [
        ("request", "GET"),
        ("response", "GET"),
        ("request", "GET"),
        ("response", "GET"),
    ]
    assert [each.status_code for each in found] == [0, 400, 0, 200]
    assert found[2].rqid == found[3].rqid != found[0].rqid
    everything = tell.do("find_audit_traces", {"limit": 10_000})
    text = "".join(each.body for each in everything)
    for secret in ("console-secret", "bmc-secret", "I2Nsb3VkLWNvbmZpZw"):
        assert secret not in text
    assert not any("/find" in each.path for each in everything)
    since = {"from": datetime.now(UTC) + timedelta(hours=1)}
    assert tell.do("find_audit_traces", since) == []
    refused = tell.do("find_audit_traces", {"status_code": 409, "error": "EXISTS already"})
    assert all(each.status_code == 409 for each in refused)


@pytest.fixture
def metal() -> Any:
    with replica() as running:
        yield running


def test_a_viewer_may_look_and_not_touch(metal: Replica) -> None:
    tell = Teller(metal=metal, client=metal.driver(Role.VIEW))
    assert tell.do("list_machines") == []
    tell.refused(403, "create_tenant", {"name": "x"}, says="you are not member in one of [")


def test_a_user_of_the_identity_provider_works_with_a_bearer_token(metal: Replica) -> None:
    with provider() as issuer:
        admin = Teller(metal=metal, client=metal.driver())
        iam = {
            "issuer_config": {"url": issuer.url, "client_id": CLIENT_ID},
            "idm_config": {"idm_type": "plain"},
        }
        admin.do("create_tenant", {"meta": {"id": "metal-stack"}, "name": "us", "iam_config": iam})
        viewer = metal.bearer(issuer.token(roles=["maas-all-all-view"]))
        tell = Teller(metal=metal, client=viewer)
        me = tell.do("get_me")
        assert (me.e_mail, me.name, me.tenant) == ("ada@example.org", "ada", "metal-stack")
        assert (me.issuer, me.subject, me.groups) == (issuer.url, "42", ["maas-all-all-view"])
        assert tell.do("list_machines") == []
        tell.refused(403, "create_tenant", {"name": "x"})
        nobody = Teller(metal=metal, client=metal.bearer(issuer.token(roles=["cleaners"])))
        assert nobody.do("list_sizes") == []
        nobody.refused(403, "list_machines", says="maas-all-all-view")
        stranger = Teller(metal=metal, client=metal.bearer(issuer.token(signed_with=new_key())))
        stranger.refused(403, "list_sizes")


def test_an_api_token_works_with_the_library_until_it_is_revoked(metal: Replica) -> None:
    token = metal.call("PUT", "/v1/token", {"role": "edit"}).json
    tell = Teller(metal=metal, client=metal.bearer(token["token"]))
    assert tell.do("list_machines") == []
    tell.refused(403, "create_tenant", {"name": "x"})
    metal.call("DELETE", f"/v1/token/{token['id']}")
    tell.refused(403, "list_machines", says="revoked")


def test_a_wrong_key_is_refused_with_the_body_of_all_errors(metal: Replica) -> None:
    client = metal.driver()
    other = metal.driver(Role.VIEW)
    client.request = other.request
    with pytest.raises(ApiException) as caught:
        Teller(metal=metal, client=metal.bearer("x.y.z")).do("list_machines")
    assert caught.value.status == 403
    assert b'"statuscode":403' in caught.value.body.encode()
