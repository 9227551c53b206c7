# SPDX-License-Identifier: Apache-2.0
"""From the flags of a run to a client of the API."""

import os
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from metropolis.base.errors import FailedPreconditionError, InvalidArgumentError
from metropolis.ctl import files
from metropolis.ctl.metal.client import DEFAULT_TIMEOUT_S, Access, Client
from metropolis.ctl.metal.configuration import MetalContext, context_of
from metropolis.ctl.metal.settings import PREFIX, MetalSettings
from metropolis.ctl.metal.token_store import read_token
from metropolis.ctl.suggestions import did_you_mean

HMAC_TYPES: Final = ("Metal-View", "Metal-Edit", "Metal-Admin")


@contextmanager
def opened(settings: MetalSettings, *, is_anonymous: bool = False) -> Generator[Client, None, None]:
    """Yield a client of the API that flags, environment and context name.

    Raises:
        MetropolisError: nothing says where the API is, or what says it is damaged.
    """
    access = access_of(settings, is_anonymous=is_anonymous)
    with Client(access, trace=_trace if settings.debug else lambda _line: None) as client:
        yield client


def access_of(settings: MetalSettings, *, is_anonymous: bool = False) -> Access:
    """Return where the API is and who calls.

    Args:
        is_anonymous: Show no key or token, for what is open to everybody.

    Raises:
        MetropolisError: nothing says where the API is, or what says it is damaged.
    """
    context = context_of(settings)
    url = settings.api_url or os.environ.get(f"{PREFIX}API_URL") or context.url
    if not url:
        raise FailedPreconditionError(
            "nothing says where the Metal API is",
            remedy="Give --api-url, METALCTL_API_URL, or write ~/.metalctl/config.yaml "
            "(`metalctl context --help` shows how).",
        )
    timeout_s = settings.timeout_s or DEFAULT_TIMEOUT_S
    if is_anonymous:
        return Access(url=url, authority=context.authority, timeout_s=timeout_s)
    token, key = _credentials(settings, context)
    return Access(
        url=url,
        token=token,
        hmac_key=key,
        hmac_type=_hmac_type(settings, context),
        authority=context.authority,
        timeout_s=timeout_s,
    )


def _credentials(settings: MetalSettings, context: MetalContext) -> tuple[str, str]:
    """Return token and key; one of them at most is not empty."""
    if settings.api_token:
        return settings.api_token, ""
    if settings.hmac_file is not None:
        return "", _key_in(settings.hmac_file)
    if token := os.environ.get(f"{PREFIX}API_TOKEN"):
        return token, ""
    if key := os.environ.get(f"{PREFIX}HMAC"):
        return "", key.strip()
    if path := os.environ.get(f"{PREFIX}HMAC_FILE"):
        return "", _key_in(path)
    if token := read_token(settings, context):
        return token, ""
    return "", context.hmac.strip()


def _key_in(path: os.PathLike[str] | str) -> str:
    key = (files.read(Path(path)) or "").strip()
    if not key:
        raise InvalidArgumentError(
            f"there is no key in {os.fspath(path)}", remedy="Correct --hmac-file."
        )
    return key


def _hmac_type(settings: MetalSettings, context: MetalContext) -> str:
    given = (
        settings.hmac_type
        or os.environ.get(f"{PREFIX}HMAC_AUTH_TYPE")
        or context.hmac_auth_type
        or HMAC_TYPES[-1]
    )
    if given not in HMAC_TYPES:
        raise InvalidArgumentError(
            f"{given[:64]!r} is nobody who has a key",
            remedy=did_you_mean(given, HMAC_TYPES) or f"Choose from {', '.join(HMAC_TYPES)}.",
        )
    return given


def _trace(line: str) -> None:
    print(f"debug: {line}", file=sys.stderr, flush=True)
