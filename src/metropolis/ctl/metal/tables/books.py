# SPDX-License-Identifier: Apache-2.0
"""Tables of projects, tenants, tokens, audit traces, and of the state of the service. Pure."""

from collections.abc import Sequence

from metropolis.ctl.metal.cells import Json, Table, View, at, expiry, listed, moment, text


def projects(items: Sequence[Json], _view: View) -> Table:
    """Projects, one per line."""
    return Table(
        headers=("UID", "Tenant", "Name", "Description", "Labels", "Annotations"),
        rows=[
            (
                text(each, "meta.id"),
                text(each, "tenant_id"),
                text(each, "name"),
                text(each, "description"),
                listed(at(each, "meta.labels")),
                listed(at(each, "meta.annotations")),
            )
            for each in items
        ],
    )


def tenants(items: Sequence[Json], _view: View) -> Table:
    """Tenants, one per line."""
    return Table(
        headers=("ID", "Name", "Description"),
        rows=[
            (text(each, "meta.id"), text(each, "name"), text(each, "description")) for each in items
        ],
    )


def tokens(items: Sequence[Json], view: View) -> Table:
    """API tokens, without their secrets."""
    return Table(
        headers=("ID", "Description", "Owner", "Role", "Projects", "Operations", "Expires"),
        rows=[
            (
                text(each, "id"),
                text(each, "description"),
                text(each, "owner"),
                text(each, "role"),
                "all" if at(each, "projects") is None else listed(at(each, "projects")),
                "all" if at(each, "operations") is None else listed(at(each, "operations")),
                expiry(at(each, "expires"), view.now),
            )
            for each in items
        ],
    )


def traces(items: Sequence[Json], _view: View) -> Table:
    """Audit traces, oldest first."""
    return Table(
        headers=("Time", "Request ID", "Component", "Detail", "Path", "Code", "User"),
        rows=[
            (
                moment(at(each, "timestamp")),
                text(each, "rqid"),
                text(each, "component"),
                text(each, "detail"),
                text(each, "path"),
                text(each, "status_code") if at(each, "status_code") else "",
                text(each, "user"),
            )
            for each in items
        ],
    )


def services(items: Sequence[Json], _view: View) -> Table:
    """Parts of the control plane; items are of name, status and message."""
    return Table(
        headers=("Service", "Status", "Message"),
        rows=[(text(each, "name"), text(each, "status"), text(each, "message")) for each in items],
    )


def caller(items: Sequence[Json], _view: View) -> Table:
    """Who calls."""
    return Table(
        headers=("Name", "Email", "Tenant", "Issuer", "Groups"),
        rows=[
            (
                text(each, "Name"),
                text(each, "EMail"),
                text(each, "Tenant"),
                text(each, "Issuer"),
                listed(at(each, "Groups")),
            )
            for each in items
        ],
    )


def vpn_key(items: Sequence[Json], _view: View) -> Table:
    """What a machine joins a VPN with."""
    return Table(
        headers=("Address", "Auth Key"),
        rows=[(text(each, "address"), text(each, "auth_key")) for each in items],
    )
