# SPDX-License-Identifier: Apache-2.0
"""Contexts: which cluster to talk to, how to reach it, and where its keys are.

    $XDG_CONFIG_HOME/metroctl/
      current-context                the name of the context that is used when none is named
      contexts/NAME/context.yaml     endpoints, proxy, cluster
      contexts/NAME/owner-key.pem    0600, the owner's private key
      contexts/NAME/owner.pem        the owner's certificate, once ownership was taken
      contexts/NAME/user-key.pem     0600, the key of another user
      contexts/NAME/user.pem         that user's certificate, once logged in
      contexts/NAME/ca.pem           the cluster's CA, once it was trusted

`--config DIR` names a directory with the three PEM files right in it, the flat layout of other
`metroctl` programs; it has no name and no stored endpoints.
"""

import os
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, cast

import yaml

from metropolis.base.errors import (
    DataLossError,
    FailedPreconditionError,
    InvalidArgumentError,
    NotFoundError,
)
from metropolis.ctl import files
from metropolis.ctl.suggestions import did_you_mean

_NAME: Final = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_SETTINGS: Final = "context.yaml"
_CURRENT: Final = "current-context"


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One cluster as this operator sees it.

    Attributes:
        name: Empty for a flat directory.
        directory: Holds the PEM files.
        endpoints: Hosts (addresses or names) of nodes, without port; any one will do.
        proxy: `host:port` of a SOCKS5 proxy, None to dial directly.
        cluster_domain: For people; empty when not known.
    """

    name: str
    directory: Path
    endpoints: tuple[str, ...] = ()
    proxy: str | None = None
    cluster_domain: str = ""

    @property
    def owner_key_path(self) -> Path:
        """The owner's private key."""
        return self.directory / "owner-key.pem"

    @property
    def owner_certificate_path(self) -> Path:
        """The owner's certificate; exists once ownership was taken."""
        return self.directory / "owner.pem"

    @property
    def user_key_path(self) -> Path:
        """The private key of a user who is not the owner."""
        return self.directory / "user-key.pem"

    @property
    def user_certificate_path(self) -> Path:
        """That user's certificate; exists once somebody logged in."""
        return self.directory / "user.pem"

    @property
    def ca_path(self) -> Path:
        """The cluster's CA; exists once somebody trusted it."""
        return self.directory / "ca.pem"

    @property
    def is_owner(self) -> bool:
        """Whether ownership was taken."""
        return self.owner_certificate_path.exists()

    @property
    def is_user(self) -> bool:
        """Whether somebody logged in who is not the owner."""
        return self.user_certificate_path.exists()


def default_root(environment: Mapping[str, str] | None = None) -> Path:
    """Return `$XDG_CONFIG_HOME/metroctl`, or its default below the home directory.

    Raises:
        FailedPreconditionError: neither XDG_CONFIG_HOME nor HOME is set.
    """
    environment = os.environ if environment is None else environment
    base = environment.get("XDG_CONFIG_HOME", "")
    if Path(base).is_absolute():  # the specification says to ignore a relative one
        return Path(base) / "metroctl"
    if home := environment.get("HOME"):
        return Path(home) / ".config" / "metroctl"
    raise FailedPreconditionError(
        "neither XDG_CONFIG_HOME nor HOME is set, so there is no place for keys",
        remedy="Set HOME, or name a directory with --config.",
    )


def names(root: Path) -> Sequence[str]:
    """Names of all contexts, sorted."""
    try:
        entries = sorted((root / "contexts").iterdir())
    except OSError:
        return ()
    return [each.name for each in entries if each.is_dir() and _NAME.fullmatch(each.name)]


def current_name(root: Path) -> str | None:
    """Name of the context that `select` chose; None when there is none."""
    name = (files.read(root / _CURRENT) or "").strip()
    return name if _NAME.fullmatch(name) else None


def create(
    root: Path,
    name: str,
    *,
    endpoints: Sequence[str] = (),
    proxy: str | None = None,
    cluster_domain: str = "",
) -> Context:
    """Create a context, or change how an existing one is reached. Keys are never touched.

    Raises:
        InvalidArgumentError: no name for a context.
        FailedPreconditionError: the directory cannot be written.
    """
    context = Context(
        name=name,
        directory=_directory(root, name),
        endpoints=tuple(endpoints),
        proxy=proxy,
        cluster_domain=cluster_domain,
    )
    files.make_directory(context.directory)
    document = {"endpoints": list(endpoints), "proxy": proxy, "cluster": cluster_domain or None}
    files.replace(context.directory / _SETTINGS, yaml.safe_dump(document, sort_keys=False))
    return context


