# SPDX-License-Identifier: Apache-2.0
"""Between what is stored and the messages of the gRPC interface."""

from datetime import UTC, datetime
from typing import Any, TypeVar

import msgspec
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from metropolis.api import metal_masterdata_pb2 as pb
from metropolis.base.errors import InvalidArgumentError
from metropolis.metal.masterdata import model
from metropolis.metal.masterdata.findings import PAGE_COUNT, Paging
from metropolis.metal.masterdata.participations import ProjectParticipation, TenantParticipation

StructT = TypeVar("StructT", bound=msgspec.Struct)
MessageT = TypeVar("MessageT", bound=Message)


def to_time(stamp: Timestamp) -> datetime:
    """Read a moment.

    Raises:
        InvalidArgumentError: it is none.
    """
    try:
        return stamp.ToDatetime(tzinfo=UTC)
    except (ValueError, OverflowError) as cause:
        raise InvalidArgumentError(
            "a timestamp is out of range", remedy="Send a moment between the years 1 and 9999."
        ) from cause


def to_meta(meta: pb.Meta) -> model.Meta:
    """Read meta data; the times are ours."""
    return model.Meta(
        id=meta.id,
        kind=meta.kind,
        apiversion=meta.apiversion,
        version=meta.version,
        annotations=dict(meta.annotations),
        labels=tuple(meta.labels),
    )


def from_meta(meta: model.Meta) -> pb.Meta:
    """Write meta data."""
    message = pb.Meta(
        id=meta.id,
        kind=meta.kind,
        apiversion=meta.apiversion,
        version=meta.version,
        annotations=meta.annotations,
        labels=meta.labels,
    )
    if meta.created_time is not None:
        message.created_time.FromDatetime(meta.created_time)
    if meta.updated_time is not None:
        message.updated_time.FromDatetime(meta.updated_time)
    return message


def to_quotas(quotas: pb.QuotaSet) -> model.QuotaSet:
    """Read quotas."""
    return model.QuotaSet(
        cluster=_to_quota(quotas.cluster) if quotas.HasField("cluster") else None,
        machine=_to_quota(quotas.machine) if quotas.HasField("machine") else None,
        ip=_to_quota(quotas.ip) if quotas.HasField("ip") else None,
        project=_to_quota(quotas.project) if quotas.HasField("project") else None,
    )


def _to_quota(quota: pb.Quota) -> model.Quota:
    if quota.HasField("max"):
        limit: int | None = quota.max
    else:
        limit = quota.quota.value if quota.HasField("quota") else None  # of older clients
    if limit is not None and limit < 0:
        raise InvalidArgumentError(
            f"a quota of {limit} is none", remedy="Send 0 or more, or no max for no limit."
        )
    return model.Quota(max=limit)


def from_quotas(quotas: model.QuotaSet | None) -> pb.QuotaSet | None:
    """Write quotas."""
    if quotas is None:
        return None
    return pb.QuotaSet(
        cluster=_from_quota(quotas.cluster),
        machine=_from_quota(quotas.machine),
        ip=_from_quota(quotas.ip),
        project=_from_quota(quotas.project),
    )


def _from_quota(quota: model.Quota | None) -> pb.Quota | None:
    if quota is None:
        return None
    message = pb.Quota()
    if quota.max is not None:
        message.max = quota.max
        message.quota.value = quota.max  # for older clients
    return message


def to_iam(config: pb.IAMConfig) -> model.IAMConfig:
    """Read how a tenant's users are known."""
    idm = config.idm_config
    return model.IAMConfig(
        issuer_config=_to_struct(model.IssuerConfig, config.issuer_config)
        if config.HasField("issuer_config")
        else None,
        idm_config=model.IDMConfig(
            idm_type=idm.idm_type,
            connector_config=_to_struct(model.ConnectorConfig, idm.connector_config)
            if idm.HasField("connector_config")
            else None,
        )
        if config.HasField("idm_config")
        else None,
        group_config=_to_struct(model.NamespaceGroupConfig, config.group_config)
        if config.HasField("group_config")
        else None,
    )


def from_iam(config: model.IAMConfig | None) -> pb.IAMConfig | None:
    """Write how a tenant's users are known."""
    if config is None:
        return None
    idm = config.idm_config
    return pb.IAMConfig(
        issuer_config=_from_struct(pb.IssuerConfig, config.issuer_config),
        idm_config=None
        if idm is None
        else pb.IDMConfig(
            idm_type=idm.idm_type,
            connector_config=_from_struct(pb.ConnectorConfig, idm.connector_config),
        ),
        group_config=_from_struct(pb.NamespaceGroupConfig, config.group_config),
    )


