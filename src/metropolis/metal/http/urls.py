# SPDX-License-Identifier: Apache-2.0
"""Whether what a URL points to is there, before it is stored."""

from http import HTTPStatus

from metropolis.base.errors import InvalidArgumentError, UnavailableError
from metropolis.metal.site import Site
from metropolis.metal.web import check_url


async def check_urls(site: Site, urls: dict[str, str | None]) -> None:
    """Judge URLs by field; what is empty is not judged.

    Where the site is told not to ask (`check_urls`), only how they are written is judged.

    Raises:
        InvalidArgumentError: one is not well-formed, or no server has what it points to.
    """
    for field, url in urls.items():
        if not url:
            continue
        try:
            check_url(url)
            status = await site.web.head(url) if site.settings.check_urls else HTTPStatus.OK
        except (InvalidArgumentError, UnavailableError) as cause:
            raise InvalidArgumentError(f"{field}: {cause}", remedy=cause.remedy) from cause
        if status >= HTTPStatus.BAD_REQUEST:
            raise InvalidArgumentError(
                f"{field}: {url[:200]} is not there: its server answers {status} to HEAD",
                remedy="Upload the file first, or correct the URL.",
            )
