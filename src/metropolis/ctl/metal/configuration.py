# SPDX-License-Identifier: Apache-2.0
"""Contexts of `~/.metalctl/config.yaml`, and what flags and environment say beside them.

    current: prod
    previous: lab
    contexts:
      prod:
        url: https://api.example.org/metal
        issuer_url: https://dex.example.org       # or hmac, hmac_auth_type
        issuer_type: generic
        client_id: metal_client
        client_secret: …
        certificate_authority_data: …             # PEM, or that in base64

A flag goes before the environment, that before the context. Who is named there, calls: a key or
token of the environment replaces all that the context has. A `config.yaml` of the directory that
one happens to be in is not read: it may be anybody's, and it would say where keys are sent.
"""

import base64
import binascii
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import yaml

from metropolis.base.errors import DataLossError, InvalidArgumentError, NotFoundError
from metropolis.ctl import files
from metropolis.ctl.metal.settings import PREFIX, MetalSettings
from metropolis.ctl.suggestions import did_you_mean

SYSTEM: Final = Path("/etc/metalctl/config.yaml")
_SECRETS: Final = ("hmac", "client_secret")


@dataclass(frozen=True, slots=True, kw_only=True)
class MetalContext:
    """One API as this operator sees it; every field is as in the file.

    Attributes:
        hmac: A shared key; empty: people log in, or a token is given.
        authority: PEM certificates to trust.
    """

    name: str = ""
    url: str = ""
    issuer_url: str = ""
    issuer_type: str = "generic"
    client_id: str = ""
    client_secret: str = field(default="", repr=False)
    custom_scopes: str = ""
    hmac: str = field(default="", repr=False)
    hmac_auth_type: str = ""
    authority: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contexts:
    """A configuration file."""

    path: Path
    current: str = ""
    previous: str = ""
    contexts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])

    def get(self, name: str) -> MetalContext:
        """Return a context.

        Raises:
            NotFoundError: there is none of that name; the remedy names the nearest.
        """
        if name not in self.contexts:
            raise NotFoundError(
                f"there is no context {name[:64]!r} in {self.path}",
                remedy=did_you_mean(name, self.contexts) or "See `metalctl context`.",
            )
        given = dict(self.contexts[name])
        authority = _pem(str(given.pop("certificate_authority_data", "") or ""), name)
        known = {each for each in MetalContext.__dataclass_fields__ if each != "name"}
        texts = {key: str(value) for key, value in given.items() if key in known and value}
        return MetalContext(name=name, **{**texts, "authority": authority})


def home_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Return where a person's configuration and tokens are."""
    environment = os.environ if environment is None else environment
    return Path(environment.get("HOME") or "/") / ".metalctl"


def read_contexts(settings: MetalSettings) -> Contexts:
    """Read the configuration; without a file there are no contexts.

    Raises:
        NotFoundError: the file that was named does not exist.
        DataLossError: it is damaged.
    """
    given = settings.config or _path(os.environ.get(f"{PREFIX}CONFIG"))
    own = home_directory() / "config.yaml"
    for path in (given,) if given else (own, SYSTEM):
        text = files.read(path)
        if text is not None:
            return _parsed(path, text)
    if given:
        raise NotFoundError(f"there is no file {given}", remedy="Correct --config.")
    return Contexts(path=own)


def write_contexts(contexts: Contexts) -> None:
    """Keep a configuration, readable by nobody else.

    Raises:
        FailedPreconditionError: it cannot be written.
    """
    files.make_directory(contexts.path.parent)
    document = {
        "current": contexts.current,
        "previous": contexts.previous,
        "contexts": {name: dict(each) for name, each in contexts.contexts.items()},
    }
    files.replace(contexts.path, yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def context_of(settings: MetalSettings) -> MetalContext:
    """Return the context of a run; an empty one when none is chosen.

    Raises:
        NotFoundError: the one that was named, or is current, does not exist.
    """
    contexts = read_contexts(settings)
    name = settings.context or os.environ.get(f"{PREFIX}CONTEXT") or contexts.current
    return contexts.get(name) if name else MetalContext()


def shown(context: Mapping[str, Any]) -> dict[str, Any]:
    """Return a context as it may be printed: without its secrets."""
    return {key: "…" if key in _SECRETS and value else value for key, value in context.items()}


def _parsed(path: Path, text: str) -> Contexts:
    damaged = DataLossError(
        f"{path} is damaged", remedy="Correct it: `current: NAME`, `contexts: {NAME: {url: …}}`."
    )
    try:
        document: object = yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError):
        raise damaged from None
    if document is None:
        return Contexts(path=path)
    if not isinstance(document, dict):
        raise damaged
    fields = cast("dict[str, object]", document)
    listed = fields.get("contexts")
    if listed is not None and not isinstance(listed, dict):
        raise damaged
    contexts = cast("dict[str, object]", listed or {})
    if not all(isinstance(each, dict) for each in contexts.values()):
        raise damaged
    return Contexts(
        path=path,
        current=str(fields.get("current") or ""),
        previous=str(fields.get("previous") or ""),
        contexts=cast("dict[str, dict[str, Any]]", contexts),
    )


def _pem(text: str, name: str) -> str:
    if not text or "-----BEGIN" in text:
        return text
    try:
        return base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidArgumentError(
            f"certificate_authority_data of context {name} is neither PEM nor base64 of it",
            remedy="Put the PEM certificates there.",
        ) from None


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
