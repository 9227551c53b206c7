# SPDX-License-Identifier: Apache-2.0
"""Who there is: tenants, their projects, who is a member of what, and what they may use.

    model      what is stored, with meta data and a version in each
    entities   create, change, delete any of them: versions, history, in one transaction
    tenants    tenants                         projects   projects, quotas
    members    memberships in both             history    what an entity was at a moment
    findings   filters and pages               participations   who takes part in what
    server     the same as a gRPC service, usable without the rest

Every change is kept in the history, in the same transaction. A change names the version it was
made from; when another came before it, it is refused. The tenant of a project and the two ends of
a membership never change. Memberships go with what they are memberships of.
"""
