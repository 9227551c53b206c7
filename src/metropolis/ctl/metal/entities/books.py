# SPDX-License-Identifier: Apache-2.0
"""Projects, tenants and API tokens."""

from typing import Final

from metropolis.ctl.metal.entity import Entity
from metropolis.ctl.metal.flags import (
    number_flag,
    pairs_flag,
    text_flag,
    texts_flag,
)
from metropolis.ctl.metal.tables import books

_ROLES: Final = ("view", "edit", "admin")
_FIELDS: Final = frozenset({"name", "description", "meta", "quotas"})
_QUOTA_FLAGS: Final = (
    number_flag("cluster-quota", "Most clusters.", "quotas.cluster.quota"),
    number_flag("ip-quota", "Most addresses.", "quotas.ip.quota"),
    number_flag("machine-quota", "Most machines.", "quotas.machine.quota"),
)
_SORT: Final = {"id": "meta.id", "name": "name", "description": "description"}

PROJECT: Final = Entity(
    words="project",
    noun="project",
    tabulate=books.projects,
    find="/v1/project/find",
    list_flags=(
        text_flag("id", "Id of the project.", "id", completes="project"),
        text_flag("name", "Name.", "name"),
        text_flag("tenant", "Of a tenant.", "tenant_id", completes="tenant"),
    ),
    create_flags=(
        pairs_flag("annotation", "Annotations.", "meta.annotations"),
        text_flag("description", "Description.", "description"),
        texts_flag("label", "Labels.", "meta.labels"),
        text_flag("name", "Name.", "name", is_required=True),
        text_flag("tenant", "Whose it is.", "tenant_id", completes="tenant", is_required=True),
        *_QUOTA_FLAGS,
    ),
    create_fields=_FIELDS | {"tenant_id"},
    update_fields=_FIELDS,
    sort_keys={**_SORT, "tenant": "tenant_id"},
)

TENANT: Final = Entity(
    words="tenant",
    noun="tenant",
    tabulate=books.tenants,
    find="/v1/tenant/find",
    list_flags=(
        pairs_flag("annotations", "With all of these annotations.", "annotations"),
        text_flag("id", "Id of the tenant.", "id", completes="tenant"),
        text_flag("name", "Name.", "name"),
    ),
    create_flags=(
        pairs_flag("annotations", "Annotations.", "meta.annotations"),
        text_flag("description", "Description.", "description"),
        text_flag("id", "Id; one is made when none is given.", "meta.id"),
        texts_flag("labels", "Labels.", "meta.labels"),
        text_flag("name", "Name.", "name", is_required=True),
        *_QUOTA_FLAGS,
    ),
    create_fields=_FIELDS | {"default_quotas", "iam_config"},
    update_fields=_FIELDS | {"default_quotas", "iam_config"},
    sort_keys=_SORT,
)

TOKEN: Final = Entity(
    words="token",
    noun="token",
    tabulate=books.tokens,
    create_flags=(
        text_flag("description", "What it is for.", "description"),
        text_flag("role", "View, edit or admin.", "role", choices=_ROLES, is_required=True),
        texts_flag("projects", "Confine it to these.", "projects", completes="project"),
        texts_flag("operations", "Ids of the only operations that it may call.", "operations"),
    ),
    create_fields=frozenset({"description", "role", "projects", "operations", "expiration_s"}),
    sort_keys={
        "id": "id",
        "description": "description",
        "owner": "owner",
        "expires": "expires",
    },
)
