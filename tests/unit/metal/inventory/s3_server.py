# SPDX-License-Identifier: Apache-2.0
"""A real S3-compatible server on a port of this host, for as long as a context is open."""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count

import boto3
from moto.server import ThreadedMotoServer

from metropolis.metal.s3 import S3Settings

# All servers of a process have the same memory: each gets a bucket that nobody else has.
_NUMBERS = count(1)


@contextmanager
def s3_server() -> Iterator[S3Settings]:
    """Start an empty server with one bucket; yield how it is used."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    bucket = f"metal-{next(_NUMBERS)}"
    try:
        host, tcp_port = server.get_host_and_port()
        settings = S3Settings(
            endpoint=f"http://{host}:{tcp_port}",
            bucket=bucket,
            access_key="test-access",
            secret_key="test-secret",
        )
        client = boto3.client(
            "s3",
            endpoint_url=settings.endpoint,
            aws_access_key_id=settings.access_key,
            aws_secret_access_key=settings.secret_key,
            region_name=settings.region,
        )
        client.create_bucket(Bucket=bucket)
        yield settings
    finally:
        server.stop()
