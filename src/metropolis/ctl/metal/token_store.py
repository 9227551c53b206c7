# SPDX-License-Identifier: Apache-2.0
"""Where the token of a login is: beside the configuration, or in a kubeconfig if one is named.

~/.metalctl/tokens/CONTEXT.yaml   0600, id_token
KUBECONFIG                        users[name=CONTEXT].user.auth-provider.config.id-token
"""

import os
import re
from pathlib import Path
from typing import Any, Final, cast

import yaml

from metropolis.base.errors import DataLossError
from metropolis.ctl import files
from metropolis.ctl.metal.cells import text
from metropolis.ctl.metal.configuration import MetalContext, home_directory
from metropolis.ctl.metal.settings import PREFIX, MetalSettings

_PLAIN: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")


def read_token(settings: MetalSettings, context: MetalContext) -> str:
    """Return the token of the last login with a context; empty when there is none.

    Raises:
        DataLossError: the file is damaged.
    """
    kubeconfig = _kubeconfig(settings)
    if kubeconfig is None:
        return str(_document(_own_path(context)).get("id_token") or "")
    for user in _users(_document(kubeconfig)):
        if user.get("name") == _user_name(context):
            return text(user, "user.auth-provider.config.id-token")
    return ""


def keep_token(settings: MetalSettings, context: MetalContext, token: str) -> Path:
    """Keep a token, or forget it when it is empty; return where.

    Raises:
        FailedPreconditionError: it cannot be written.
    """
    kubeconfig = _kubeconfig(settings)
    if kubeconfig is None:
        path = _own_path(context)
        if token:
            files.make_directory(path.parent)
            files.replace(path, yaml.safe_dump({"id_token": token}))
        else:
            files.remove(path)
        return path
    document = _document(kubeconfig)
    name = _user_name(context)
    users = [user for user in _users(document) if user.get("name") != name]
    if token:
        config = {
            "idp-issuer-url": context.issuer_url,
            "client-id": context.client_id,
            "id-token": token,
        }
        provider = {"name": "oidc", "config": config}
        users.append({"name": name, "user": {"auth-provider": provider}})
    new = {"apiVersion": "v1", "kind": "Config", **document, "users": users}
    files.make_directory(kubeconfig.parent)
    files.replace(kubeconfig, yaml.safe_dump(new, sort_keys=False))
    return kubeconfig


def _kubeconfig(settings: MetalSettings) -> Path | None:
    """Only one that was named to us: whoever has KUBECONFIG set means clusters by it."""
    given = os.environ.get(f"{PREFIX}KUBECONFIG")
    return settings.kubeconfig or (Path(given) if given else None)


def _own_path(context: MetalContext) -> Path:
    name = context.name if _PLAIN.fullmatch(context.name) else context.name.encode().hex()
    return home_directory() / "tokens" / f"{name or 'default'}.yaml"


def _user_name(context: MetalContext) -> str:
    return f"metalctl-{context.name or 'default'}"


def _document(path: Path) -> dict[str, Any]:
    content = files.read(path)
    try:
        document: object = yaml.safe_load(content) if content else {}
    except (yaml.YAMLError, RecursionError):
        document = None
    if not isinstance(document, dict):
        raise DataLossError(f"{path} is damaged", remedy="Move it away, then log in again.")
    return cast("dict[str, Any]", document)


def _users(document: dict[str, Any]) -> list[dict[str, Any]]:
    listed: object = document.get("users") or []
    entries = cast("list[object]", listed) if isinstance(listed, list) else []
    return [cast("dict[str, Any]", each) for each in entries if isinstance(each, dict)]
