# SPDX-License-Identifier: Apache-2.0
"""Tenants and projects as they are on the wire: quotas say `quota` and `used` there."""

from datetime import datetime
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Struct

from metropolis.metal.masterdata import model
from metropolis.metal.masterdata.findings import PAGE_COUNT, Paging

Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
Version: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
PageNumber: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class MetaRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Meta data that a client sends: the id, the version that was read, annotations and labels.

    The times are ours; what a client sends back of them is not looked at.
    """

    id: str | None = None
    kind: str | None = None
    apiversion: str | None = None
    version: Version | None = None
    created_time: datetime | None = None
    updated_time: datetime | None = None
    annotations: dict[str, str] | None = None
    labels: tuple[str, ...] | None = None

    def stored(self) -> model.Meta:
        """Fill in what was left out."""
        return model.Meta(
            id=self.id or "",
            kind=self.kind or "",
            apiversion=self.apiversion or "",
            version=self.version or 0,
            annotations=self.annotations or {},
            labels=self.labels or (),
        )


class MetaResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Meta data as it is answered."""

    id: str
    kind: str
    apiversion: str
    version: int
    annotations: dict[str, str]
    labels: tuple[str, ...]
    created_time: datetime | None = None
    updated_time: datetime | None = None

    @classmethod
    def of(cls, meta: model.Meta) -> "MetaResponse":
        """Answer meta data."""
        return cls(
            id=meta.id,
            kind=meta.kind,
            apiversion=meta.apiversion,
            version=meta.version,
            annotations=meta.annotations,
            labels=meta.labels,
            created_time=meta.created_time,
            updated_time=meta.updated_time,
        )


