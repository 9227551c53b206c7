# SPDX-License-Identifier: Apache-2.0
"""A context for kubectl in the operator's kubeconfig. Other contexts in it are left alone.

kubectl gets the owner's certificate from `metroctl k8scredplugin`, so no key is copied.
"""

import base64
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import yaml

from metropolis.base.errors import DataLossError
from metropolis.base.ports import KUBERNETES_API_WRAPPED_TCP_PORT
from metropolis.ctl import files
from metropolis.ctl.connection import endpoints_of
from metropolis.ctl.contexts import Context
from metropolis.pki import certificates
from metropolis.rpc.transport import Endpoint

FLAT_NAME: Final = "metroctl"  # of the kubectl context, when ours has no name


def install(
    context: Context,
    *,
    server_name: str,
    ca: bytes,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Write or update a kubectl context; return its name. It becomes current only if none is.

    Args:
        context: Its first endpoint is what kubectl dials.
        server_name: DNS name in the certificate of that endpoint.
        ca: DER of the cluster's CA.

    Raises:
        DataLossError: the present kubeconfig is damaged; it is left as it is.
    """
    environment = os.environ if environment is None else environment
    path = _path(environment)
    document = _read(path)
    name = context.name or FLAT_NAME
    host = endpoints_of(context)[0].host
    cluster: dict[str, Any] = {
        "server": f"https://{Endpoint(host, KUBERNETES_API_WRAPPED_TCP_PORT)}",
        "certificate-authority-data": _base64(certificates.to_pem(ca)),
        "tls-server-name": server_name,
    }
    if context.proxy:
        cluster["proxy-url"] = f"socks5://{context.proxy}"
    _put(document, "clusters", name, "cluster", cluster)
    _put(document, "users", name, "user", {"exec": _plugin(context)})
    use = {"cluster": name, "user": name, "namespace": "default"}
    _put(document, "contexts", name, "context", use)
    document["current-context"] = document.get("current-context") or name
    files.make_directory(path.parent)
    files.replace(path, yaml.safe_dump(document, sort_keys=False))
    return name


def _plugin(context: Context) -> dict[str, Any]:
    program = "metroctl" if shutil.which("metroctl") else str(Path(sys.argv[0]).absolute())
    which = ["--context", context.name] if context.name else ["--config", str(context.directory)]
    return {
        "apiVersion": "client.authentication.k8s.io/v1",
        "command": program,
        "args": ["k8scredplugin", *which],
        "interactiveMode": "Never",
    }


def _path(environment: Mapping[str, str]) -> Path:
    first = environment.get("KUBECONFIG", "").split(os.pathsep)[0]
    path = Path(first) if first else Path(environment.get("HOME", "/")) / ".kube" / "config"
    return path.resolve()  # a link stays a link


def _read(path: Path) -> dict[str, Any]:
    try:
        loaded: object = yaml.safe_load(files.read(path) or "")
    except (yaml.YAMLError, RecursionError):
        loaded = ""
    if loaded is None:
        loaded = {"apiVersion": "v1", "kind": "Config"}
    document = cast("dict[str, Any]", loaded) if isinstance(loaded, dict) else None
    lists = ("clusters", "users", "contexts")
    if document is None or not all(isinstance(document.get(key) or [], list) for key in lists):
        raise DataLossError(
            f"{path} is not a kubeconfig", remedy="Correct or move it away, then try again."
        )
    return document


def _put(document: dict[str, Any], kind: str, name: str, key: str, value: dict[str, Any]) -> None:
    entries: list[object] = [
        entry
        for entry in cast("list[object]", document.get(kind) or [])
        if not (isinstance(entry, dict) and cast("dict[str, object]", entry).get("name") == name)
    ]
    document[kind] = [*entries, {"name": name, key: value}]


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("ascii")).decode("ascii")