def _to_struct(kind: type[StructT], message: Message) -> StructT:
    """Read a message whose fields are the struct's, texts and numbers only."""
    values: dict[str, Any] = {name: getattr(message, name) for name in kind.__struct_fields__}
    return kind(**values)


def _from_struct(kind: type[MessageT], struct: msgspec.Struct | None) -> MessageT | None:
    return None if struct is None else kind(**msgspec.structs.asdict(struct))


def to_tenant(tenant: pb.Tenant) -> model.Tenant:
    """Read a tenant."""
    return model.Tenant(
        meta=to_meta(tenant.meta),
        name=tenant.name,
        description=tenant.description,
        default_quotas=to_quotas(tenant.default_quotas)
        if tenant.HasField("default_quotas")
        else None,
        quotas=to_quotas(tenant.quotas) if tenant.HasField("quotas") else None,
        iam_config=to_iam(tenant.iam_config) if tenant.HasField("iam_config") else None,
    )


def from_tenant(tenant: model.Tenant) -> pb.Tenant:
    """Write a tenant."""
    return pb.Tenant(
        meta=from_meta(tenant.meta),
        name=tenant.name,
        description=tenant.description,
        default_quotas=from_quotas(tenant.default_quotas),
        quotas=from_quotas(tenant.quotas),
        iam_config=from_iam(tenant.iam_config),
    )


def to_project(project: pb.Project) -> model.Project:
    """Read a project."""
    return model.Project(
        meta=to_meta(project.meta),
        name=project.name,
        description=project.description,
        tenant_id=project.tenant_id,
        quotas=to_quotas(project.quotas) if project.HasField("quotas") else None,
    )


def from_project(project: model.Project) -> pb.Project:
    """Write a project."""
    return pb.Project(
        meta=from_meta(project.meta),
        name=project.name,
        description=project.description,
        tenant_id=project.tenant_id,
        quotas=from_quotas(project.quotas),
    )


def to_tenant_member(member: pb.TenantMember) -> model.TenantMember:
    """Read a membership in a tenant."""
    return model.TenantMember(
        meta=to_meta(member.meta),
        tenant_id=member.tenant_id,
        member_id=member.member_id,
        namespace=member.namespace,
    )


def from_tenant_member(member: model.TenantMember) -> pb.TenantMember:
    """Write a membership in a tenant."""
    return pb.TenantMember(
        meta=from_meta(member.meta),
        tenant_id=member.tenant_id,
        member_id=member.member_id,
        namespace=member.namespace,
    )


def to_project_member(member: pb.ProjectMember) -> model.ProjectMember:
    """Read a membership in a project."""
    return model.ProjectMember(
        meta=to_meta(member.meta),
        project_id=member.project_id,
        tenant_id=member.tenant_id,
        namespace=member.namespace,
    )


def from_project_member(member: model.ProjectMember) -> pb.ProjectMember:
    """Write a membership in a project."""
    return pb.ProjectMember(
        meta=from_meta(member.meta),
        project_id=member.project_id,
        tenant_id=member.tenant_id,
        namespace=member.namespace,
    )


def from_project_participation(one: ProjectParticipation) -> pb.ProjectWithMembershipAnnotations:
    """Write a project with what its memberships say."""
    return pb.ProjectWithMembershipAnnotations(
        project=from_project(one.project),
        project_annotations=one.project_annotations,
        tenant_annotations=one.tenant_annotations,
    )


def from_tenant_participation(one: TenantParticipation) -> pb.TenantWithMembershipAnnotations:
    """Write a tenant with what its memberships say."""
    return pb.TenantWithMembershipAnnotations(
        tenant=from_tenant(one.tenant),
        project_annotations=one.project_annotations,
        tenant_annotations=one.tenant_annotations,
        project_ids=one.project_ids,
    )


def to_paging(paging: pb.Paging) -> Paging:
    """Read which page is wanted."""
    return Paging(page=paging.page, count=paging.count or PAGE_COUNT)


def given(request: Message, name: str) -> str | None:
    """Read a filter: the field, or its predecessor that older clients send, or None."""
    for field in (name, f"deprecated_{name}"):
        if field in request.DESCRIPTOR.fields_by_name and request.HasField(field):
            value = getattr(request, field)
            return str(value if isinstance(value, str) else value.value)
    return None