class Quota(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How many of something there may be, and are.

    Attributes:
        quota: None for no limit.
        used: Only answered, and only where it was counted.
    """

    quota: Count | None = None
    used: Count | None = None

    @classmethod
    def of(cls, quota: model.Quota | None) -> "Quota | None":
        """Answer a quota."""
        return None if quota is None else cls(quota=quota.max)

    def stored(self) -> model.Quota:
        """Keep the limit."""
        return model.Quota(max=self.quota)


class QuotaSet(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """Quotas by what they count."""

    cluster: Quota | None = None
    machine: Quota | None = None
    ip: Quota | None = None
    project: Quota | None = None

    @classmethod
    def of(cls, quotas: model.QuotaSet | None) -> "QuotaSet | None":
        """Answer quotas."""
        if quotas is None:
            return None
        return cls(
            cluster=Quota.of(quotas.cluster),
            machine=Quota.of(quotas.machine),
            ip=Quota.of(quotas.ip),
            project=Quota.of(quotas.project),
        )

    def stored(self) -> model.QuotaSet:
        """Keep the limits."""
        return model.QuotaSet(
            cluster=None if self.cluster is None else self.cluster.stored(),
            machine=None if self.machine is None else self.machine.stored(),
            ip=None if self.ip is None else self.ip.stored(),
            project=None if self.project is None else self.project.stored(),
        )


class PagingRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which page is wanted: pages count from 0 and have 100 entities unless `count` says else."""

    page: PageNumber | None = None
    count: PageNumber | None = None

    def stored(self) -> Paging:
        """Fill in what was left out."""
        return Paging(page=self.page or 0, count=self.count or PAGE_COUNT)


class IssuerConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Who issues the tokens of a tenant's users."""

    url: str | None = None
    client_id: str | None = None


class IDMConfig(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which identity management a tenant has; how it is reached is not told."""

    idm_type: str | None = None


class IAMConfig(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How a tenant's users are known."""

    issuer_config: IssuerConfig | None = None
    idm_config: IDMConfig | None = None

    @classmethod
    def of(cls, config: model.IAMConfig | None) -> "IAMConfig | None":
        """Answer a configuration without its secrets."""
        if config is None:
            return None
        issuer, idm = config.issuer_config, config.idm_config
        return cls(
            issuer_config=None
            if issuer is None
            else IssuerConfig(url=issuer.url, client_id=issuer.client_id),
            idm_config=None if idm is None else IDMConfig(idm_type=idm.idm_type),
        )

    def stored(self, old: model.IAMConfig | None) -> model.IAMConfig:
        """Keep what is said, and of the old configuration what cannot be said here."""
        issuer, idm = self.issuer_config, self.idm_config
        connector = None if old is None or old.idm_config is None else old.idm_config
        return model.IAMConfig(
            issuer_config=None
            if issuer is None
            else model.IssuerConfig(url=issuer.url or "", client_id=issuer.client_id or ""),
            idm_config=None
            if idm is None
            else model.IDMConfig(
                idm_type=idm.idm_type or "",
                connector_config=None if connector is None else connector.connector_config,
            ),
            group_config=None if old is None else old.group_config,
        )


class ProjectRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A project as a client wants it."""

    meta: MetaRequest | None = None
    name: str | None = None
    description: str | None = None
    tenant_id: str | None = None
    quotas: QuotaSet | None = None

    def stored(self) -> model.Project:
        """Fill in what was left out."""
        return model.Project(
            meta=model.Meta() if self.meta is None else self.meta.stored(),
            name=self.name or "",
            description=self.description or "",
            tenant_id=self.tenant_id or "",
            quotas=None if self.quotas is None else self.quotas.stored(),
        )


class ProjectCreateRequest(ProjectRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `createProject` takes."""


class ProjectUpdateRequest(ProjectRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `updateProject` takes."""


class ProjectFindRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a project must be; everything that is given must hold."""

    id: str | None = None
    name: str | None = None
    description: str | None = None
    tenant_id: str | None = None
    annotations: dict[str, str] | None = None
    labels: tuple[str, ...] | None = None
    paging: PagingRequest | None = None


class ProjectResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A project as it is answered."""

    meta: MetaResponse
    name: str
    description: str
    tenant_id: str
    quotas: QuotaSet | None = None

    @classmethod
    def of(cls, project: model.Project) -> "ProjectResponse":
        """Answer a project."""
        return cls(
            meta=MetaResponse.of(project.meta),
            name=project.name,
            description=project.description,
            tenant_id=project.tenant_id,
            quotas=QuotaSet.of(project.quotas),
        )


class TenantRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A tenant as a client wants it."""

    meta: MetaRequest | None = None
    name: str | None = None
    description: str | None = None
    default_quotas: QuotaSet | None = None
    quotas: QuotaSet | None = None
    iam_config: IAMConfig | None = None

    def stored(self, old: model.Tenant | None = None) -> model.Tenant:
        """Fill in what was left out, and from the old tenant what cannot be said here."""
        iam = None if old is None else old.iam_config
        return model.Tenant(
            meta=model.Meta() if self.meta is None else self.meta.stored(),
            name=self.name or "",
            description=self.description or "",
            default_quotas=None if self.default_quotas is None else self.default_quotas.stored(),
            quotas=None if self.quotas is None else self.quotas.stored(),
            iam_config=None if self.iam_config is None else self.iam_config.stored(iam),
        )


class TenantCreateRequest(TenantRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `createTenant` takes."""


class TenantUpdateRequest(TenantRequest, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `updateTenant` takes."""


class TenantFindRequest(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a tenant must be; everything that is given must hold."""

    id: str | None = None
    name: str | None = None
    annotations: dict[str, str] | None = None
    labels: tuple[str, ...] | None = None
    paging: PagingRequest | None = None


class TenantResponse(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A tenant as it is answered."""

    meta: MetaResponse
    name: str
    description: str
    default_quotas: QuotaSet | None = None
    quotas: QuotaSet | None = None
    iam_config: IAMConfig | None = None

    @classmethod
    def of(cls, tenant: model.Tenant) -> "TenantResponse":
        """Answer a tenant."""
        return cls(
            meta=MetaResponse.of(tenant.meta),
            name=tenant.name,
            description=tenant.description,
            default_quotas=QuotaSet.of(tenant.default_quotas),
            quotas=QuotaSet.of(tenant.quotas),
            iam_config=IAMConfig.of(tenant.iam_config),
        )
