# SPDX-License-Identifier: Apache-2.0
"""Every method of masterdata's services, called over a real socket with real TLS."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
from google.protobuf.message import Message

from kits.mutual_tls import SERVER_NAME, Authority
from metropolis.api import metal_masterdata_pb2 as pb
from metropolis.api.methods import Method
from metropolis.api.rpc_metal_masterdata import (
    ProjectMemberService,
    ProjectService,
    TenantMemberService,
    TenantService,
    VersionService,
)
from metropolis.base.errors import (
    AlreadyExistsError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
)
from metropolis.host.linux.entropy import LinuxEntropy
from metropolis.metal.masterdata.server import MasterdataServing, serve
from metropolis.metal.masterdata.signing import Signer
from metropolis.rpc.channel import Channel
from metropolis.rpc.grpc.mutual import dial_mutual
from metropolis.rpc.transport import Endpoint
from unit.metal.kit import StillClock, memory_store, opened

KEY = b"a key of masterdata"
Req = TypeVar("Req", bound=Message)
Res = TypeVar("Res", bound=Message)


class Client:
    """A client that signs."""

    def __init__(self, channel: Channel, clock: StillClock) -> None:
        self.channel = channel
        self.clock = clock
        self.signer = Signer(key=KEY, clock=clock, entropy=LinuxEntropy())

    async def __call__(self, method: Method[Req, Res], request: Req) -> Res:
        return await self.channel.call(method, request, metadata=self.signer.metadata())

    async def tenant(self, tenant_id: str, **fields: Any) -> pb.Tenant:
        tenant = pb.Tenant(meta=pb.Meta(id=tenant_id), **fields)
        made = await self(TenantService.CREATE, pb.TenantCreateRequest(tenant=tenant))
        return made.tenant

    async def project(self, project_id: str, tenant_id: str, **fields: Any) -> pb.Project:
        project = pb.Project(meta=pb.Meta(id=project_id), tenant_id=tenant_id, **fields)
        made = await self(ProjectService.CREATE, pb.ProjectCreateRequest(project=project))
        return made.project

    async def invite(
        self, tenant_id: str, member_id: str, namespace: str = "", **annotations: str
    ) -> pb.TenantMember:
        member = pb.TenantMember(
            meta=pb.Meta(annotations=annotations),
            tenant_id=tenant_id,
            member_id=member_id,
            namespace=namespace,
        )
        request = pb.TenantMemberCreateRequest(tenant_member=member)
        return (await self(TenantMemberService.CREATE, request)).tenant_member

    async def enrol(
        self, project_id: str, tenant_id: str, namespace: str = "", **annotations: str
    ) -> pb.ProjectMember:
        member = pb.ProjectMember(
            meta=pb.Meta(annotations=annotations),
            project_id=project_id,
            tenant_id=tenant_id,
            namespace=namespace,
        )
        request = pb.ProjectMemberCreateRequest(project_member=member)
        return (await self(ProjectMemberService.CREATE, request)).project_member


async def with_server(
    directory: Path, scenario: Callable[[Client], Awaitable[None]], url: str = ":memory:"
) -> None:
    clock = StillClock()
    authority = Authority(directory)
    started: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
    stop = asyncio.Event()
    serving = MasterdataServing(
        endpoint=Endpoint("127.0.0.1", 0), tls=authority.issue("server"), key=KEY
    )
    async with opened(url, clock) as store, asyncio.TaskGroup() as group:
        group.create_task(
            serve(
                serving,
                store,
                clock=clock,
                entropy=LinuxEntropy(),
                stop=stop,
                started=started.set_result,
            )
        )
        channel = dial_mutual(await started, tls=authority.issue("client"), server_name=SERVER_NAME)
        try:
            await scenario(Client(channel, clock))
        finally:
            await channel.close()
            stop.set()


def run(directory: Path, scenario: Callable[[Client], Awaitable[None]], url: str) -> None:
    asyncio.run(with_server(directory, scenario, url))


def test_a_tenant_lives_and_its_history_remains(tmp_path: Path, store_url: str) -> None:
    async def scenario(call: Client) -> None:
        wanted = pb.Tenant(
            name="Acme",
            description="d",
            default_quotas=pb.QuotaSet(machine=pb.Quota(max=3)),
            quotas=pb.QuotaSet(project=pb.Quota(max=0), ip=pb.Quota()),
            iam_config=pb.IAMConfig(
                issuer_config=pb.IssuerConfig(url="https://i", client_id="c"),
                idm_config=pb.IDMConfig(
                    idm_type="AD",
                    connector_config=pb.ConnectorConfig(idm_api_url="u", idm_req_email="e"),
                ),
                group_config=pb.NamespaceGroupConfig(namespace_max_length=20),
            ),
        )
        made = (await call(TenantService.CREATE, pb.TenantCreateRequest(tenant=wanted))).tenant
        key = made.meta.id
        assert len(key) == 36
        assert (made.meta.kind, made.meta.apiversion, made.meta.version) == ("Tenant", "v1", 0)
        assert made.meta.created_time.seconds
        assert not made.meta.HasField("updated_time")
        assert made.default_quotas.machine.max == made.default_quotas.machine.quota.value == 3
        assert made.quotas.HasField("ip")
        assert not made.quotas.ip.HasField("max")
        assert made.iam_config == wanted.iam_config
        got = (await call(TenantService.GET, pb.TenantGetRequest(id=key))).tenant
        assert got == made

        before = made.meta.created_time
        call.clock.advance(60)
        made.name = "Acme 2"
        changed = (await call(TenantService.UPDATE, pb.TenantUpdateRequest(tenant=made))).tenant
        assert (changed.name, changed.meta.version) == ("Acme 2", 1)
        assert changed.meta.created_time == before
        assert changed.meta.updated_time.seconds == before.seconds + 60
        with pytest.raises(FailedPreconditionError, match="optimistic lock"):
            await call(TenantService.UPDATE, pb.TenantUpdateRequest(tenant=made))
        call.clock.advance(60)
        gone = (await call(TenantService.DELETE, pb.TenantDeleteRequest(id=key))).tenant
        assert gone == changed
        with pytest.raises(NotFoundError):
            await call(TenantService.GET, pb.TenantGetRequest(id=key))

        request = pb.TenantGetHistoryRequest(id=key)
        for seconds, name in ((0, "Acme"), (59, "Acme"), (60, "Acme 2"), (1000, "Acme 2")):
            request.at.seconds = before.seconds + seconds
            assert (await call(TenantService.GET_HISTORY, request)).tenant.name == name
        request.at.seconds = before.seconds - 1
        with pytest.raises(NotFoundError, match="there was no tenant"):
            await call(TenantService.GET_HISTORY, request)
        request.at.seconds = 2**62
        with pytest.raises(InvalidArgumentError):
            await call(TenantService.GET_HISTORY, request)

    run(tmp_path, scenario, store_url)


def test_a_project_lives_within_its_tenants_quota(tmp_path: Path, store_url: str) -> None:
    async def scenario(call: Client) -> None:
        await call.tenant(
            "t",
            quotas=pb.QuotaSet(project=pb.Quota(max=2)),
            default_quotas=pb.QuotaSet(machine=pb.Quota(max=7)),
        )
        project = await call.project("p", "t", name="n")
        assert project.quotas.machine.max == 7
        own = pb.QuotaSet(ip=pb.Quota(max=1))
        assert not (await call.project("q", "t", quotas=own)).quotas.HasField("machine")
        with pytest.raises(FailedPreconditionError, match="project quota is 2"):
            await call.project("r", "t")
        with pytest.raises(NotFoundError, match="tenant_id"):
            await call.project("r", "nobody")
        with pytest.raises(InvalidArgumentError, match="tenant_id"):
            await call.project("r", "")
        with pytest.raises(FailedPreconditionError, match="has 2 projects"):
            await call(TenantService.DELETE, pb.TenantDeleteRequest(id="t"))
        await call(ProjectService.DELETE, pb.ProjectDeleteRequest(id="q"))
        with pytest.raises(AlreadyExistsError):
            await call.project("p", "t")

        project.tenant_id = "u"
        with pytest.raises(InvalidArgumentError, match="cannot be changed"):
            await call(ProjectService.UPDATE, pb.ProjectUpdateRequest(project=project))
        project.tenant_id = ""
        project.description = "new"
        call.clock.advance(1)
        changed = await call(ProjectService.UPDATE, pb.ProjectUpdateRequest(project=project))
        assert (changed.project.tenant_id, changed.project.description) == ("t", "new")
        assert await call(ProjectService.GET, pb.ProjectGetRequest(id="p")) == changed
        request = pb.ProjectGetHistoryRequest(id="p", at=project.meta.created_time)
        assert (await call(ProjectService.GET_HISTORY, request)).project.description == ""

    run(tmp_path, scenario, store_url)


def test_what_is_looked_for_is_found(tmp_path: Path, store_url: str) -> None:
    async def scenario(call: Client) -> None:
        for number in range(5):
            await call(
                TenantService.CREATE,
                pb.TenantCreateRequest(
                    tenant=pb.Tenant(
                        meta=pb.Meta(
                            id=f"t{number}",
                            annotations={"a'b": "1", "odd": str(number % 2)},
                            labels=["x", f"l{number}"],
                        ),
                        name="same",
                    )
                ),
            )
        await call.project("p1", "t1", name="one", description="d1")
        await call.project("p2", "t1", name="two", description="d1")

        async def tenants(**fields: Any) -> list[str]:
            found = await call(TenantService.FIND, pb.TenantFindRequest(**fields))
            return [each.meta.id for each in found.tenants]

        everybody = [f"t{number}" for number in range(5)]
        assert await tenants() == everybody
        assert await tenants(name="same") == everybody
        assert await tenants(name="other") == []
        assert await tenants(id="t3") == ["t3"]
        assert await tenants(deprecated_id={"value": "t3"}) == ["t3"]
        assert await tenants(id="t3", annotations={"odd": "0"}) == []
        assert await tenants(annotations={"a'b": "1", "odd": "1"}) == ["t1", "t3"]
        assert await tenants(annotations={"odd": "1"}, labels=["x", "l3"]) == ["t3"]

        pages = []
        paging = pb.Paging(page=0, count=2)
        while True:
            page = await call(TenantService.FIND, pb.TenantFindRequest(paging=paging))
            pages.append([each.meta.id for each in page.tenants])
            if not page.HasField("next_page"):
                break
            paging.page = page.next_page
        assert pages == [["t0", "t1"], ["t2", "t3"], ["t4"]]

        async def projects(**fields: Any) -> list[str]:
            found = await call(ProjectService.FIND, pb.ProjectFindRequest(**fields))
            return [each.meta.id for each in found.projects]

        assert await projects(tenant_id="t1") == ["p1", "p2"]
        assert await projects(tenant_id="t0") == []
        assert await projects(description="d1", name="two") == ["p2"]
        assert await projects(deprecated_tenant_id={"value": "t1"}, id="p1") == ["p1"]

    run(tmp_path, scenario, store_url)


def test_memberships_live_and_go_with_what_they_belong_to(tmp_path: Path, store_url: str) -> None:
    async def scenario(call: Client) -> None:
        for key in ("host", "guest"):
            await call.tenant(key)
        await call.project("p", "host")
        in_tenant = await call.invite("host", "guest", "ns", role="viewer")
        in_project = await call.enrol("p", "guest", "ns", role="editor")
        for request in (
            pb.TenantMemberCreateRequest(
                tenant_member=pb.TenantMember(tenant_id="host", member_id="nobody")
            ),
            pb.TenantMemberCreateRequest(
                tenant_member=pb.TenantMember(tenant_id="nobody", member_id="guest")
            ),
        ):
            with pytest.raises(NotFoundError, match="nobody"):
                await call(TenantMemberService.CREATE, request)
        with pytest.raises(NotFoundError, match="project_id"):
            await call.enrol("nothing", "guest")

        find = pb.TenantMemberFindRequest(tenant_id="host", namespace="ns")
        found = await call(TenantMemberService.FIND, find)
        assert list(found.tenant_members) == [in_tenant]
        find.namespace = ""
        assert not (await call(TenantMemberService.FIND, find)).tenant_members
        other = pb.ProjectMemberFindRequest(
            project_id="p", tenant_id="guest", namespace="ns", annotations={"role": "editor"}
        )
        assert list((await call(ProjectMemberService.FIND, other)).project_members) == [in_project]

        in_tenant.meta.annotations["role"] = "owner"
        changed = await call(
            TenantMemberService.UPDATE, pb.TenantMemberUpdateRequest(tenant_member=in_tenant)
        )
        assert changed.tenant_member.meta.version == 1
        in_project.meta.annotations["role"] = "owner"
        await call(
            ProjectMemberService.UPDATE, pb.ProjectMemberUpdateRequest(project_member=in_project)
        )
        read = await call(
            ProjectMemberService.GET, pb.ProjectMemberGetRequest(id=in_project.meta.id)
        )
        assert read.project_member.meta.annotations == {"role": "owner"}
        in_tenant.member_id = "host"
        in_tenant.meta.version = 1
        with pytest.raises(InvalidArgumentError, match=r"member_id .* cannot be changed"):
            await call(
                TenantMemberService.UPDATE, pb.TenantMemberUpdateRequest(tenant_member=in_tenant)
            )
        in_project.project_id = "q"
        in_project.meta.version = 1
        with pytest.raises(InvalidArgumentError, match=r"project_id .* cannot be changed"):
            await call(
                ProjectMemberService.UPDATE,
                pb.ProjectMemberUpdateRequest(project_member=in_project),
            )

        await call(ProjectService.DELETE, pb.ProjectDeleteRequest(id="p"))
        with pytest.raises(NotFoundError):
            await call(ProjectMemberService.GET, pb.ProjectMemberGetRequest(id=in_project.meta.id))
        await call(TenantService.DELETE, pb.TenantDeleteRequest(id="guest"))
        with pytest.raises(NotFoundError):
            await call(TenantMemberService.GET, pb.TenantMemberGetRequest(id=in_tenant.meta.id))

        await call.tenant("guest")
        again = await call.invite("host", "guest")
        gone = await call(
            TenantMemberService.DELETE, pb.TenantMemberDeleteRequest(id=again.meta.id)
        )
        assert gone.tenant_member == again
        await call.project("p", "host")
        once = await call.enrol("p", "guest")
        await call(ProjectMemberService.DELETE, pb.ProjectMemberDeleteRequest(id=once.meta.id))
        with pytest.raises(NotFoundError):
            await call(ProjectMemberService.DELETE, pb.ProjectMemberDeleteRequest(id=once.meta.id))

    run(tmp_path, scenario, store_url)


def test_participations_are_direct_and_inherited(tmp_path: Path, store_url: str) -> None:
    async def scenario(call: Client) -> None:
        for key in ("acme", "beta", "me"):
            await call.tenant(key)
        for project, tenant in (("a1", "acme"), ("a2", "acme"), ("b1", "beta")):
            await call.project(project, tenant)
        await call.invite("acme", "me", role="owner")
        await call.enrol("a1", "me", role="viewer")
        await call.enrol("b1", "me", role="editor")
        await call.enrol("b1", "acme", "elsewhere")

        async def projects(**fields: Any) -> Mapping[str, tuple[str, str]]:
            request = pb.FindParticipatingProjectsRequest(tenant_id="me", **fields)
            found = await call(TenantService.FIND_PARTICIPATING_PROJECTS, request)
            return {
                each.project.meta.id: (
                    each.project_annotations.get("role", ""),
                    each.tenant_annotations.get("role", ""),
                )
                for each in found.projects
            }

        assert await projects() == {
            "a1": ("viewer", "owner"),
            "a2": ("", "owner"),
            "b1": ("editor", ""),
        }
        assert await projects(include_inherited=False) == {
            "a1": ("viewer", ""),
            "b1": ("editor", ""),
        }
        assert await projects(namespace="elsewhere") == {}

        async def tenants(**fields: Any) -> Mapping[str, tuple[str, str]]:
            request = pb.FindParticipatingTenantsRequest(tenant_id="me", **fields)
            found = await call(TenantService.FIND_PARTICIPATING_TENANTS, request)
            return {
                each.tenant.meta.id: (
                    each.project_annotations.get("role", ""),
                    each.tenant_annotations.get("role", ""),
                )
                for each in found.tenants
            }

        assert await tenants() == {"acme": ("viewer", "owner"), "beta": ("editor", "")}
        assert await tenants(include_inherited=False) == {"acme": ("", "owner")}

        async def members(tenant_id: str, **fields: Any) -> Mapping[str, tuple[str, list[str]]]:
            request = pb.ListTenantMembersRequest(tenant_id=tenant_id, **fields)
            found = await call(TenantService.LIST_TENANT_MEMBERS, request)
            return {
                each.tenant.meta.id: (
                    each.tenant_annotations.get("role", ""),
                    list(each.project_ids),
                )
                for each in found.tenants
            }

        assert await members("acme") == {"me": ("owner", ["a1"])}
        assert await members("beta") == {"me": ("", ["b1"])}
        assert await members("beta", include_inherited=False) == {}
        assert await members("beta", namespace="elsewhere") == {"acme": ("", ["b1"])}

    run(tmp_path, scenario, store_url)


def test_whatever_is_sent_is_answered_with_a_reason(tmp_path: Path, store_url: str) -> None:
    async def scenario(call: Client) -> None:
        await call.tenant("t")
        for text in ("\0", "'; DROP TABLE entity; --", "\U0001f600", "x" * 100_000):
            for method, request in (
                (TenantService.GET, pb.TenantGetRequest(id=text)),
                (TenantService.GET_HISTORY, pb.TenantGetHistoryRequest(id=text)),
                (TenantService.DELETE, pb.TenantDeleteRequest(id=text)),
                (
                    ProjectService.CREATE,
                    pb.ProjectCreateRequest(project=pb.Project(tenant_id=text)),
                ),
                (
                    TenantMemberService.CREATE,
                    pb.TenantMemberCreateRequest(
                        tenant_member=pb.TenantMember(tenant_id="t", member_id=text)
                    ),
                ),
                (ProjectMemberService.GET, pb.ProjectMemberGetRequest(id=text)),
            ):
                with pytest.raises(NotFoundError):
                    await call(method, request)  # type: ignore[misc]
            found = await call(
                TenantService.FIND,
                pb.TenantFindRequest(name=text, annotations={text: text}, labels=[text]),
            )
            assert not found.tenants
            wanted = pb.Tenant(
                meta=pb.Meta(annotations={text: text}, labels=[text]),
                name=text,
                description=text,
                iam_config=pb.IAMConfig(issuer_config=pb.IssuerConfig(url=text)),
            )
            made = (await call(TenantService.CREATE, pb.TenantCreateRequest(tenant=wanted))).tenant
            assert (made.name, dict(made.meta.annotations)) == (text, {text: text})
            again = await call(
                TenantService.FIND,
                pb.TenantFindRequest(name=text, annotations={text: text}, labels=[text]),
            )
            assert list(again.tenants) == [made]
        for key in ("\0", "x" * 100_000):
            with pytest.raises(InvalidArgumentError):
                await call.tenant(key)
        negative = pb.QuotaSet(ip=pb.Quota(max=-1))
        with pytest.raises(InvalidArgumentError, match="quota"):
            await call.tenant("n", quotas=negative)
        no_tenant = pb.TenantCreateRequest(tenant=pb.Tenant(meta=pb.Meta(kind="Project")))
        with pytest.raises(InvalidArgumentError, match=r"meta\.kind"):
            await call(TenantService.CREATE, no_tenant)
        for empty in (pb.TenantUpdateRequest(), pb.TenantUpdateRequest(tenant=pb.Tenant())):
            with pytest.raises((NotFoundError, InvalidArgumentError)):
                await call(TenantService.UPDATE, empty)

    run(tmp_path, scenario, store_url)


def test_two_changes_of_one_version_are_one_change(tmp_path: Path, store_url: str) -> None:
    async def scenario(call: Client) -> None:
        tenant = await call.tenant("t")
        results = await asyncio.gather(
            *(call(TenantService.UPDATE, pb.TenantUpdateRequest(tenant=tenant)) for _ in range(8)),
            return_exceptions=True,
        )
        assert sum(not isinstance(each, BaseException) for each in results) == 1
        assert sum(isinstance(each, FailedPreconditionError) for each in results) == 7

    run(tmp_path, scenario, store_url)


def test_who_does_not_sign_is_refused(tmp_path: Path) -> None:
    async def scenario(call: Client) -> None:
        request = pb.GetVersionRequest()
        assert (await call(VersionService.GET, request)).version.startswith("v")
        good = call.signer.metadata()
        other = Signer(key=b"another key", clock=call.clock, entropy=LinuxEntropy()).metadata()
        for metadata, text in (
            ({}, "authorization"),
            (
                {**good, "authorization": good["authorization"].replace("tmdm", "Metal-Admin")},
                "tmdm",
            ),
            ({**good, "x-data-salt": "another"}, "does not hold"),
            ({**good, "x-data-salt": ""}, "x-data-salt"),
            ({**good, "x-date": "yesterday"}, "x-date"),
            (other, "does not hold"),
        ):
            with pytest.raises(UnauthenticatedError, match=text):
                await call.channel.call(VersionService.GET, request, metadata=metadata)
        for seconds in (16, -32):
            call.clock.advance(seconds)
            with pytest.raises(UnauthenticatedError, match="too old or in the future"):
                await call.channel.call(VersionService.GET, request, metadata=good)
        call.clock.advance(15)
        await call.channel.call(VersionService.GET, request, metadata=good)

    asyncio.run(with_server(tmp_path, scenario))


def test_who_has_no_certificate_of_the_authority_does_not_get_in(tmp_path: Path) -> None:
    async def scenario() -> None:
        ours, theirs = Authority(tmp_path, "ours"), Authority(tmp_path, "theirs")
        clock, stop = StillClock(), asyncio.Event()
        started: asyncio.Future[Endpoint] = asyncio.get_running_loop().create_future()
        serving = MasterdataServing(
            endpoint=Endpoint("127.0.0.1", 0), tls=ours.issue("server"), key=KEY
        )
        async with memory_store() as store, asyncio.TaskGroup() as group:
            group.create_task(
                serve(
                    serving,
                    store,
                    clock=clock,
                    entropy=LinuxEntropy(),
                    stop=stop,
                    started=started.set_result,
                )
            )
            endpoint = await started
            try:
                for files, name in (
                    (theirs.issue("stranger", trusting=ours), SERVER_NAME),
                    (ours.issue("late", is_expired=True), SERVER_NAME),
                    (ours.issue("careful", trusting=theirs), SERVER_NAME),
                    (ours.issue("picky"), "other.test"),
                ):
                    channel = dial_mutual(endpoint, tls=files, server_name=name)
                    with pytest.raises(UnavailableError):
                        await Client(channel, clock)(VersionService.GET, pb.GetVersionRequest())
                    await channel.close()
            finally:
                stop.set()

    asyncio.run(scenario())


def test_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    files = Authority(tmp_path).issue("client")
    Path(files.key).write_text("no key")
    with pytest.raises(InvalidArgumentError, match=r"client\.key"):
        dial_mutual(Endpoint("127.0.0.1", 1), tls=files, server_name=SERVER_NAME)
