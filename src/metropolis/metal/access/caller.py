# SPDX-License-Identifier: Apache-2.0
"""Who makes a call."""

from dataclasses import dataclass, field

from metropolis.base.errors import NotFoundError, PermissionDeniedError
from metropolis.metal.access.role import Role


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """An authenticated user, component or token; or the guest.

    Attributes:
        groups: As the identity provider named them, `maas-all-all-view` and the like included.
        role: The greatest that the groups, the key or the token give.
        tenant: Empty for the guest.
        projects: None when not confined; else the only projects that may be seen or changed.
        operations: None when not confined; else the only operations, by id, that may be called.
        token_id: Of the API token that was shown; empty when there was none.
    """

    email: str
    name: str
    tenant: str = ""
    issuer: str = ""
    subject: str = ""
    groups: tuple[str, ...] = ()
    role: Role = Role.NONE
    projects: frozenset[str] | None = field(default=None)
    operations: frozenset[str] | None = field(default=None)
    token_id: str = ""

    def sees(self, project_id: str) -> bool:
        """Whether what belongs to that project may be shown to this caller or changed by it."""
        return self.projects is None or project_id in self.projects

    @property
    def sees_secrets(self) -> bool:
        """Whether this caller may read credentials of BMCs and the like: viewers may not."""
        return self.role >= Role.EDIT

    def check_project(self, project_id: str) -> None:
        """Refuse a project that this caller may not act in.

        Raises:
            PermissionDeniedError: the caller is confined to other projects.
        """
        if not self.sees(project_id):
            raise PermissionDeniedError(
                f"you may not act in project {project_id!r}",
                remedy="Use a token whose projects include it.",
            )

    def check_sight(self, project_id: str, what: str) -> None:
        """Refuse an entity of another project as if it were not there.

        Raises:
            NotFoundError: the caller is confined to other projects.
        """
        if not self.sees(project_id):
            raise NotFoundError(f"no {what} found", remedy="List those that you can see.")


GUEST = Caller(email="anonymous@metal-stack.io", name="anonymous")
