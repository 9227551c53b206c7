# SPDX-License-Identifier: Apache-2.0
"""Objects in an S3-compatible store.

The client is a synchronous library that is imported when the first store is used; its calls run on
threads. Contents pass through in parts, never as a whole.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, BinaryIO, Final, TypeVar, cast

from metropolis.base.errors import FailedPreconditionError, NotFoundError, UnavailableError

if TYPE_CHECKING:
    from types_boto3_s3.client import S3Client

CONNECT_TIMEOUT_S: Final = 5
READ_TIMEOUT_S: Final = 30
ATTEMPTS: Final = 3
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_REFUSED: Final = frozenset(
    {"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "NoSuchBucket"}
)

ResultT = TypeVar("ResultT")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Where a store is, and with which key it is used.

    Attributes:
        endpoint: URL of the store; also what clients of presigned URLs reach it by.
    """

    endpoint: str
    bucket: str
    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    region: str = "us-east-1"


class S3Store:
    """One bucket."""

    def __init__(self, settings: S3Settings) -> None:
        self._settings = settings

    async def put(self, key: str, content: BinaryIO) -> None:
        """Write an object from a file, from where that stands, replacing what was there.

        Raises:
            UnavailableError: the store does not answer.
            FailedPreconditionError: it does not let us.
        """
        bucket = self._settings.bucket
        await self._run(lambda client: client.upload_fileobj(content, bucket, key))

    async def get(self, key: str, into: BinaryIO) -> None:
        """Read an object into a file.

        Raises:
            NotFoundError: there is none.
            UnavailableError: the store does not answer.
            FailedPreconditionError: it does not let us.
        """
        bucket = self._settings.bucket
        await self._run(lambda client: client.download_fileobj(bucket, key, into))

    async def exists(self, key: str) -> bool:
        """Tell whether there is an object.

        Raises:
            UnavailableError: the store does not answer.
            FailedPreconditionError: it does not let us.
        """
        bucket = self._settings.bucket
        try:
            await self._run(lambda client: client.head_object(Bucket=bucket, Key=key))
        except NotFoundError:
            return False
        return True

    async def keys(self, prefix: str = "") -> list[str]:
        """Return the keys of all objects below a prefix, sorted.

        Raises:
            UnavailableError: the store does not answer.
            FailedPreconditionError: it does not let us.
        """
        bucket = self._settings.bucket

        def collect(client: "S3Client") -> list[str]:
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            return [
                each["Key"] for page in pages for each in page.get("Contents", ()) if "Key" in each
            ]

        return sorted(await self._run(collect))

    async def remove(self, key: str) -> None:
        """Remove an object; one that is not there is removed already.

        Raises:
            UnavailableError: the store does not answer.
            FailedPreconditionError: it does not let us.
        """
        bucket = self._settings.bucket
        await self._run(lambda client: client.delete_object(Bucket=bucket, Key=key))

    async def presign(self, key: str, *, valid_s: int) -> str:
        """Return a URL by which anybody can read an object for a while."""
        parameters = {"Bucket": self._settings.bucket, "Key": key}
        return await self._run(
            lambda client: client.generate_presigned_url(
                "get_object", Params=parameters, ExpiresIn=valid_s
            )
        )

    async def _run(self, work: "Callable[[S3Client], ResultT]") -> ResultT:
        """Do something with the store on a thread, and say what went wrong in our words."""
        return await asyncio.to_thread(self._guarded, work)

    def _guarded(self, work: "Callable[[S3Client], ResultT]") -> ResultT:
        from boto3.exceptions import Boto3Error  # noqa: PLC0415  # slow to import, rarely wanted
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415  # as heavy as boto3

        settings = self._settings
        where = f"bucket {settings.bucket} at {settings.endpoint}"
        try:
            return work(_client(settings))
        except ClientError as cause:
            code = str(cause.response.get("Error", {}).get("Code", ""))
            if code in _MISSING:
                raise NotFoundError(
                    f"there is no such object in {where}", remedy="List what there is."
                ) from cause
            if code in _REFUSED:
                raise FailedPreconditionError(
                    f"{where} refuses us: {code}",
                    remedy="Check the bucket's name, and the access key and its permissions.",
                ) from cause
            raise _unavailable(where, code) from cause
        except (BotoCoreError, Boto3Error) as cause:
            raise _unavailable(where, type(cause).__name__) from cause


def _unavailable(where: str, why: str) -> UnavailableError:
    return UnavailableError(
        f"{where} cannot be used: {why}",
        remedy="Check the endpoint, and that this host can reach it.",
    )


@lru_cache(maxsize=8)
def _client(settings: S3Settings) -> "S3Client":
    """Return a client, which may be used by many threads at once."""
    import boto3  # noqa: PLC0415  # slow to import, rarely wanted
    from botocore.config import Config  # noqa: PLC0415  # as heavy as boto3

    session = boto3.session.Session(
        aws_access_key_id=settings.access_key,
        aws_secret_access_key=settings.secret_key,
        region_name=settings.region,
    )
    # The stubs know hundreds of services, of which one is installed: the type is said here.
    make = cast("Callable[..., S3Client]", session.client)  # pyright: ignore[reportUnknownMemberType]
    return make(
        "s3",
        endpoint_url=settings.endpoint,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=CONNECT_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"max_attempts": ATTEMPTS, "mode": "standard"},
        ),
    )
