# SPDX-License-Identifier: Apache-2.0
"""Tenants, projects and memberships as they are stored."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias, TypeVar

import msgspec
from msgspec import Struct

from metropolis.metal.store import Kind

API_VERSION: Final = "v1"


class Meta(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What every entity says of itself.

    Attributes:
        version: Of the entity: 0 when it is created, one more with every change.
    """

    id: str = ""
    kind: str = ""
    apiversion: str = ""
    version: int = 0
    created_time: datetime | None = None
    updated_time: datetime | None = None
    annotations: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    labels: tuple[str, ...] = ()


class Quota(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How many of something there may be; no limit when it is None."""

    max: int | None = None


class QuotaSet(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Quotas by what they count."""

    cluster: Quota | None = None
    machine: Quota | None = None
    ip: Quota | None = None
    project: Quota | None = None


class IssuerConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who issues the tokens of a tenant's users."""

    url: str = ""
    client_id: str = ""


class ConnectorConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How groups are made in a tenant's identity management. Holds a password: never logged."""

    idm_api_url: str = ""
    idm_api_user: str = ""
    idm_api_password: str = ""
    idm_system_id: str = ""
    idm_access_code: str = ""
    idm_customer_id: str = ""
    idm_group_ou: str = ""
    idm_domain_name: str = ""
    idm_tenant_prefix: str = ""
    idm_submitter: str = ""
    idm_job_info: str = ""
    idm_req_system: str = ""
    idm_req_user: str = ""
    idm_req_email: str = ""


class IDMConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which identity management a tenant has."""

    idm_type: str = ""
    connector_config: ConnectorConfig | None = None


class NamespaceGroupConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a tenant's groups are named after namespaces of clusters."""

    excluded_namespaces: str = ""
    expected_groups_list: str = ""
    namespace_max_length: int = 0
    cluster_groupname_template: str = ""
    rolebinding_name_template: str = ""


class IAMConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """How a tenant's users are known."""

    issuer_config: IssuerConfig | None = None
    idm_config: IDMConfig | None = None
    group_config: NamespaceGroupConfig | None = None


class Tenant(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Whoever owns projects: an organisation, or a person.

    Attributes:
        default_quotas: Of its projects that were created without.
    """

    meta: Meta = Meta()
    name: str = ""
    description: str = ""
    default_quotas: QuotaSet | None = None
    quotas: QuotaSet | None = None
    iam_config: IAMConfig | None = None


class Project(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What machines, networks and addresses are used for, and by whom."""

    meta: Meta = Meta()
    name: str = ""
    description: str = ""
    tenant_id: str = ""
    quotas: QuotaSet | None = None


class TenantMember(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """That a tenant is a member of another; as what, its annotations say."""

    meta: Meta = Meta()
    tenant_id: str = ""
    member_id: str = ""
    namespace: str = ""


class ProjectMember(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """That a tenant is a member of a project; as what, its annotations say."""

    meta: Meta = Meta()
    project_id: str = ""
    tenant_id: str = ""
    namespace: str = ""


Master: TypeAlias = Tenant | Project | TenantMember | ProjectMember
MasterT = TypeVar("MasterT", Tenant, Project, TenantMember, ProjectMember)


def _annotations(entity: Master) -> Sequence[str]:
    return tuple(annotation_facet(name, value) for name, value in entity.meta.annotations.items())


def annotation_facet(name: str, value: str) -> str:
    """Return the facet value by which an annotation is found."""
    return f"{name}={value}"


def _labels(entity: Master) -> Sequence[str]:
    return entity.meta.labels


TENANTS: Final = Kind(
    name="tenant",
    type=Tenant,
    facets={"name": lambda tenant: (tenant.name,), "annotation": _annotations, "label": _labels},
)
PROJECTS: Final = Kind(
    name="project",
    type=Project,
    facets={
        "name": lambda project: (project.name,),
        "description": lambda project: (project.description,),
        "tenant": lambda project: (project.tenant_id,),
        "annotation": _annotations,
        "label": _labels,
    },
)
TENANT_MEMBERS: Final = Kind(
    name="tenantmember",
    type=TenantMember,
    facets={
        "tenant": lambda membership: (membership.tenant_id,),
        "member": lambda membership: (membership.member_id,),
        "namespace": lambda membership: (membership.namespace,),
        "annotation": _annotations,
    },
)
PROJECT_MEMBERS: Final = Kind(
    name="projectmember",
    type=ProjectMember,
    facets={
        "project": lambda membership: (membership.project_id,),
        "tenant": lambda membership: (membership.tenant_id,),
        "namespace": lambda membership: (membership.namespace,),
        "annotation": _annotations,
    },
)