def learn(root: Path, context: Context) -> bool:
    """Keep how the cluster of a named context was reached, besides the ways that it knew.

    Returns:
        Whether there are more endpoints now.

    Raises:
        NotFoundError: there is no such context.
    """
    known = load(root, context.name)
    endpoints = tuple(dict.fromkeys((*known.endpoints, *context.endpoints)))
    if known != replace(context, endpoints=endpoints):
        create(
            root,
            context.name,
            endpoints=endpoints,
            proxy=context.proxy,
            cluster_domain=context.cluster_domain,
        )
    return endpoints != known.endpoints


def rename_cluster(root: Path, name: str, cluster_domain: str) -> None:
    """Write down which cluster a context leads to.

    Raises:
        NotFoundError: there is no such context.
    """
    known = load(root, name)
    create(
        root,
        name,
        endpoints=known.endpoints,
        proxy=known.proxy,
        cluster_domain=cluster_domain,
    )


def load(root: Path, name: str) -> Context:
    """Read a context.

    Raises:
        NotFoundError: there is none of that name; the remedy names the nearest.
        DataLossError: its settings are damaged.
    """
    directory = _directory(root, name)
    if not directory.is_dir():
        known = names(root)
        raise NotFoundError(
            f"there is no context named {name!r}",
            remedy=did_you_mean(name, known) or "List them with `metroctl context list`.",
        )
    return _read(name, directory)


def flat(directory: Path) -> Context:
    """Return the context of a flat directory, which need not exist yet."""
    return Context(name="", directory=directory)


def select(root: Path, name: str) -> Context:
    """Make a context the one that is used when none is named.

    Raises:
        NotFoundError: there is none of that name.
    """
    context = load(root, name)
    files.replace(root / _CURRENT, f"{name}\n", mode=files.PUBLIC)
    return context


def remove(root: Path, name: str) -> None:
    """Delete a context with its keys. Not there is fine. The current one is then none.

    Raises:
        InvalidArgumentError: no name for a context.
        FailedPreconditionError: it cannot be deleted.
    """
    directory = _directory(root, name)
    if current_name(root) == name:
        files.remove(root / _CURRENT)
    try:
        if directory.is_dir():
            shutil.rmtree(directory)
    except OSError as cause:
        raise FailedPreconditionError(
            f"cannot delete {directory}: {cause.strerror or cause}",
            remedy="Correct the permissions of that directory, then try again.",
        ) from cause


def check_name(name: str) -> str:
    """Return a context's name if it can be one.

    Raises:
        InvalidArgumentError: it cannot.
    """
    if _NAME.fullmatch(name) is None:
        raise InvalidArgumentError(
            f"{name[:64]!r} cannot be the name of a context",
            remedy="Use letters, digits, '.', '_' and '-', starting and ending alphanumeric.",
        )
    return name


def _directory(root: Path, name: str) -> Path:
    return root / "contexts" / check_name(name)


def _read(name: str, directory: Path) -> Context:
    path = directory / _SETTINGS
    damaged = DataLossError(
        f"{path} is damaged",
        remedy="Correct it: `endpoints: [HOST, …]`, `proxy: HOST:PORT`, `cluster: DOMAIN`.",
    )
    try:
        document: object = yaml.safe_load(files.read(path) or "")
    except (yaml.YAMLError, RecursionError):
        raise damaged from None
    document = {} if document is None else document
    if not isinstance(document, dict):
        raise damaged
    fields = cast("dict[object, object]", document)
    given: object = fields.get("endpoints") or cast("list[object]", [])
    if not isinstance(given, list):
        raise damaged
    listed = cast("list[object]", given)
    endpoints = [text for text in listed if isinstance(text, str)]
    wanted = (fields.get("proxy") or "", fields.get("cluster") or "")
    texts = [text for text in wanted if isinstance(text, str)]
    if len(endpoints) != len(listed) or len(texts) != len(wanted):
        raise damaged
    return Context(
        name=name,
        directory=directory,
        endpoints=tuple(endpoints),
        proxy=texts[0] or None,
        cluster_domain=texts[1],
    )
