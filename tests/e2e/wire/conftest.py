# SPDX-License-Identifier: Apache-2.0
"""One real node that founded a cluster, untouched by our own client programs."""

from collections.abc import Iterator

import pytest

from e2e.wire.go_client import GoClient
from e2e.wire.site import Site, founded_site


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A cluster of one node, shared by all tests of a process; each minds what it changes."""
    with founded_site(tmp_path_factory.mktemp("wire")) as made:
        yield made


@pytest.fixture
def owner(site: Site) -> Iterator[GoClient]:
    """The owner, connected to the control plane."""
    with site.as_owner() as client:
        yield client
